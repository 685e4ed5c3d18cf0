"""Distances of answers against float64 brute force, the exact output Fisher, finite differences and autograd."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.gradients import answer_factors, answer_logits, merged_linears
from alignmerge.merger.geometry.residuals import KINDS, Kind, linearised, squares
from alignmerge.merger.geometry.rows import ALIGNMENT, KEPT, Row, answer_means, collate, measure
from tests.unit.merger.geometry.charts import ROWS, answer_logs, gradients_of, tiny
from tests.unit.merger.geometry.problems import shifted

FEW, MANY = 60, 300  # tokens of a vocabulary: all kept, and a part


def taught(vocabulary: int, dtype: torch.dtype = torch.float64, family: str = "llama3") -> tuple[Any, list[Row]]:
    """A teacher and the rows it was measured on."""
    teacher = tiny(family, dtype, vocab_size=vocabulary)
    return teacher, measure(teacher, ROWS, pad=0)


def of_both_kinds(rows: list[Row]) -> list[Row]:
    """The rows, every other one an alignment row."""
    return [replace(row, source=ALIGNMENT if index % 2 else "expert") for index, row in enumerate(rows)]


def found(kind: Kind, model: Any, rows: list[Row]) -> Tensor:
    batch = collate(rows, 0)
    return squares(kind, answer_logits(model, batch), batch, rows)


def brute_force(teacher: Any, model: Any, row: Row, kept: int | None = None, kind: Kind = "divergence") -> float:
    """r^2 per answer token in float64; with `kept` all but the teacher's likeliest tokens are one outcome."""
    with torch.no_grad():
        p, q = answer_logs(teacher, row).double().exp(), answer_logs(model, row).double().exp()
    if kept is not None:
        order = p.argsort(dim=1, descending=True)
        p, q = p.gather(1, order), q.gather(1, order)
        p, q = (torch.cat([one[:, :kept], one[:, kept:].sum(dim=1, keepdim=True)], dim=1) for one in (p, q))
    if kind == "hellinger":
        return float(4 * (p.sqrt() - q.sqrt()).square().sum(dim=1).mean())
    return float(2 * (p * (p.log() - q.log())).sum(dim=1).mean())


@pytest.mark.parametrize("family", ["llama3", "mistral", "qwen2", "phi3", "gemma2"])
def test_a_teacher_is_at_no_distance_from_itself_and_others_are(family: str) -> None:
    teacher, rows = taught(MANY, torch.float32, family)
    with torch.no_grad():
        assert all(0 <= value < 1e-5 for value in found("divergence", teacher, rows).tolist())
        assert all(value < 1e-9 for value in found("likelihood", teacher, rows).tolist())
        for kind in ("divergence", "hellinger"):
            assert all(value > 1e-3 for value in found(kind, shifted(teacher, 1), rows).tolist())
        assert all(0 <= value < 1e-5 for value in found("hellinger", teacher, rows).tolist())


@pytest.mark.parametrize("kind", ["divergence", "hellinger"])
def test_with_all_tokens_kept_it_is_the_whole_distance(kind: Kind) -> None:
    teacher, rows = taught(FEW)
    model = shifted(teacher, 1)
    with torch.no_grad():
        values = found(kind, model, rows).tolist()
    assert values == pytest.approx([brute_force(teacher, model, row, kind=kind) for row in rows], rel=1e-4)


def test_a_token_that_is_lost_weighs_eight_at_most() -> None:
    teacher, rows = taught(MANY)
    model = copy.deepcopy(teacher)
    model.lm_head.weight.data *= -30  # sure of what the teacher holds for least likely
    with torch.no_grad():
        lost, unbounded = found("hellinger", model, rows), found("divergence", model, rows)
    assert 4 < float(lost.min()) <= float(lost.max()) <= 8 and float(unbounded.min()) > 16


@pytest.mark.parametrize("kind", ["divergence", "hellinger"])
def test_with_a_part_kept_it_is_the_distance_of_those_and_the_rest(kind: Kind) -> None:
    teacher, rows = taught(MANY)
    teacher.lm_head.weight.data *= 0.3  # flat enough that the rest holds mass
    rows, model = measure(teacher, rows, pad=0), shifted(teacher, 1)
    assert all(float(row.teacher.logs.exp().sum(dim=1).max()) < 0.9 for row in rows if row.teacher is not None)
    with torch.no_grad():
        values = found(kind, model, rows).tolist()
    assert values == pytest.approx([brute_force(teacher, model, row, KEPT, kind) for row in rows], rel=1e-3)
    whole = [brute_force(teacher, model, row, kind=kind) for row in rows]
    assert all(0 <= value <= all_of + 1e-6 for value, all_of in zip(values, whole, strict=True))


@pytest.mark.parametrize("kind", ["divergence", "hellinger"])
def test_small_moves_have_the_length_of_the_exact_output_fisher(kind: Kind) -> None:
    """r^2 = delta^T F delta with F the mean over answer tokens of J^T (diag p - p p^T) J."""
    teacher, rows = taught(FEW)
    names = list(merged_linears(teacher))
    generator = torch.Generator().manual_seed(0)
    move = [torch.randn(one.weight.shape, generator=generator).double() for one in merged_linears(teacher).values()]

    def moved(share: float) -> Any:
        model = copy.deepcopy(teacher)
        for name, step in zip(names, move, strict=True):
            merged_linears(model)[name].weight.data += share * step
        return model

    def logs(share: float, row: Row) -> Tensor:
        with torch.no_grad():
            return answer_logs(moved(share), row)

    fisher = []
    for row in rows:
        p = logs(0.0, row).exp()
        slope = (logs(1e-5, row) - logs(-1e-5, row)) / 2e-5
        centred = slope - (p * slope).sum(dim=1, keepdim=True)
        fisher.append(float((p * centred.square()).sum(dim=1).mean()))
    share = (4e-4 / (sum(fisher) / len(fisher))) ** 0.5
    with torch.no_grad():
        values = found(kind, moved(share), rows).tolist()
    expected = [share**2 * one for one in fisher]
    assert sum(values) == pytest.approx(sum(expected), rel=0.03)
    assert values == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind: Kind) -> None:
    teacher, rows = taught(MANY)
    model = shifted(teacher, 1)
    layers = merged_linears(model)
    generator = torch.Generator().manual_seed(0)
    move = {name: torch.randn(one.weight.shape, generator=generator).double() for name, one in layers.items()}
    gradients = gradients_of(model, found(kind, model, rows).sum())
    slope = sum(float((one * move[name]).sum()) for name, one in zip(layers, gradients, strict=True))
    sides = []
    for sign in (1, -1):
        other = copy.deepcopy(model)
        for name, module in merged_linears(other).items():
            module.weight.data += sign * 1e-3 * move[name]
        with torch.no_grad():
            sides.append(float(found(kind, other, rows).double().sum()))
    assert abs(slope) > 0.1
    assert (sides[0] - sides[1]) / 2e-3 == pytest.approx(slope, rel=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_linearised_rows_are_the_slopes_of_the_distance(kind: Kind) -> None:
    teacher, rows = taught(FEW)
    rows = of_both_kinds(rows)
    model = shifted(teacher, 1)
    layers = merged_linears(model)
    part, residuals = linearised(kind, model, collate(rows, 0), rows, layers)
    assert residuals.dtype == torch.float64
    rising = [row for row, value in enumerate(residuals.tolist()) if value > 0]
    assert len(rising) >= 2 if kind == "likelihood" else len(rising) == len(rows)
    for number in rising:
        value = found(kind, model, rows[number : number + 1])[0].sqrt()
        assert float(residuals[number]) == pytest.approx(float(value.detach()), rel=1e-5)
        for name, expected in zip(layers, gradients_of(model, value), strict=True):
            assert torch.allclose(part.layer(name)[number].double(), -expected, rtol=1e-3, atol=1e-6), name


def test_where_there_is_no_distance_there_is_no_direction() -> None:
    teacher, rows = taught(FEW)
    layers = merged_linears(teacher)
    part, residuals = linearised("divergence", teacher, collate(rows, 0), rows, layers)
    assert float(residuals.max()) < 1e-2
    assert all(not bool(part.outputs[name].any()) for name in layers)


def test_likelihoods_are_compared_on_the_answer_alone_and_hinged() -> None:
    model = tiny("llama3")
    given = (0.0, -99.0, 0.0, 0.0, -99.0)
    rows = [replace(row, log_likelihood=value) for row, value in zip(measure(model, ROWS, 0), given, strict=True)]
    batch, layers = collate(rows, 0), merged_linears(model)
    own = answer_factors(model, batch, layers)
    part, residuals = linearised("likelihood", model, batch, rows, layers)
    expected = (batch.reference - own.values).clamp_min(0.0)
    assert residuals.tolist() == pytest.approx(expected.tolist())
    assert residuals[1] == residuals[4] == 0
    assert found("likelihood", model, rows).tolist() == pytest.approx(expected.square().tolist(), rel=1e-5)
    assert all(torch.equal(part.outputs[name], own.outputs[name]) for name in layers)


def test_rows_without_distributions_are_refused_where_they_are_compared() -> None:
    model = tiny("llama3")
    with pytest.raises(RecipeError, match="carries no distributions"):
        found("divergence", model, ROWS)
    assert len(found("likelihood", model, ROWS)) == len(ROWS)


def test_a_sharp_residual_is_the_divergence_on_alignment_rows_and_pulls_skill_rows_on() -> None:
    teacher, rows = taught(MANY)
    rows, model = of_both_kinds(rows), shifted(teacher, 1)
    batch = collate(rows, 0)
    with torch.no_grad():
        sharp, apart = (found(kind, model, rows).tolist() for kind in ("sharp", "divergence"))
        likelihoods = answer_means(answer_logits(model, batch), batch).tolist()
    for row, value, distance, likelihood in zip(rows, sharp, apart, likelihoods, strict=True):
        assert value == pytest.approx(distance if row.source == ALIGNMENT else -2 * likelihood, rel=1e-6)
    with torch.no_grad():  # a teacher's own answer is not certain, so there is no row at which it stops
        assert all(
            (value > 0.1) == (row.source != ALIGNMENT)
            for row, value in zip(rows, found("sharp", teacher, rows).tolist(), strict=True)
        )
