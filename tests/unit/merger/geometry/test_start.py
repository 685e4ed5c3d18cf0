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
from tests.unit.merger.geometry.problems import EXPERTS, Problem, linears, problem, shifted, taught_by

EVEN = Weights(geo=0.0, align=1.0, skill=1.0, bud=0.0)


@pytest.fixture(scope="module")
def given() -> Problem:
    return problem()


def teachers(given: Problem, weights: Sequence[float] = (1.0, 1.0), experts: Sequence[Any] = ()) -> start.Teachers:
    return taught_by(given.anchor, experts or [shifted(given.anchor, seed) for seed in (1, 2)], weights)


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


def oracle(given: Problem, weights: Sequence[float], align: float, model: Any) -> dict[str, Tensor]:
    """A round by least squares: every teacher's inputs as rows, its shrinkage and its ridge as rows of their own.

    The inputs are those of `model`, which holds the result after, rounded to its dtype.
    """
    known = teachers(given, weights)
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
    for name, module in merged_linears(model).items():
        module.weight.data.copy_(found[name])
    return found


# Where a processor rounds a batch otherwise than its rows one by one, inputs in bfloat16 are that much apart.
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-3)])
@pytest.mark.parametrize(("weights", "align"), [((1.0, 1.0), 1.0), ((0.3, 2.0), 0.5), ((1.0, 0.0), 0.0)])
def test_every_round_is_the_least_squares_solution_at_the_inputs_so_far(
    given: Problem,
    weights: tuple[float, ...],
    align: float,
    dtype: torch.dtype,
    near: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other, rounds = given.model(dtype), start.ROUNDS
    wanted = [oracle(given, weights, align, other) for _ in range(rounds)]
    for count in range(1, rounds + 1):
        monkeypatch.setattr(start, "ROUNDS", count)
        model = given.model(dtype)
        found = start.closed_form(model, given.calibration, teachers(given, weights), Weights(0.0, align, 1.0, 0.0))
        for name, value in wanted[count - 1].items():
            torch.testing.assert_close(found[name].double(), value, rtol=0, atol=near)
            assert torch.equal(found[name].to(dtype), merged_linears(model)[name].weight.data)
    if align:  # one teacher alone is itself in every round
        assert max(float((wanted[1][name] - wanted[0][name]).abs().max()) for name in wanted[0]) > 1e-2


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


@pytest.mark.parametrize("gone", [EXPERTS[1], ALIGNMENT])
def test_a_teacher_without_rows_is_named(given: Problem, gone: str) -> None:
    rows = Calibration(tuple(row for row in given.calibration.rows if row.source != gone), (), 0)
    with pytest.raises(RecipeError, match=f"{gone} has no rows.*start: mixture"):
        start.closed_form(given.model(), rows, teachers(given), EVEN)
    if gone == ALIGNMENT:
        start.closed_form(given.model(), rows, teachers(given), replace(EVEN, align=0.0))


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


def solved(
    given: Problem,
    kind: solution.Start,
    weights: Sequence[float] = (1.0, 1.0),
    lambdas: Weights = EVEN,
    steps: int = 0,
) -> solution.Solution:
    still = descent.Settings(lambdas, radius=1e-2, steps=steps), solver.Settings(lambdas, steps=0)
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
    found, alone = (solved(given, kind, steps=4) for kind in ("closed-form", "mixture"))
    assert "larger merit" in found.account["start"]["why"] and "starts from the mixture" in capsys.readouterr().err
    lines = found.account["trace"]["steps"]
    assert lines.pop(1)["kept"] == 0 and len(lines) > 1
    assert [{**line, "step": 0} for line in lines] == [{**line, "step": 0} for line in alone.account["trace"]["steps"]]
    assert all(torch.equal(found.weights[name], value) for name, value in alone.weights.items())


def test_a_layer_without_weights_stays_the_anchors(given: Problem) -> None:
    known, silent = teachers(given), sorted(given.start)[0]
    known = replace(known, weights=lambda name: (0.0, 0.0) if name == silent else (1.0, 1.0))
    assert start.unfit(list(given.start), known, EVEN) == ""
    for align in (0.0, 1.0):
        found = start.closed_form(given.model(), given.calibration, known, replace(EVEN, align=align))
        assert torch.equal(found[silent], known.anchor(silent))
        assert not any(torch.equal(found[name], known.anchor(name)) for name in found if name != silent)


def test_a_layer_that_cannot_be_solved_for_is_named(given: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(model: Any, rows: Any) -> dict[str, Tensor]:
        return {name: torch.zeros(value.shape[1], value.shape[1]) for name, value in given.start.items()}

    monkeypatch.setattr(start, "input_grams", silent)
    with pytest.raises(RecipeError, match=r"inputs of model\.layers\.0.* cannot be solved for.*start: mixture"):
        start.closed_form(given.model(), given.calibration, teachers(given), EVEN)


def test_without_teachers_there_is_no_closed_form(given: Problem) -> None:
    still = descent.Settings(EVEN, steps=0), solver.Settings(EVEN, steps=0)
    knobs = solution.Knobs(EVEN, *still, start="closed-form", threads=1)
    with pytest.raises(ValueError, match="needs the teachers"):
        solution.solve(given.model, given.start, given.calibration, knobs, Ladder(lambda share: None), None)
