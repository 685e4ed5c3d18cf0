"""The iterated solve on a tiny model: each term acts, can be switched off, and the budget ends it."""

import copy
from contextlib import nullcontext

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.functional import OwnAnswers
from alignmerge.merger.geometry.gradients import merged_linears
from alignmerge.merger.geometry.rows import Row, collate, log_likelihoods
from alignmerge.merger.geometry.solver import Settings, Solver, Trace


class Silent:
    def advance(self, amount: int = 1) -> None:
        pass


def rows_of(model: LlamaForCausalLM, source: str, seed: int, count: int) -> list[Row]:
    """Random prompts with the model's own greedy answers and their likelihood."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for _ in range(count):
        prompt = torch.randint(1, 50, (1, 6), generator=generator)
        whole = model.generate(prompt, max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=0)
        row = Row(tuple(prompt[0].tolist()), tuple(whole[0, 6:].tolist()), source, 0.0)
        with torch.inference_mode():
            value = log_likelihoods(model(input_ids=whole).logits, collate([row], 0))
        out.append(Row(row.prompt, row.answer, source, float(value)))
    return out


@pytest.fixture(scope="module")
def anchor() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        initializer_range=0.3,
        eos_token_id=None,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def drifted(anchor: LlamaForCausalLM) -> LlamaForCausalLM:
    model = copy.deepcopy(anchor)
    torch.manual_seed(1)
    for module in merged_linears(model).values():
        module.weight.data += 0.15 * torch.randn_like(module.weight)
    return model


def distance(one: LlamaForCausalLM, two: LlamaForCausalLM) -> float:
    """Squared Euclidean distance over the linear layers."""
    pairs = zip(merged_linears(one).values(), merged_linears(two).values(), strict=True)
    return sum(float((a.weight.detach() - b.weight.detach()).square().sum()) for a, b in pairs)


def solve(anchor: LlamaForCausalLM, drifted: LlamaForCausalLM, **knobs: float) -> tuple[LlamaForCausalLM, Trace]:
    model = copy.deepcopy(drifted)
    rows = rows_of(anchor, "alignment", 2, 24) + rows_of(drifted, "skill", 3, 12)
    functional = OwnAnswers(rows_of(anchor, "alignment", 2, 24), pad=0)
    base: dict[str, float] = {"steps": 4, "alignment_rows": 12, "skill_rows": 6, "budget": 0.0, "lambda_align": 20.0}
    settings = Settings(**{**base, **knobs})  # type: ignore[arg-type]
    with nullcontext(Silent()) as track:
        trace = Solver(model, rows, functional, settings, pad=0).run(track)
    return model, trace


def test_gap_to_the_anchor_falls_and_the_merge_moves_little(
    anchor: LlamaForCausalLM, drifted: LlamaForCausalLM
) -> None:
    model, trace = solve(anchor, drifted)
    gap = -OwnAnswers(rows_of(anchor, "alignment", 2, 24), pad=0).value(model).value
    assert gap < trace.steps[0].gap / 3
    assert distance(model, drifted) < distance(anchor, drifted) / 2
    assert trace.steps[0].geo == 0
    assert trace.steps[1].geo > 0


def test_without_alignment_and_skill_terms_nothing_moves(anchor: LlamaForCausalLM, drifted: LlamaForCausalLM) -> None:
    model, _ = solve(anchor, drifted, lambda_align=0.0, lambda_bud=0.0)
    # skill rows hold the drifted model's own answers, whose residuals are zero: no step is asked for
    assert distance(model, drifted) < 1e-8


def test_budget_ends_the_solve(anchor: LlamaForCausalLM, drifted: LlamaForCausalLM) -> None:
    _, trace = solve(anchor, drifted, budget=100.0)
    assert trace.steps == []
    assert "budget holds" in trace.ended
    _, unbounded = solve(anchor, drifted, budget=100.0, lambda_bud=0.0)
    assert len(unbounded.steps) == 4


def test_budget_term_strengthens_alignment_rows(anchor: LlamaForCausalLM, drifted: LlamaForCausalLM) -> None:
    _, soft = solve(anchor, drifted, lambda_align=0.1, lambda_bud=0.0, steps=1)
    _, hard = solve(anchor, drifted, lambda_align=0.1, lambda_bud=100.0, steps=1)
    assert hard.steps[0].bud > 0
    assert hard.steps[0].norm > soft.steps[0].norm


def test_pull_keeps_the_merge_nearer_to_the_mixture(anchor: LlamaForCausalLM, drifted: LlamaForCausalLM) -> None:
    _, free = solve(anchor, drifted, lambda_bud=0.0)
    _, pulled = solve(anchor, drifted, lambda_bud=0.0, lambda_geo=2.0)
    assert pulled.steps[-1].geo < free.steps[-1].geo


def test_same_seed_same_weights_at_one_and_two_threads(anchor: LlamaForCausalLM, drifted: LlamaForCausalLM) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one, _ = solve(anchor, drifted)
        torch.set_num_threads(2)
        two, _ = solve(anchor, drifted)
    finally:
        torch.set_num_threads(before)
    for a, b in zip(merged_linears(one).values(), merged_linears(two).values(), strict=True):
        assert torch.allclose(a.weight, b.weight, atol=1e-4)


def test_everything_switched_off_takes_no_step(anchor: LlamaForCausalLM, drifted: LlamaForCausalLM) -> None:
    model, trace = solve(anchor, drifted, lambda_align=0.0, lambda_bud=0.0, lambda_skill=0.0)
    assert trace.steps == []
    assert "switched off" in trace.ended
    assert distance(model, drifted) == 0.0


def test_budget_alone_still_asks_for_alignment(anchor: LlamaForCausalLM, drifted: LlamaForCausalLM) -> None:
    _, trace = solve(anchor, drifted, lambda_align=0.0, lambda_skill=0.0, lambda_bud=50.0, lambda_geo=0.0)
    assert trace.steps[-1].gap < trace.steps[0].gap


def test_too_few_held_out_rows_are_refused() -> None:
    with pytest.raises(RecipeError, match="held-out"):
        OwnAnswers([Row((1,), (2,), "alignment", -1.0)], pad=0)
