"""Budgets: never negative, monotone in the gap, off at zero; the hard form drives a toy problem into its budget."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignmerge import jsonio
from alignmerge.errors import RecipeError, TensorMismatch
from alignmerge.merger.geometry.budget import FORMS, Budget, noise_note

gaps = st.floats(-10, 10)
limits = st.floats(0, 5)
strengths = st.floats(0, 1e3)


@given(limits, strengths, st.sampled_from(FORMS), st.lists(gaps, max_size=8))
def test_weight_is_never_negative_and_off_at_strength_zero(
    limit: float, strength: float, form: str, seen: list[float]
) -> None:
    budget = Budget(limit, strength, form)  # type: ignore[arg-type]
    assert budget.weight() == 0.0
    for gap in seen:
        budget = budget.update(gap)
        assert budget.weight() >= 0.0 and math.isfinite(budget.weight())
        assert strength > 0 or budget.weight() == 0.0
        assert budget.holds(gap) == (budget.excess(gap) == 0.0)
    jsonio.canonical(budget.to_json())


@given(limits, strengths, st.sampled_from(FORMS), st.lists(gaps, max_size=4), gaps, gaps)
def test_weight_is_monotone_in_the_gap(
    limit: float, strength: float, form: str, seen: list[float], one: float, two: float
) -> None:
    budget = Budget(limit, strength, form)  # type: ignore[arg-type]
    for gap in seen:
        budget = budget.update(gap)
    low, high = sorted((one, two))
    assert budget.update(low).weight() <= budget.update(high).weight()


@given(limits, strengths, gaps)
def test_soft_is_the_hinge_to_the_last_bit(limit: float, strength: float, gap: float) -> None:
    assert Budget(limit, strength).update(gap).weight() == strength * max(0.0, gap - limit)


def test_soft_forgets_and_hard_remembers() -> None:
    soft, hard = Budget(0.1, 2.0, "soft"), Budget(0.1, 2.0, "hard")
    for gap in (0.6, 0.6, 0.6):
        soft, hard = soft.update(gap), hard.update(gap)
    assert soft.weight() == pytest.approx(1.0)
    assert hard.weight() == pytest.approx(3.0)
    assert soft.update(0.0).weight() == 0.0
    assert hard.update(0.0).weight() == pytest.approx(2.8)


def test_hard_form_ends_within_budget_where_soft_stays_over() -> None:
    """min (x - 1)^2 with gap = x: the step's answer to row weight w is x = 1 / (1 + w)."""

    def end(budget: Budget, rounds: int = 500) -> tuple[float, Budget]:
        gap = 1.0
        for _ in range(rounds):
            budget = budget.update(gap)
            gap = 1 / (1 + (budget.weight() if budget.form == "hard" else budget.strength * budget.excess(gap)))
        return gap, budget

    soft, _ = end(Budget(0.2, 1.0, "soft"))
    hard, last = end(Budget(0.2, 1.0, "hard"))
    assert soft > 0.4
    assert hard == pytest.approx(0.2, abs=1e-6)
    assert last.weight() == pytest.approx(4.0, rel=1e-4)  # the constraint's own multiplier


def test_what_the_budget_says() -> None:
    budget = Budget(0.05, 1.0, "hard")
    assert "has not been measured" in budget.binding
    over = budget.update(0.25)
    assert "exceeded by 0.2000: gap 0.2500 against 0.05 nats per token" in over.binding
    assert "holds and binds (multiplier 0.19" in over.update(0.04).binding
    assert "does not bind" in budget.update(-1.0).binding
    assert "switched off" in replace(budget, strength=0.0).binding
    assert not budget.holds(math.nan)


def test_a_budget_below_the_noise_is_said_to_be_so() -> None:
    said = noise_note(Budget(0.1, 1.0), 0.2, "mixture")
    assert "below its own noise of 0.2000 (two standard errors at the mixture)" in str(said)
    assert noise_note(Budget(0.2, 1.0), 0.2, "anchor") is None
    assert noise_note(Budget(0.1, 0.0), 0.2, "anchor") is None


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf])
def test_senseless_budgets_are_refused(wrong: float) -> None:
    with pytest.raises(RecipeError, match="budget"):
        Budget(wrong, 1.0)
    with pytest.raises(RecipeError, match="lambda_bud"):
        Budget(0.0, wrong)
    with pytest.raises(RecipeError, match="soft, hard"):
        Budget(0.0, 1.0, "firm")  # type: ignore[arg-type]


def test_a_gap_that_is_no_number_stops_the_solve() -> None:
    for form in FORMS:
        with pytest.raises(TensorMismatch, match="own-answers is nan"):
            Budget(0.0, 1.0, form).update(math.nan)
