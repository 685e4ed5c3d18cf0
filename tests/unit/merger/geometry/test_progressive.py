"""The progressive start: a float64 oracle that walks the layers, what its teachers make of it, and what it refuses."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry import progressive as module
from alignmerge.merger.geometry.gradients import merged_linears
from alignmerge.merger.geometry.merit import Merit, Weights
from alignmerge.merger.geometry.progressive import progressive
from alignmerge.merger.geometry.rows import ALIGNMENT, Calibration, Row, collate
from alignmerge.merger.geometry.start import closed_form
from tests.unit.merger.geometry.charts import tiny
from tests.unit.merger.geometry.problems import EXPERTS, Problem, linears, problem, shifted, taught_by

EVEN = Weights(geo=0.0, align=1.0, skill=1.0, bud=0.0)


@pytest.fixture(scope="module")
def given() -> Problem:
    return problem()


def experts(given: Problem) -> list[Any]:
    """Experts that differ from the anchor in every parameter, embeddings, norms and biases too."""
    out = [shifted(given.anchor, seed) for seed in (1, 2)]
    for seed, one in enumerate(out):
        generator = torch.Generator().manual_seed(seed)
        for value in one.parameters():
            value.data += 0.01 * torch.randn(value.shape, generator=generator)
    return out


@contextmanager
def seen(layer: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """The layer's inputs and outputs, one pair per forward pass."""
    out: list[tuple[Tensor, Tensor]] = []
    handle = layer.register_forward_hook(lambda _, args, output: out.append((args[0][0], output[0])))
    try:
        yield out
    finally:
        handle.remove()


def through(model: Any, name: str, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """What goes into the layer and what comes out, row after row, (tokens, d) float64; whole forward passes."""
    with seen(merged_linears(model)[name]) as found, torch.no_grad():
        for row in rows:
            model(input_ids=collate([row], 0).ids)
    inputs, outputs = zip(*found, strict=True)
    return torch.cat(inputs), torch.cat(outputs)


def order_of(model: Any, row: Row) -> list[str]:
    """The layers' names in the order of a forward pass."""
    out: list[str] = []
    handles = [
        one.register_forward_pre_hook(lambda *_, name=name: out.append(name))
        for name, one in merged_linears(model).items()
    ]
    model(input_ids=collate([row], 0).ids)
    for handle in handles:
        handle.remove()
    return out


def oracle(given: Problem, others: Sequence[Any], weights: Sequence[float], align: float) -> dict[str, Tensor]:
    """Every layer by least squares in float64, its damping as rows of its own, in the order of a forward pass.

    Rows are passed one by one, so there is no padding.
    """
    merge = copy.deepcopy(given.mixture).double()
    groups = []
    for weight, source, one in zip((align, *weights), (ALIGNMENT, *EXPERTS), (given.anchor, *others), strict=True):
        rows = [row for row in given.calibration.rows if row.source == source]
        groups.append((weight, rows, copy.deepcopy(one).double()))
    layers = merged_linears(merge)
    for name in order_of(merge, given.calibration.rows[0]):
        start = layers[name].weight.data
        left, right, whole = [], [], torch.zeros(start.shape[1], dtype=torch.float64)
        for weight, rows, teacher in groups:
            x, _ = through(merge, name, rows)
            _, y = through(teacher, name, rows)
            rate = (weight / len(x)) ** 0.5
            gram = rate**2 * x.square().sum(dim=0)
            damp = (module.DAMPING * gram).sqrt().diag()
            left += [rate * x, damp]
            at_start = x @ start.T + (0 if layers[name].bias is None else layers[name].bias.data)
            right += [rate * (y - at_start), damp @ (merged_linears(teacher)[name].weight.data - start).T]
            whole += gram
        left.append((module.FLOOR * whole.mean()).sqrt() * torch.eye(len(whole), dtype=torch.float64))
        right.append(torch.zeros(len(whole), len(start), dtype=torch.float64))
        layers[name].weight.data = start + torch.linalg.lstsq(torch.cat(left), torch.cat(right)).solution.T
    return linears(merge)


# Of the move's norm. In bfloat16 every layer's input is rounded on the way, and so are the targets.
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.12)])
@pytest.mark.parametrize(("weights", "align"), [((1.0, 1.0), 1.0), ((0.3, 2.0), 0.5)])
def test_every_layer_is_the_least_squares_solution_behind_the_solved_ones(
    given: Problem, weights: tuple[float, ...], align: float, dtype: torch.dtype, near: float
) -> None:
    others, model = experts(given), given.model(dtype)
    kept = {name: value.clone() for name, value in model.named_parameters()}
    wanted = oracle(given, others, weights, align)
    asked = Weights(0.0, align, 1.0, 0.0)
    found = progressive(model, given.calibration, taught_by(given.anchor, others, weights), asked)
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        apart, moved = found[name].double() - value, value - given.start[name].double()
        assert float(apart.norm()) < near * float(moved.norm())
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name].to(dtype), merged_linears(model)[name].weight.data)
    assert max(float((value - given.start[name].double()).abs().max()) for name, value in wanted.items()) > 0.1
    beside = [name for name, _ in model.named_parameters() if name not in found]
    assert beside and all(torch.equal(dict(model.named_parameters())[name], kept[name]) for name in beside)


# Mistral and Gemma 2 do not see the first tokens of their longer rows; Gemma 2 does in every other block.
@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("mistral", {"sliding_window": 4}),
        ("qwen2", {}),
        ("phi3", {}),
        ("gemma2", {"sliding_window": 4}),
        ("llama3_tied", {}),
    ],
)
def test_in_every_family_rows_of_unequal_length_are_passed_as_they_are_alone(
    family: str, changes: dict[str, Any]
) -> None:
    anchor = tiny(family, torch.float32, **changes)
    for name, value in anchor.named_parameters():
        if name.endswith("bias"):
            value.data.normal_(generator=torch.Generator().manual_seed(7))
    draw = torch.Generator().manual_seed(3)
    rows = [
        Row(tuple(torch.randint(3, 60, (length,), generator=draw).tolist()), (5, 9), source, 0.0)
        for source in (ALIGNMENT, *EXPERTS)
        for length in (3, 9, 5, 14, 4, 7, 11)
    ]
    mixture = shifted(anchor, 5, 0.02)
    given = Problem(anchor, mixture, Calibration(tuple(rows), (), 0))
    others, model = experts(given), given.model()
    wanted = oracle(given, others, (0.3, 2.0), 0.5)
    found = progressive(model, given.calibration, taught_by(anchor, others, (0.3, 2.0)), Weights(0.0, 0.5, 1.0, 0.0))
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        apart, moved = found[name].double() - value, value - given.start[name].double()
        assert float(apart.norm()) < 1e-4 * float(moved.norm()), name


def test_where_all_teachers_are_the_mixture_nothing_moves(given: Problem) -> None:
    known = taught_by(given.mixture, [given.mixture] * 2, (1.0, 1.0))
    found = progressive(given.model(), given.calibration, known, EVEN)
    for name, value in found.items():
        torch.testing.assert_close(value, given.start[name], rtol=0, atol=1e-6)


def test_undamped_one_expert_alone_is_answered_on_its_rows(given: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DAMPING", 0.0)
    other = shifted(given.anchor, 1)  # embeddings and norms are the anchor's, so all of it can be reached
    rows = tuple(row for row in given.calibration.rows if row.source == EXPERTS[0])
    known = replace(taught_by(given.anchor, [other], (1.0,)), sources=EXPERTS[:1])
    model = given.model()
    progressive(model, Calibration(rows, (), 0), known, Weights(0.0, 0.0, 1.0, 0.0))
    with torch.no_grad():
        for row in rows:
            ids = collate([row], 0).ids
            torch.testing.assert_close(model(input_ids=ids).logits, other(input_ids=ids).logits, rtol=0, atol=2e-2)
            assert not torch.allclose(given.mixture(input_ids=ids).logits, other(input_ids=ids).logits, atol=2e-1)


def test_it_answers_the_teachers_better_than_a_layer_at_a_time_at_the_merges_input(given: Problem) -> None:
    known = taught_by(given.anchor, [shifted(given.anchor, seed) for seed in (1, 2)], (1.0, 1.0))
    merit = Merit(given.calibration.rows, None, EVEN, 0.0, kind="divergence", pad=0)
    left = {}
    for kind in (progressive, closed_form):
        model = given.model()
        kind(model, given.calibration, known, EVEN)
        left[kind] = merit.terms(model, 0.0).merit
    assert left[progressive] < 0.9 * left[closed_form] < 0.9 * merit.terms(given.model(), 0.0).merit


def test_of_many_rows_a_fixed_number_is_drawn_from_every_kind(given: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    # Alignment rows come in pairs of a harmful and a harmless request, a domain's in blocks of a kind.
    for count in (65, 128, 300, 504):
        for kind_of in (lambda index: index % 2, lambda index, half=count / 2: int(index < half)):
            rows = [Row((index, kind_of(index)), (1,), ALIGNMENT, 0.0) for index in range(count)]
            taken = module.some(rows)
            assert len(set(taken)) == module.ROWS == 64 and set(taken) <= set(rows)
            assert 20 <= sum(row.prompt[1] for row in taken) <= 44
    monkeypatch.setattr(module, "ROWS", 4)
    known = taught_by(given.anchor, experts(given), (1.0, 1.0))
    used = []
    for source in (ALIGNMENT, *EXPERTS):
        own = [row for row in given.calibration.rows if row.source == source]
        assert len(own) > 4
        used += module.some(own)
    few = progressive(given.model(), Calibration(tuple(used), (), 0), known, EVEN)
    whole = progressive(given.model(), given.calibration, known, EVEN)
    for name, value in whole.items():  # the same rows in another order of batches
        torch.testing.assert_close(value, few[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("align", [0.0, 1.0])
def test_a_layer_without_weights_is_the_anchors(given: Problem, align: float) -> None:
    silent = sorted(given.start)[0]
    known = taught_by(given.anchor, experts(given), (1.0, 1.0))
    known = replace(known, weights=lambda name: (0.0, 0.0) if name == silent else (1.0, 1.0))
    found = progressive(given.model(), given.calibration, known, replace(EVEN, align=align))
    assert torch.equal(found.pop(silent), known.anchor(silent))
    assert not any(torch.equal(value, given.start[name]) for name, value in found.items())


@pytest.mark.parametrize("gone", [EXPERTS[1], ALIGNMENT])
def test_a_teacher_without_rows_is_named(given: Problem, gone: str) -> None:
    rows = Calibration(tuple(row for row in given.calibration.rows if row.source != gone), (), 0)
    known = taught_by(given.anchor, experts(given), (1.0, 1.0))
    with pytest.raises(RecipeError, match=f"{gone} has no rows.*start: mixture"):
        progressive(given.model(), rows, known, EVEN)
    if gone == ALIGNMENT:
        progressive(given.model(), rows, known, replace(EVEN, align=0.0))


def test_inputs_that_are_no_numbers_are_named(given: Problem) -> None:
    model = given.model()
    merged_linears(model)["model.layers.1.mlp.up_proj.weight"].weight.data.fill_(torch.inf)
    known = taught_by(given.anchor, experts(given), (1.0, 1.0))
    with pytest.raises(RecipeError, match=r"inputs of model\.layers\.1\.mlp.* cannot be solved for.*start: mixture"):
        progressive(model, given.calibration, known, EVEN)


@pytest.mark.parametrize("missing", ["model.embed_tokens.weight", "model.layers.1.input_layernorm.weight"])
def test_a_tensor_that_a_teacher_lacks_is_named_and_nothing_of_it_stays_in_the_model(
    given: Problem, missing: str
) -> None:
    known, model = taught_by(given.anchor, experts(given), (1.0, 1.0)), given.model()

    def tensor(name: str, index: int | None) -> Tensor:
        if (name, index) == (missing, 1):
            raise KeyError(name)
        return known.tensor(name, index)

    beside = {name: value.clone() for name, value in model.named_parameters() if name not in given.start}
    with pytest.raises(RecipeError, match=f"{missing}: a checkpoint has no tensor.*start: closed-form"):
        progressive(model, given.calibration, replace(known, tensor=tensor), EVEN)
    now = dict(model.named_parameters())
    assert missing in beside and all(torch.equal(now[name], value) for name, value in beside.items())
    hooks = [one for one in model.modules() if one._forward_hooks or one._forward_pre_hooks]
    assert not hooks


def test_a_model_without_a_list_of_blocks_is_refused(given: Problem) -> None:
    model = given.model()
    model.model.extra = nn.Linear(2, 2)
    with pytest.raises(RecipeError, match="no list of blocks.*start: closed-form"):
        progressive(model, given.calibration, taught_by(given.anchor, experts(given), (1.0, 1.0)), EVEN)
