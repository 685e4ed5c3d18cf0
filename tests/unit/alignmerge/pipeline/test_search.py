"""Where a search looks, in which order, and what it calls best. No model runs."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignmerge.errors import UsageError
from alignmerge.pipeline.search import (
    Axis,
    Budget,
    Evaluation,
    Judged,
    Point,
    Search,
    SearchSpace,
    best_of,
    propose,
    search,
)

SCALE, LAMBDA = Axis("scale", "linear", 0.2, 1.2), Axis("lambda", "log", 0.5, 50.0)
STEPS = Axis("steps", "log", 4, 128, integer=True)
CURVE = Axis("curve", "choice", choices=("linear", "cosine", "flat"))
SPACE = SearchSpace((SCALE, LAMBDA, STEPS, CURVE))
START: Point = {"scale": 0.5, "lambda": 3.0, "steps": 8, "curve": "flat"}


def bump(point: Point) -> Judged:
    """Highest skill at scale 0.9; a budget allows a scale of at most 0.7."""
    scale = float(point["scale"])
    return Judged(1 - (scale - 0.9) ** 2, (Budget("harm", scale, 0.7, unit=0.1),))


def evaluation(number: int, skill: float | None, *values: float, limit: float = 1.0) -> Evaluation:
    budgets = tuple(Budget(f"rule{index}", value, limit) for index, value in enumerate(values))
    judged = Judged(skill, budgets) if skill is not None else Judged(None, problem="not finite")
    return Evaluation(number, "spread", {"scale": float(number)}, judged)


@given(
    low=st.floats(0.001, 10),
    width=st.floats(0.001, 1000),
    place=st.floats(0, 1),
    scale=st.sampled_from(["linear", "log"]),
    integer=st.booleans(),
)
def test_a_value_lies_on_its_axis_and_its_place_is_found_again(
    low: float, width: float, place: float, scale: str, integer: bool
) -> None:
    low, high = (math.ceil(low), math.ceil(low + width)) if integer else (low, low + width)
    axis = Axis("a", scale, low, high, integer=integer)  # type: ignore[arg-type]
    value = axis.value(place)
    assert isinstance(value, int if integer else int | float)
    assert low <= float(value) <= high
    assert 0 <= axis.place(value) <= 1
    assert axis.value(axis.place(value)) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(("place", "value"), [(0.0, "linear"), (0.34, "cosine"), (1.0, "flat")])
def test_choices_share_the_axis_equally(place: float, value: str) -> None:
    assert CURVE.value(place) == value
    assert CURVE.value(CURVE.place(value)) == value


def test_a_merge_over_its_own_hard_budget_comes_after_what_could_be_judged() -> None:
    hard = [
        Evaluation(number, "spread", {}, Judged(None, (Budget("parameters.budget", gap, 0.1),), problem="over"))
        for number, gap in ((1, 0.4), (2, 0.2))
    ]
    broken, judged = evaluation(3, None), evaluation(4, 0.5, 9.0)
    assert best_of([*hard, broken]) is hard[1]
    assert best_of([*hard, broken, judged]) is judged
    assert best_of([broken]) is broken and broken.binding is None


def test_a_log_axis_is_even_in_ratios() -> None:
    assert LAMBDA.value(0.5) == pytest.approx(math.sqrt(0.5 * 50.0))
    assert SCALE.value(0.5) == pytest.approx(0.7)
    assert SCALE.place(3.0) == 1.0
    assert SCALE.place(-1.0) == 0.0


@settings(max_examples=20)
@given(evaluations=st.integers(2, 20), seed=st.integers(0, 2**32 - 1))
def test_every_point_is_inside_new_and_follows_from_the_seed(evaluations: int, seed: int) -> None:
    told: list[int] = []
    found = search(SPACE, START, evaluations, seed, bump, lambda one: told.append(one.number))
    again = search(SPACE, START, evaluations, seed, bump)
    assert found == again
    assert told == list(range(1, evaluations + 1))
    assert found.evaluations[0].knobs == START
    points = [tuple(sorted(one.knobs.items())) for one in found.evaluations]
    assert len(set(points)) == len(points) == evaluations
    for one in found.evaluations:
        assert 0.2 <= float(one.knobs["scale"]) <= 1.2
        assert 0.5 <= float(one.knobs["lambda"]) <= 50.0
        assert type(one.knobs["steps"]) is int
        assert 4 <= one.knobs["steps"] <= 128
        assert one.knobs["curve"] in CURVE.choices
    stages = [one.stage for one in found.evaluations]
    near = evaluations // 3
    assert stages == ["recipe"] + ["spread"] * (evaluations - 1 - near) + ["near the best"] * near


def test_another_seed_looks_elsewhere() -> None:
    one, two = (search(SPACE, START, 6, seed, bump).evaluations for seed in (0, 1))
    assert one[0].knobs == two[0].knobs
    assert one[1].knobs != two[1].knobs


def test_the_spread_covers_every_axis() -> None:
    """Of sixteen points after the first, each half of each axis holds about eight."""
    found = search(SearchSpace((SCALE, LAMBDA)), {"scale": 0.5, "lambda": 3.0}, 26, 3, bump).evaluations
    spread = [one.knobs for one in found if one.stage == "spread"]
    assert len(spread) == 17
    assert 6 <= sum(float(one["scale"]) < 0.7 for one in spread) <= 11
    assert 6 <= sum(float(one["lambda"]) < 5.0 for one in spread) <= 11


def test_the_last_third_lies_ever_closer_around_the_best_feasible() -> None:
    found = search(SearchSpace((SCALE,)), {"scale": 0.2}, 24, 0, bump)
    near = [one for one in found.evaluations if one.stage == "near the best"]
    for one in near:
        before = best_of(found.evaluations[: one.number - 1])
        radius = 0.25 * 0.25 ** ((one.number - 17) / 7)
        assert abs(float(one.knobs["scale"]) - float(before.knobs["scale"])) <= radius * 1.0 + 1e-3
    assert found.best.feasible
    assert 0.65 < float(found.best.knobs["scale"]) <= 0.7


def test_a_search_ends_where_the_space_is_exhausted() -> None:
    space = SearchSpace((Axis("k", "linear", 1, 3, integer=True),))
    found = search(space, {"k": 2}, 10, 0, lambda point: Judged(float(point["k"])))
    assert sorted(int(one.knobs["k"]) for one in found.evaluations) == [1, 2, 3]
    assert (found.wanted, found.best.knobs) == (10, {"k": 3})


@pytest.mark.parametrize("evaluations", [-1, 0, 1])
def test_too_few_evaluations(evaluations: int) -> None:
    with pytest.raises(UsageError, match=f"^{evaluations} evaluations: a search needs at least 2"):
        search(SPACE, START, evaluations, 0, bump)


def test_nothing_to_search() -> None:
    with pytest.raises(UsageError, match="at least one knob"):
        search(SearchSpace(()), {}, 4, 0, bump)


def test_the_best_is_the_most_skilled_inside() -> None:
    found = [evaluation(1, 0.9, 1.5), evaluation(2, 0.4, 1.0), evaluation(3, 0.5, 0.2), evaluation(4, 0.5, -3.0)]
    assert best_of(found).number == 3


def test_without_one_inside_the_best_is_the_least_outside() -> None:
    found = [
        evaluation(1, None),
        evaluation(2, 0.9, 1.5, 1.5),
        evaluation(3, 0.1, 1.9, 0.0),
        evaluation(4, 0.2, 1.9, 0.5),
    ]
    best = best_of(found)
    assert (best.number, best.feasible) == (4, False)
    assert best.violation == pytest.approx(0.9)
    assert best.binding is not None
    assert best.binding.rule == "rule0"
    assert best_of(found[:1]).number == 1


def test_a_limit_that_does_not_bind_is_only_shown() -> None:
    shown = Budget("aqi", 5.0, 1.0, binds=False)
    one = Evaluation(1, "recipe", {}, Judged(0.5, (shown, Budget("refusal", 0.0, 0.05))))
    assert (one.feasible, one.violation, one.binding) == (True, 0.0, None)
    assert not shown.holds


def test_violations_are_counted_in_units() -> None:
    """0.2 beyond a bound 0.1 wide is further out than 3 nats beyond one 6 wide, and it binds."""
    rate, nats = Budget("refusal", 0.25, 0.05, unit=0.1), Budget("aqi", 5.0, 2.0, unit=6.0)
    one = Evaluation(1, "recipe", {}, Judged(0.5, (nats, rate)))
    assert one.violation == pytest.approx(2.5)
    assert one.binding == rate
    assert Budget("floor", -0.4, -0.3, sign=-1).holds


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-1, 2)), min_size=1, max_size=12))
def test_nothing_evaluated_beats_the_best(rows: Sequence[tuple[float, float]]) -> None:
    found = [evaluation(number, skill, harm) for number, (skill, harm) in enumerate(rows, start=1)]
    best = best_of(found)
    inside = [one for one in found if one.feasible]
    assert best.feasible == bool(inside)
    if inside:
        assert best.skill == max(one.skill for one in inside if one.skill is not None)
    else:
        assert best.violation == min(one.violation for one in found)


@pytest.mark.parametrize(
    ("skill", "budgets", "problem"),
    [
        (math.nan, (), None),
        (0.5, (Budget("a", math.inf, 1.0),), None),
        (0.5, (Budget("a", 0.0, 1.0, unit=0.0),), None),
        (None, (), None),
        (0.5, (), "both"),
    ],
)
def test_a_judgement_is_finite_and_says_one_thing(
    skill: float | None, budgets: tuple[Budget, ...], problem: str | None
) -> None:
    with pytest.raises(ValueError, match=r"finite|not both|above 0"):
        Judged(skill, budgets, problem)


def test_a_proposal_is_a_function_of_what_was_measured() -> None:
    found: Search = search(SPACE, START, 9, 5, bump)
    for count in range(9):
        proposed = propose(SPACE, START, found.evaluations[:count], 9, 5)
        assert proposed is not None
        assert proposed[1] == found.evaluations[count].knobs
