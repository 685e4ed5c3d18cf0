"""Blame on a tiny float64 model: shares sum to the drift, and go to whoever moved the weights."""

import copy
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.blame import METHOD, OTHER, Blame, Cell, by_layer, finite_blame, place, totals, worst
from alignmerge.merger.geometry.rows import ALIGNMENT, Row

Deltas = dict[str, Tensor]


@pytest.fixture(scope="module")
def anchor() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        initializer_range=0.3,
        eos_token_id=None,
        bos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config).double().eval()


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Answers of unequal length, so that padding and the mean over tokens both count."""
    generator = torch.Generator().manual_seed(1)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(1, 40, (count,), generator=generator).tolist())

    return [Row(tokens(3 + index % 3), tokens(1 + index % 4), ALIGNMENT, 0.0) for index in range(7)]


def taus(anchor: LlamaForCausalLM, seed: int, where: str = "", size: float = 0.2) -> Deltas:
    """A random task vector in the parameters whose name contains `where`."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: size * torch.randn(value.shape, generator=generator, dtype=value.dtype) * (where in name)
        for name, value in anchor.named_parameters()
    }


def blame(anchor: LlamaForCausalLM, rows: list[Row], parts: Mapping[str, Deltas], **more: object) -> Blame:
    """The blame of the sum of `parts`, plus `extra` that no expert gave."""
    extra = more.pop("extra", None)
    delta = {
        name: sum((part[name] for part in parts.values()), torch.zeros_like(value))
        for name, value in anchor.named_parameters()
    }
    if isinstance(extra, dict):
        delta = {name: value + extra[name] for name, value in delta.items()}
    of: Callable[[str], Deltas] = lambda name: {key: part[name] for key, part in parts.items()}  # noqa: E731
    return finite_blame(copy.deepcopy(anchor), rows, delta, of, pad=0, **more)  # type: ignore[arg-type]


def oracle_drift(anchor: LlamaForCausalLM, merge: LlamaForCausalLM, rows: list[Row]) -> float:
    """Row by row, without padding."""
    found = []
    for row in rows:
        ids = torch.tensor([[*row.prompt, *row.answer]])
        start = len(row.prompt) - 1
        with torch.no_grad():
            p, q = (model(input_ids=ids).logits[0, start:-1].log_softmax(1) for model in (anchor, merge))
        found.append(float((p.exp() * (p - q)).sum(1).mean()))
    return sum(found) / len(found)


def test_shares_sum_to_the_drift_and_the_error_falls_with_more_points(
    anchor: LlamaForCausalLM, rows: list[Row]
) -> None:
    parts = {"a": taus(anchor, 1, size=0.01), "b": taus(anchor, 2, size=0.01)}
    merge = copy.deepcopy(anchor)
    for name, value in merge.named_parameters():
        value.data += parts["a"][name] + parts["b"][name]
    drift = oracle_drift(anchor, merge, rows)
    errors = []
    for points in (1, 3, 6):
        found = blame(anchor, rows, parts, points=points, chunk=3)
        assert found.drift == pytest.approx(drift, rel=1e-6)
        assert found.error == pytest.approx(abs(found.total - drift) / drift)
        errors.append(found.error)
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[2] < 1e-5  # norms and rotations are computed in float32 whatever the model's dtype


def test_the_gradient_of_a_cell_is_that_of_the_path(anchor: LlamaForCausalLM, rows: list[Row]) -> None:
    """One parameter's share against finite differences along that parameter alone, at the one Gauss point 1/2."""
    part = taus(anchor, 3)
    name = "model.layers.1.mlp.down_proj.weight"
    found = blame(anchor, rows, {"a": part}, points=1)
    step, values = 1e-3, []
    for sign in (1, -1):
        moved = copy.deepcopy(anchor)
        for key, value in moved.named_parameters():
            value.data += 0.5 * part[key] + (sign * step * part[key] if key == name else 0.0)
        values.append(oracle_drift(anchor, moved, rows))
    [cell] = [cell for cell in found.cells if (cell.contributor, cell.layer, cell.module) == ("a", 1, "mlp.down_proj")]
    assert cell.share == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-3)


def test_a_contributor_that_moved_nothing_spends_nothing(anchor: LlamaForCausalLM, rows: list[Row]) -> None:
    found = blame(anchor, rows, {"a": taus(anchor, 1), "idle": taus(anchor, 2, size=0.0)})
    assert {cell.share for cell in found.cells if cell.contributor == "idle"} == {0.0}


def test_a_merge_that_is_its_anchor_has_no_drift_that_anybody_spends(anchor: LlamaForCausalLM, rows: list[Row]) -> None:
    found = finite_blame(copy.deepcopy(anchor), rows, {}, lambda _: {}, pad=0)
    assert (found.drift, found.total, found.error) == (0.0, 0.0, 0.0)
    assert found.cells == (Cell(METHOD, None, OTHER, 0.0),)


def test_permuted_experts_have_permuted_shares(anchor: LlamaForCausalLM, rows: list[Row]) -> None:
    one, two = taus(anchor, 1), taus(anchor, 2)
    ours, theirs = (
        {cell: cell.share for cell in blame(anchor, rows, parts).cells}
        for parts in ({"a": one, "b": two}, {"a": two, "b": one})
    )
    swap = {"a": "b", "b": "a", METHOD: METHOD}
    mine = {(cell.contributor, cell.layer, cell.module): share for cell, share in ours.items()}
    other = {(swap[cell.contributor], cell.layer, cell.module): share for cell, share in theirs.items()}
    assert mine == pytest.approx(other, abs=1e-12)


def test_who_alone_moved_a_layer_has_all_of_its_blame(anchor: LlamaForCausalLM, rows: list[Row]) -> None:
    found = blame(anchor, rows, {"a": taus(anchor, 1, "layers.0."), "b": taus(anchor, 2, "layers.1.mlp")})
    shares = totals(by_layer(found.cells), lambda cell: (cell.contributor, cell.layer))
    assert shares["a", 1] == shares["b", 0] == 0.0
    assert shares["a", 0] > 0.01
    assert shares["b", 1] > 0.01
    assert shares[METHOD, 0] == pytest.approx(0.0, abs=1e-12)


def test_what_no_expert_gave_is_the_methods(anchor: LlamaForCausalLM, rows: list[Row]) -> None:
    """A method that takes an expert back in full leaves no drift: its share is minus the expert's."""
    tau = taus(anchor, 1)
    undone = blame(anchor, rows, {"a": tau}, extra={name: -value for name, value in tau.items()})
    assert undone.drift == pytest.approx(0.0, abs=1e-12)
    alone = blame(anchor, rows, {}, extra=tau)
    assert totals(alone.cells, lambda cell: cell.contributor) == {METHOD: pytest.approx(alone.total)}
    given = blame(anchor, rows, {"a": tau})
    by_expert = {(cell.layer, cell.module): cell.share for cell in given.cells if cell.contributor == "a"}
    assert by_expert == pytest.approx({(cell.layer, cell.module): cell.share for cell in alone.cells}, rel=1e-9)


def test_the_model_is_the_merge_afterwards_and_can_be_trained_as_before(
    anchor: LlamaForCausalLM, rows: list[Row]
) -> None:
    model, tau = copy.deepcopy(anchor).requires_grad_(False), taus(anchor, 1)
    finite_blame(model, rows, tau, lambda _: {}, pad=0, points=2)
    for name, value in anchor.named_parameters():
        assert torch.allclose(model.get_parameter(name), value + tau[name], atol=1e-14)
    assert not any(value.requires_grad or value.grad is not None for value in model.parameters())


def test_rows_that_are_missing_and_merges_that_are_broken_are_refused(
    anchor: LlamaForCausalLM, rows: list[Row]
) -> None:
    with pytest.raises(RecipeError, match="no held-out answer"):
        blame(anchor, [], {"a": taus(anchor, 1)})
    with pytest.raises(RecipeError, match="not finite"):
        blame(anchor, rows, {"a": taus(anchor, 1, size=1e308)})
    with pytest.raises(RecipeError, match=r"no parameter model\.nothing"):
        finite_blame(copy.deepcopy(anchor), rows, {"model.nothing": torch.zeros(1)}, lambda _: {}, pad=0)


@pytest.mark.parametrize(
    ("name", "dimensions", "expected"),
    [
        ("model.layers.3.self_attn.q_proj.weight", 2, (3, "attention.q_proj")),
        ("model.layers.11.mlp.down_proj.weight", 2, (11, "mlp.down_proj")),
        ("gpt_neox.layers.0.attention.query_key_value.weight", 2, (0, "attention.query_key_value")),
        ("transformer.h.7.attn.c_attn.weight", 2, (7, "attention.c_attn")),
        ("model.layers.2.mlp.experts.5.up_proj.weight", 2, (2, "mlp.experts.up_proj")),
        ("model.layers.2.mlp.experts.gate_up_proj", 3, (2, "mlp.experts.gate_up_proj")),
        ("model.layers.2.self_attn.q_proj.bias", 1, (None, OTHER)),
        ("model.layers.2.input_layernorm.weight", 1, (None, OTHER)),
        ("model.embed_tokens.weight", 2, (None, OTHER)),
        ("lm_head.weight", 2, (None, OTHER)),
    ],
)
def test_places(name: str, dimensions: int, expected: tuple[int | None, str]) -> None:
    assert place(name, dimensions) == expected


def test_the_worst_cells_spend_most_and_never_save() -> None:
    cells = [Cell("a", 0, "mlp.up_proj", 0.2), Cell("b", 1, "mlp.up_proj", -0.5), Cell("a", 1, "mlp.up_proj", 0.3)]
    assert worst(cells, 5) == (cells[2], cells[0])
    assert worst(cells, 1) == (cells[2],)
    assert by_layer([*cells, Cell("a", 1, "attention.q_proj", 0.1)])[2] == Cell("a", 1, "all", 0.4)
