"""The closed-form start: a dense float64 oracle, what it is when teachers agree, and when it is not taken."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry import descent, solution, solver, start
from alignmerge.merger.geometry.gradients import merged_linears
from alignmerge.merger.geometry.grams import RIDGE
from alignmerge.merger.geometry.merit import Weights
from alignmerge.merger.geometry.rows import ALIGNMENT, Calibration, Row, collate
from alignmerge.merger.geometry.validity import Ladder
from tests.unit.merger.geometry.problems import EXPERTS, Problem, linears, problem, shifted

EVEN = Weights(geo=0.0, align=1.0, skill=1.0, bud=0.0)


@pytest.fixture(scope="module")
def given() -> Problem:
    return problem()


def teachers(given: Problem, weights: Sequence[float] = (1.0, 1.0), experts: Sequence[Any] = ()) -> start.Teachers:
    own = linears(given.anchor)
    layers = [linears(one) for one in experts or (shifted(given.anchor, seed) for seed in (1, 2))]
    return start.Teachers(
        EXPERTS, lambda name: own[name], lambda name, index: layers[index][name] - own[name], lambda name: weights
    )


def inputs(model: Any, rows: Sequence[Row]) -> dict[str, Tensor]:
    """What goes into every layer at the rows' real tokens, (tokens, d_in) float64."""
    seen: dict[str, list[Tensor]] = {}
    handles = [
        module.register_forward_pre_hook(lambda _, args, name=name: seen.setdefault(name, []).append(args[0][0]))
        for name, module in merged_linears(model).items()
    ]
    with torch.no_grad():
        for row in rows:
            batch = collate([row], 0)
            model(input_ids=batch.ids, attention_mask=batch.mask)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts).double() for name, parts in seen.items()}


def oracle(
    given: Problem, weights: Sequence[float], align: float, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Tensor]:
    """One round by least squares: every teacher's inputs as rows, its shrinkage and its ridge as rows of their own."""
    known, model = teachers(given, weights), given.model()
    parts = []
    for index, source in enumerate((ALIGNMENT, *EXPERTS)):
        rows = [row for row in given.calibration.rows if row.source == source]
        parts.append(((align, *weights)[index], inputs(model, rows)))
    found = {}
    for name in parts[0][1]:
        left, right = [], []
        for index, (weight, every) in enumerate(parts):
            x = every[name]
            mean = x.square().mean(dim=0)
            extra = ((1 - start.KEPT) * mean + RIDGE * mean.mean()).sqrt().diag()
            stacked = weight**0.5 * torch.cat([(start.KEPT / len(x)) ** 0.5 * x, extra])
            move = known.task_vector(name, index - 1) if index else torch.zeros_like(known.anchor(name))
            left.append(stacked)
            right.append(stacked @ move.double().T)
        found[name] = known.anchor(name) + torch.linalg.lstsq(torch.cat(left), torch.cat(right)).solution.T
    return found


@pytest.mark.parametrize(("weights", "align"), [((1.0, 1.0), 1.0), ((0.3, 2.0), 0.5), ((1.0, 0.0), 0.0)])
def test_a_round_is_the_least_squares_solution(
    given: Problem, weights: tuple[float, ...], align: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "ROUNDS", 1)
    model = given.model()
    lambdas = Weights(0.0, align, 1.0, 0.0)
    found = start.closed_form(model, given.calibration, teachers(given, weights), lambdas)
    for name, value in oracle(given, weights, align, monkeypatch).items():
        torch.testing.assert_close(found[name].double(), value.double(), rtol=0, atol=2e-5)
        assert torch.equal(found[name], merged_linears(model)[name].weight.data)


def test_a_second_round_is_a_first_one_from_the_first_ones_result(given: Problem, monkeypatch: Any) -> None:
    whole = start.closed_form(given.model(), given.calibration, teachers(given), EVEN)
    monkeypatch.setattr(start, "ROUNDS", 1)
    model = given.model()
    first = start.closed_form(model, given.calibration, teachers(given), EVEN)
    second = start.closed_form(model, given.calibration, teachers(given), EVEN)
    assert all(torch.equal(second[name], value) for name, value in whole.items())
    assert any(not torch.equal(first[name], value) for name, value in whole.items())


def test_with_the_same_rows_for_all_it_is_the_plain_weighted_mean(given: Problem) -> None:
    rows = [row for row in given.calibration.rows if row.source == ALIGNMENT]
    same = [Row(row.prompt, row.answer, source, 0.0) for source in (ALIGNMENT, *EXPERTS) for row in rows]
    known = teachers(given, (2.0, 1.0))
    found = start.closed_form(given.model(), Calibration(tuple(same), (), 0), known, EVEN)
    for name, value in found.items():
        mean = known.anchor(name) + (2 * known.task_vector(name, 0) + known.task_vector(name, 1)) / 4
        torch.testing.assert_close(value, mean, rtol=0, atol=1e-5)


def test_one_expert_without_alignment_is_that_expert(given: Problem) -> None:
    known = teachers(given, (1.0, 0.0))
    found = start.closed_form(given.model(), given.calibration, known, Weights(0.0, 0.0, 1.0, 0.0))
    for name, value in found.items():
        torch.testing.assert_close(value, known.anchor(name) + known.task_vector(name, 0), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("weights", "skill", "reason"),
    [
        ((1.0, 1.0), 0.0, "without lambda_skill"),
        ((1.0, -0.5), 1.0, "below 0"),
        ((0.0, 0.0), 1.0, "no expert has a weight"),
    ],
)
def test_where_it_would_be_no_merge_the_solve_says_so_and_starts_from_the_mixture(
    given: Problem,
    weights: tuple[float, ...],
    skill: float,
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = solved(given, "closed-form", weights, replace(EVEN, skill=skill))
    assert reason in capsys.readouterr().err and reason in found.account["start"]["why"]
    assert [line["phase"] for line in found.account["trace"]["steps"]] == ["mixture"]
    assert all(torch.equal(found.weights[name], value) for name, value in given.start.items())


def test_an_expert_without_rows_is_named(given: Problem) -> None:
    rows = tuple(row for row in given.calibration.rows if row.source != EXPERTS[1])
    with pytest.raises(RecipeError, match=f"{EXPERTS[1]} has no rows.*start: mixture"):
        start.closed_form(given.model(), Calibration(rows, (), 0), teachers(given), EVEN)


def solved(
    given: Problem, kind: str, weights: Sequence[float] = (1.0, 1.0), lambdas: Weights = EVEN
) -> solution.Solution:
    still = descent.Settings(lambdas, steps=0), solver.Settings(lambdas, steps=0)
    knobs = solution.Knobs(lambdas, *still, start=kind, threads=1)
    ladder = Ladder(lambda share: None)
    return solution.solve(
        given.model, given.start, given.calibration, knobs, ladder, None, teachers=teachers(given, weights)
    )


def test_the_solve_starts_from_it_where_held_out_rows_agree(given: Problem) -> None:
    lines = solved(given, "closed-form").account["trace"]["steps"]
    assert [line["phase"] for line in lines] == ["mixture", "start"] and lines[1]["kept"] == 1
    assert solved(given, "closed-form").account["start"] == {"from": "closed-form", "why": None}
    assert lines[1]["merit"] < lines[0]["merit"] and lines[1]["geo"] == 0.0
    wanted = start.closed_form(given.model(), given.calibration, teachers(given), EVEN)
    found = solved(given, "closed-form").weights
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_a_closed_form_with_a_larger_merit_is_said_and_not_taken(
    given: Problem, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(model: Any, *_: Any) -> dict[str, Tensor]:
        found = linears(shifted(model, 9, spread=2.0))
        for name, module in merged_linears(model).items():
            module.weight.data.copy_(found[name])
        return found

    monkeypatch.setattr(solution, "closed_form", broken)
    found = solved(given, "closed-form")
    assert found.account["trace"]["steps"][1]["kept"] == 0 and "starts from the mixture" in capsys.readouterr().err
    assert all(torch.equal(found.weights[name], value) for name, value in given.start.items())
    alone = solved(given, "mixture").account["trace"]["steps"]
    assert len(alone) == 1 and found.account["trace"]["steps"][0] == alone[0]
