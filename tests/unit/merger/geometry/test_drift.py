"""Finite drift against a float64 reference, and its identities."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from alignmerge.errors import RecipeError, TensorMismatch
from alignmerge.merger.geometry.drift import (
    answer_logs,
    finite_drift,
    summary,
)
from alignmerge.merger.geometry.gradients import merged_linears
from alignmerge.merger.geometry.rows import Row

ROWS = [
    Row((1, 2, 3), (4, 5), "alignment", -1.0),
    Row((7, 8), (9, 10, 11, 12), "alignment", -0.5),
    Row((20, 21, 22, 23, 24), (25,), "alignment", -2.0),
    Row((30,), (31, 32, 33), "alignment", -0.1),
]


@pytest.fixture(scope="module")
def anchor() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).double().eval()


def direction(model: LlamaForCausalLM, seed: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {name: torch.randn(m.weight.shape, generator=draw).double() for name, m in merged_linears(model).items()}


def moved(model: LlamaForCausalLM, move: dict[str, torch.Tensor], size: float) -> LlamaForCausalLM:
    out = copy.deepcopy(model)
    for name, module in merged_linears(out).items():
        module.weight.data += (size * move[name]).to(module.weight.dtype)
    return out


def brute(anchor: LlamaForCausalLM, other: LlamaForCausalLM) -> torch.Tensor:
    """Row by row, unpadded, sum p (log p - log q) in float64."""
    out = []
    for row in ROWS:
        ids = torch.tensor([[*row.prompt, *row.answer]])
        with torch.inference_mode():
            p, q = (
                m(input_ids=ids).logits[0, len(row.prompt) - 1 : -1].double().log_softmax(1) for m in (anchor, other)
            )
        out.append((p.exp() * (p - q)).sum(1).mean())
    return torch.stack(out)


@pytest.mark.parametrize("chunk", [1, 3, 16])
def test_equals_a_float64_reference_row_by_row(anchor: LlamaForCausalLM, chunk: int) -> None:
    other = moved(anchor, direction(anchor, 1), 0.1)
    found = finite_drift(other, ROWS, answer_logs(anchor, ROWS, chunk=chunk))
    assert found.dtype == torch.float64
    assert torch.allclose(found, brute(anchor, other), rtol=1e-9, atol=1e-12)
    assert float(found.min()) > 0.01  # so the comparison is about something


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_anchor_does_not_drift_from_itself(anchor: LlamaForCausalLM, dtype: torch.dtype) -> None:
    model = copy.deepcopy(anchor).to(dtype)
    logs = answer_logs(model, ROWS, chunk=2)
    assert logs.logits[0].dtype == dtype
    assert float(finite_drift(model, ROWS, logs).max()) < 1e-12


def test_what_is_kept_of_a_bfloat16_model_is_exact_and_half_of_float32(anchor: LlamaForCausalLM) -> None:
    model = copy.deepcopy(anchor).bfloat16()
    logs = answer_logs(model, ROWS)
    other = moved(anchor, direction(anchor, 1), 0.1).bfloat16()
    # bfloat16 rounds per batch shape, so the reference is asked in the same batch
    assert torch.allclose(finite_drift(other, ROWS, logs), brute(model, other), rtol=0.1, atol=1e-3)
    assert logs.bytes == 10 * (50 * 2 + 8)


@given(seed=st.integers(0, 2**31), size=st.floats(0.0, 30.0), sharp=st.floats(0.1, 300.0))
def test_never_negative_however_sharp_or_far(seed: int, size: float, sharp: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    p = sharp * torch.randn(3, 7, generator=draw).double()
    q = p + size * torch.randn(3, 7, generator=draw).double()
    found = finite_drift(Table(q), TABLE_ROWS, answer_logs(Table(p), TABLE_ROWS))
    log_p, log_q = p.log_softmax(1), q.log_softmax(1)
    expected = (log_p.exp() * (log_p - log_q)).sum(1)
    assert bool((found >= 0).all()) and bool(found.isfinite().all())
    assert torch.allclose(found, expected, rtol=1e-7, atol=1e-10)


TABLE_ROWS = [Row((1,), (2,), "alignment", 0.0), Row((3,), (4,), "alignment", 0.0), Row((5,), (6,), "alignment", 0.0)]


class Table(torch.nn.Module):
    """A model that gives row i of a table as the logits of batch row i, at every position."""

    device = torch.device("cpu")

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.table = logits

    def forward(self, input_ids: torch.Tensor, **_: object) -> object:
        logits = self.table[: len(input_ids), None].expand(-1, input_ids.shape[1], -1)
        return type("Output", (), {"logits": logits})


def test_tokens_that_either_model_rules_out() -> None:
    p = torch.tensor([[0.0, 0.0, -math.inf], [0.0, -math.inf, -math.inf], [0.0, 0.0, 0.0]]).double()
    q = torch.tensor([[0.0, -math.inf, 0.0], [0.0, 0.0, -math.inf], [0.0, 0.0, 0.0]]).double()
    found = finite_drift(Table(q), TABLE_ROWS, answer_logs(Table(p), TABLE_ROWS))
    assert found.tolist() == pytest.approx([math.inf, math.log(2), 0.0])


def test_broken_output_and_other_rows_are_refused(anchor: LlamaForCausalLM) -> None:
    logs = answer_logs(anchor, ROWS)
    with pytest.raises(ValueError, match="other rows"):
        finite_drift(anchor, ROWS[:-1], logs)
    with pytest.raises(TensorMismatch, match="not finite"):
        answer_logs(Table(torch.full((3, 5), math.nan)), TABLE_ROWS)
    with pytest.raises(TensorMismatch, match="not finite"):
        answer_logs(Table(torch.full((3, 5), math.inf)), TABLE_ROWS)
    with pytest.raises(TensorMismatch, match="6 logits"):
        finite_drift(Table(torch.zeros(3, 6)), TABLE_ROWS, answer_logs(Table(torch.zeros(3, 5)), TABLE_ROWS))
    with pytest.raises(RecipeError, match="no answers"):
        answer_logs(anchor, [])


def test_summary_covers_the_mean_and_is_the_same_every_time() -> None:
    values = torch.rand(40, generator=torch.Generator().manual_seed(0)).double() ** 3
    found = summary(values)
    assert found == summary(values)
    assert 0 <= found.low < found.mean < found.high < found.largest
    assert found.mean == pytest.approx(float(values.mean()))
    assert found.rows == 40
    # skewed values: the upper arm is the longer one
    assert found.high - found.mean > found.mean - found.low


def test_summary_without_spread_or_rows() -> None:
    assert summary(torch.zeros(5)) == (0.0, 0.0, 0.0, 0.0, 5)
    found = summary(torch.tensor([0.0, 1.0]))
    assert found.low == 0.0 and found.high > 1.0  # two rows say next to nothing
    with pytest.raises(ValueError, match="two rows"):
        summary(torch.zeros(1))
