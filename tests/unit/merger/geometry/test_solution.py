"""The whole solve: the validity gate and what it leads to, the account, a hard budget, threads."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from alignmerge import jsonio
from alignmerge.errors import BudgetExceeded
from alignmerge.merger.geometry import descent, solver
from alignmerge.merger.geometry.budget import DEFAULT_LIMIT
from alignmerge.merger.geometry.merit import Weights
from alignmerge.merger.geometry.rows import ALIGNMENT, Row, measure
from alignmerge.merger.geometry.solution import Knobs, Solution, solve
from alignmerge.merger.geometry.validity import Ladder, NoBudget
from alignmerge.merger.methods import get
from tests.unit.merger.geometry.problems import Problem, problem, shifted

UNGATED = Ladder(lambda share: None)


@pytest.fixture(scope="module")
def given() -> Problem:
    return problem()


def knobs(weights: Weights = Weights(0.001, 1.0, 1.0, 10.0), steps: int = 4, **changes: Any) -> Knobs:  # noqa: B008
    down = descent.Settings(weights, radius=3e-3, steps=steps, batch_rows=6, stretches=2)
    back = solver.Settings(weights, steps=1, alignment_rows=6, skill_rows=4)
    return Knobs(weights, down, back, **{"threads": 1, "budget": 0.01, **changes})


def solved(given: Problem, asked: Knobs, ladder: Ladder = UNGATED, dtype: torch.dtype = torch.float32) -> Solution:
    return solve(lambda: given.model(dtype), given.start, given.calibration, asked, ladder, None)


def ladder(given: Problem, end: Any) -> Ladder:
    """From the anchor to `end`, which is named."""

    def load(share: float) -> Any:
        if share in (0.0, 1.0):
            return given.anchor if share == 0.0 else end
        found = copy.deepcopy(given.anchor)
        with torch.no_grad():
            for value, other in zip(found.parameters(), end.parameters(), strict=True):
                value.lerp_(other, share)
        return found

    return Ladder(load, "a weak model", "f" * 64)


def test_without_a_budget_no_gate_runs(given: Problem) -> None:
    def load(share: float) -> Any:
        raise AssertionError("no model is asked for")

    account = solved(given, knobs(Weights(0.001, 1.0, 1.0, 0.0)), Ladder(load, "a weak model", "f" * 64)).account
    assert account["functional"] == {"name": None, "before": None, "after": None}
    assert account["validity"]["gate"] == "not run: lambda_bud is 0, so there is no budget"
    assert account["budget"]["strength"] == 0
    assert account["trace"]["ended"] == "there is no budget to restore"
    assert all(line["gap"] is None for line in account["trace"]["steps"])


def test_the_gate_is_recorded_and_the_account_is_plain_data(given: Problem) -> None:
    found = solved(given, knobs(), ladder(given, shifted(given.anchor, 9, 0.2)))
    account = found.account
    validity = account["validity"]
    assert (validity["asked"], validity["functional"], validity["gate"]) == ("own-answers", "own-answers", "passed")
    assert [rung["model"] for rung in validity["tried"][0]["values"]] == [
        "the anchor", "50% of the way to a weak model", "a weak model",
    ]  # fmt: skip
    assert account["functional"]["name"] == "own-answers"
    assert account["functional"]["after"]["value"] > account["functional"]["before"]["value"]
    lines = account["trace"]["steps"]
    assert [line["phase"] for line in lines] == ["mixture", "descent", "descent", "restore"]
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    assert lines[0]["geo"] == 0 and all({"geo", "align", "skill", "bud", "merit"} <= set(line) for line in lines)
    assert account["budget"]["gap"] == pytest.approx(-account["functional"]["after"]["value"], rel=1e-5)
    assert account["rows"] == len(given.calibration.rows)
    assert (account["validation_rows"], account["skill_validation_rows"]) == (8, 8)
    assert account["trace"]["settings"]["descent"]["steps"] == 4
    assert jsonio.canonical(account)
    assert set(found.weights) == set(given.start)


def test_a_functional_that_fails_the_gate_is_announced_and_the_next_one_taken(
    given: Problem, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pairs with each other's answers: the anchor's margin is low, and any weaker model's is higher."""
    held_out = given.calibration.validation
    swapped = [
        tuple(
            measure(given.anchor, [Row(a.prompt, b.answer, ALIGNMENT, 0.0), Row(b.prompt, a.answer, ALIGNMENT, 0.0)], 0)
        )
        for a, b in zip(held_out[::2], held_out[1::2], strict=True)
    ]
    rows = (*held_out, *(row for pair in swapped for row in pair))
    other = given._replace(calibration=replace(given.calibration, validation=rows, pairs=tuple(swapped)))  # type: ignore[arg-type]
    asked = knobs(functional="refusal-margin")
    account = solved(other, asked, ladder(given, shifted(given.anchor, 9, 0.3))).account
    tried = account["validity"]["tried"]
    assert [(one["name"], one["passed"]) for one in tried] == [("refusal-margin", False), ("own-answers", True)]
    assert account["functional"]["name"] == account["budget"]["functional"] == "own-answers"
    assert "refusal-margin failed the validity gate and is not used" in capsys.readouterr().err


def test_where_none_passes_there_is_no_budget_and_the_solve_says_so(
    given: Problem, capsys: pytest.CaptureFixture[str]
) -> None:
    account = solved(given, knobs(functional="own-answers"), ladder(given, given.anchor)).account
    assert account["validity"]["gate"].startswith("failed")
    assert account["functional"]["name"] is None
    assert account["budget"]["strength"] == 0
    assert "there is none in this solve" in capsys.readouterr().err


def test_a_limit_does_not_change_its_unit_with_its_functional(
    given: Problem, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a weaker model own-answers is taken, whatever was asked for: its limit is then its default."""
    account = solved(given, knobs(functional="refusal-margin", budget=0.7)).account
    assert account["functional"]["name"] == account["budget"]["functional"] == "own-answers"
    assert account["budget"]["unit"] == "nats per token"
    assert account["budget"]["limit"] == DEFAULT_LIMIT == get("alignmerge").knobs({})["budget"]
    assert "its limit is now the default of own-answers, 0.15 nats per token" in capsys.readouterr().err
    with pytest.raises(NoBudget, match="was stated for refusal-margin"):
        solved(given, knobs(functional="refusal-margin", budget=0.7, budget_form="hard"))


def test_the_noise_of_own_answers_is_that_of_its_gap_at_the_mixture(
    given: Problem, capsys: pytest.CaptureFixture[str]
) -> None:
    before = solved(given, knobs()).account["functional"]["before"]
    noise = (before["high"] - before["low"]) / 2
    said = f"below its own noise of {noise:.4f} (two standard errors at the mixture)"
    assert noise > 0.02 and said in capsys.readouterr().err
    solved(given, knobs(budget=1.01 * noise))
    assert "noise" not in capsys.readouterr().err


def test_a_hard_budget_that_does_not_hold_ends_the_solve(given: Problem) -> None:
    asked = knobs(budget=1e-6, budget_form="hard", steps=1)
    with pytest.raises(
        BudgetExceeded, match=r"own-answers .* nats per token .* hard limit of 1e-06 by 0\.\d{4}; raise"
    ) as why:
        solved(given, asked)
    assert why.value.exit_code == 3
    assert why.value.limit == 1e-6 < why.value.gap
    assert "\n" not in str(why.value)
    nothing = replace(asked, descent=replace(asked.descent, steps=0), restore=replace(asked.restore, steps=0))
    with pytest.raises(BudgetExceeded, match="parameters.budget"):
        solved(given, nothing)
    assert solved(given, replace(asked, budget=100.0)).account["budget"]["form"] == "hard"
    soft = solved(given, replace(asked, budget_form="soft")).account  # which may end over budget
    assert soft["budget"]["gap"] > soft["budget"]["limit"]


def test_nothing_to_do_leaves_the_mixture(given: Problem) -> None:
    asked = knobs(Weights(0.001, 0.0, 0.0, 0.0))
    found = solved(given, asked)
    assert all(torch.equal(found.weights[name], value) for name, value in given.start.items())
    assert [line["phase"] for line in found.account["trace"]["steps"]] == ["mixture"]


@pytest.mark.parametrize("metric", ["fisher", "kfac"])
def test_charts_bend_the_way(given: Problem, metric: str) -> None:
    heavy = Weights(0.02, 1.0, 1.0, 10.0)
    plain, charted = (solved(given, knobs(heavy, metric=one)) for one in ("identity", metric))
    assert (plain.account["damping"], charted.account["damping"]) == (None, 0.3)
    assert charted.account["metric"] == metric
    assert any(not torch.equal(plain.weights[name], value) for name, value in charted.weights.items())
    merits = [line["merit"] for line in charted.account["trace"]["steps"] if line.get("kept", 1)]
    assert merits == sorted(merits, reverse=True)


def test_the_result_does_not_depend_on_the_threads_outside(given: Problem) -> None:
    found = []
    for outside in (1, 2):
        torch.set_num_threads(outside)
        try:
            found.append(solved(given, knobs(threads=2), dtype=torch.bfloat16))
            assert torch.get_num_threads() == outside
        finally:
            torch.set_num_threads(1)
    assert all(torch.equal(found[0].weights[name], value) for name, value in found[1].weights.items())
    assert found[0].account == found[1].account
