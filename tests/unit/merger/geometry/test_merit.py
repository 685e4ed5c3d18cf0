"""The merit against its terms, measured row by row."""

from statistics import fmean

import pytest
import torch

from alignmerge import jsonio
from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.chart import Diagonal, Identity
from alignmerge.merger.geometry.functional import OwnAnswers
from alignmerge.merger.geometry.gradients import answer_logits, merged_linears
from alignmerge.merger.geometry.merit import Merit, Weights, apart
from alignmerge.merger.geometry.residuals import KINDS, Kind, squares
from alignmerge.merger.geometry.rows import ALIGNMENT, Row, collate
from tests.unit.merger.geometry.problems import EXPERTS, Problem, problem


@pytest.fixture(scope="module")
def given() -> Problem:
    return problem()


@pytest.fixture(scope="module")
def rows(given: Problem) -> list[Row]:
    """Three of alignment, and two experts with three rows and one."""
    calibration = given.calibration
    found = [*calibration.validation[:3], *calibration.skill_validation[:3], calibration.skill_validation[-1]]
    assert [row.source for row in found] == [ALIGNMENT] * 3 + [EXPERTS[0]] * 3 + [EXPERTS[1]]
    return found


def each(kind: Kind, model: torch.nn.Module, row: Row) -> float:
    batch = collate([row], 0)
    with torch.no_grad():
        return float(squares(kind, answer_logits(model, batch), batch, [row])[0])


@pytest.mark.parametrize("kind", KINDS)
def test_merit_is_the_weighted_sum_and_experts_count_alike(given: Problem, rows: list[Row], kind: Kind) -> None:
    model = given.mixture
    functional = OwnAnswers(rows[:3], pad=0)
    weights = Weights(geo=0.5, align=3.0, skill=7.0, bud=11.0)
    values = [each(kind, model, row) for row in rows]
    gap = functional.gap(model)
    assert gap > 0.1
    for chunk in (2, 16):
        merit = Merit(rows, functional, weights, budget=0.1, kind=kind, pad=0, chunk=chunk)
        found = merit.terms(model, geo=0.25)
        assert (found.geo, found.gap) == (0.25, pytest.approx(gap, rel=1e-4))
        assert found.align == pytest.approx(fmean(values[:3]), rel=1e-4)
        assert found.skill == pytest.approx(fmean([fmean(values[3:6]), values[6]]), rel=1e-4)
        assert found.skill != pytest.approx(fmean(values[3:]), rel=1e-2)  # not the mean over their rows
        assert found.bud == pytest.approx((gap - 0.1) ** 2, rel=1e-4)
        total = 0.5 * found.geo + 3 * found.align + 7 * found.skill + 11 * found.bud
        assert found.merit == pytest.approx(total, rel=1e-12)
        jsonio.canonical(found.to_json())


def test_inside_the_budget_or_without_one_nothing_is_added(given: Problem, rows: list[Row]) -> None:
    model, weights = given.mixture, Weights(0.0, 0.0, 0.0, 5.0)
    inside = Merit(rows, OwnAnswers(rows[:3], pad=0), weights, 100.0, kind="divergence", pad=0).terms(model, 1.0)
    assert (inside.bud, inside.merit) == (0.0, 0.0) and inside.gap is not None
    without = Merit(rows, None, weights, 0.0, kind="divergence", pad=0).terms(model, 1.0)
    assert (without.gap, without.bud, without.merit) == (None, None, 0.0)


def test_what_no_row_measures_is_not_a_distance_of_zero(given: Problem, rows: list[Row]) -> None:
    model, weights = given.mixture, Weights(1.0, 1.0, 1.0, 0.0)
    for kept, missing, other in ((rows[:3], "skill", "align"), (rows[3:], "align", "skill")):
        found = Merit(kept, None, weights, 0.0, kind="divergence", pad=0).terms(model, 0.0).to_json()
        assert found[missing] is None and found["merit"] == found[other] > 0


def test_a_broken_weight_is_refused(given: Problem, rows: list[Row]) -> None:
    model = given.model()
    list(merged_linears(model).values())[-1].weight.data[0, 0] = float("nan")
    merit = Merit(rows, None, Weights(0.0, 1.0, 1.0, 0.0), 0.0, kind="divergence", pad=0)
    with pytest.raises(RecipeError, match=r"parameters\.radius: .*merit is not a number"):
        merit.terms(model, 0.0)


def test_distances_are_those_of_the_chart() -> None:
    start = {"a": torch.zeros(2, 3), "b": torch.ones(1, 2)}
    weights = {"a": torch.full((2, 3), 2.0), "b": torch.tensor([[1.0, 4.0]]), "other": torch.ones(1)}
    assert apart(weights, start, Identity()) == pytest.approx(6 * 4 + 9)
    inverse = {"a": torch.full((2, 3), 0.5), "b": torch.tensor([[1.0, 3.0]])}
    assert apart(weights, start, Diagonal(inverse)) == pytest.approx(6 * 4 / 0.5 + 9 / 3)
