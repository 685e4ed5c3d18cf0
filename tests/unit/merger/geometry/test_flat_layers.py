"""Families whose layers see all tokens of a batch one behind the other: one clear line, wherever rows are needed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry import progressive, start
from alignmerge.merger.geometry.gradients import answer_factors, merged_linears
from alignmerge.merger.geometry.grams import input_grams
from alignmerge.merger.geometry.merit import Weights
from alignmerge.merger.geometry.rows import Calibration, Row, collate

ROWS = [Row((1, 2, 3), (4, 5), source, 0.0) for source in ("alignment", "arithmetic") for _ in range(3)]


def mixture_of_experts() -> Any:
    torch.manual_seed(0)
    return Qwen2MoeForCausalLM(
        Qwen2MoeConfig(
            vocab_size=20, hidden_size=16, intermediate_size=24, moe_intermediate_size=12, num_hidden_layers=1,
            shared_expert_intermediate_size=12, num_attention_heads=4, num_key_value_heads=2, num_experts=3,
            num_experts_per_tok=2,
        )
    ).eval()  # fmt: skip


def started(way: Callable[..., Any]) -> Callable[[Any], Any]:
    def begin(model: Any) -> Any:
        own = {name: value.detach().clone() for name, value in model.named_parameters()}
        known = start.Teachers(
            ["arithmetic"], lambda name, _: own[name], lambda name, _: own[name] * 0, lambda _: [1.0]
        )
        return way(model, Calibration(tuple(ROWS), (), 0), known, Weights(0.0, 1.0, 1.0, 0.0))

    return begin


@pytest.mark.parametrize(
    "work",
    [
        lambda model: input_grams(model, ROWS),
        lambda model: answer_factors(model, collate(ROWS, 0), merged_linears(model)),
        started(start.closed_form),
        started(progressive.progressive),
    ],
    ids=["grams", "gradients", "closed form", "progressive"],
)
def test_layers_without_rows_are_refused_by_name(work: Callable[[Any], Any]) -> None:
    model = mixture_of_experts()
    with pytest.raises(RecipeError, match=r"mlp\.\S+ sees a batch as \(\d+, \d+\), .*needs no calibration"):
        work(model)
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())
