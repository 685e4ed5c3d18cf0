"""Looking for the merge of highest skill inside budgets with a stated number of evaluations. Pure: no files, no models.

The first evaluation is the recipe as it is. Two thirds of all, it among them, are spread over the space (a scrambled
Sobol sequence), the last third lies ever closer around the best so far. Everything follows from the seed and what was
measured. scipy.stats.qmc, because a dozen evaluations are about what a model-based sampler draws at random before its
model starts (Optuna's TPE: 10).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from alignmerge.errors import UsageError

Value = float | int | str
Point = Mapping[str, Value]
Places = tuple[float, ...]  # a point in the unit cube, one coordinate per axis
DIGITS = 4  # significant ones of a proposed number, so that a recipe can be read and typed
WIDEST, NARROWEST = 0.25, 0.0625  # half the side of the box around the best, first and last


@dataclass(frozen=True)
class Axis:
    """One thing that is searched. `low` and `high` are inclusive; `choices` are those of scale "choice".

    name: a knob of the method, or `experts.K.weight` for the weight of the recipe's expert K.
    """

    name: str
    scale: Literal["linear", "log", "choice"]
    low: float = 0.0
    high: float = 0.0
    integer: bool = False
    choices: tuple[str, ...] = ()

    def value(self, place: float) -> Value:
        """The value at a coordinate in [0, 1]."""
        if self.scale == "choice":
            return self.choices[min(int(place * len(self.choices)), len(self.choices) - 1)]
        if self.scale == "log":
            found = math.exp(math.log(self.low) + place * (math.log(self.high) - math.log(self.low)))
        else:
            found = self.low + place * (self.high - self.low)
        found = min(max(float(f"{found:.{DIGITS}g}"), self.low), self.high)
        return round(found) if self.integer else found

    def place(self, value: Value) -> float:
        """The coordinate of a value; of one outside the axis, the nearest end's."""
        if isinstance(value, str):
            return (self.choices.index(value) + 0.5) / len(self.choices) if value in self.choices else 0.5
        inside = min(max(value, self.low), self.high)
        if self.high == self.low:
            return 0.5
        if self.scale == "log":
            return (math.log(inside) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (inside - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class SearchSpace:
    """The axes of a search."""

    axes: tuple[Axis, ...]

    def point(self, places: Sequence[float]) -> dict[str, Value]:
        """The values at a place in the unit cube."""
        return {axis.name: axis.value(place) for axis, place in zip(self.axes, places, strict=True)}

    def places(self, point: Point) -> Places:
        """Where a point lies in the unit cube."""
        return tuple(axis.place(point[axis.name]) for axis in self.axes)


@dataclass(frozen=True)
class Budget:
    """One limit at one point. Harm is signed so that more is worse: `value` is inside when it is at most `limit`.

    bound: the one-sided bound of the harm, None where there is none. unit: what one step of violation is (here the
    distance from value to bound, so that budgets in different units can be weighed against each other). binds: False
    for a limit that is only shown. sign: -1 where harm is minus the number a reader knows (`min` rules).
    """

    rule: str
    value: float
    limit: float
    bound: float | None = None
    unit: float = 1.0
    binds: bool = True
    sign: int = 1
    n: int = 0

    @property
    def holds(self) -> bool:
        return self.value <= self.limit

    @property
    def excess(self) -> float:
        """How far the value lies beyond the limit, in the metric's unit; 0 inside."""
        return max(0.0, self.value - self.limit)

    @property
    def violation(self) -> float:
        """The excess in units."""
        return self.excess / self.unit


@dataclass(frozen=True)
class Judged:
    """What an objective says of one merge. `problem` is why it cannot be judged; it then is no candidate at all.

    Beside a problem `budgets` has the hard one that the merge's own solve broke, so that the nearest can be told.
    """

    skill: float | None
    budgets: tuple[Budget, ...] = ()
    problem: str | None = None

    def __post_init__(self) -> None:
        numbers = [self.skill, *(number for one in self.budgets for number in (one.value, one.limit, one.unit))]
        if any(number is not None and not math.isfinite(number) for number in numbers):
            raise ValueError(f"a search takes finite numbers only: {numbers}")
        if (self.skill is None) == (self.problem is None):
            raise ValueError("a judgement needs a skill or a problem, not both")
        if any(one.unit <= 0 for one in self.budgets):
            raise ValueError("a budget's unit must be above 0")


@dataclass(frozen=True)
class Evaluation:
    """One point and what was said of it. stage: where the point came from."""

    number: int
    stage: Literal["recipe", "spread", "near the best"]
    knobs: Point
    judged: Judged

    @property
    def skill(self) -> float | None:
        return self.judged.skill

    @property
    def budgets(self) -> tuple[Budget, ...]:
        return self.judged.budgets

    @property
    def feasible(self) -> bool:
        """Whether it could be judged and every binding budget holds."""
        return self.judged.problem is None and all(one.holds for one in self.budgets if one.binds)

    @property
    def violation(self) -> float:
        """Sum of the binding budgets' violations; infinite where nothing was measured."""
        if self.judged.problem is not None and not self.budgets:
            return math.inf
        return math.fsum(one.violation for one in self.budgets if one.binds)

    @property
    def binding(self) -> Budget | None:
        """The binding budget that is exceeded most, in units; None when all hold or nothing was measured."""
        over = [one for one in self.budgets if one.binds and not one.holds]
        return max(over, key=lambda one: one.violation) if over else None


@dataclass(frozen=True)
class Search:
    """A finished search. `wanted` evaluations were asked for; fewer were made where the space holds no more points."""

    space: SearchSpace
    seed: int
    wanted: int
    evaluations: tuple[Evaluation, ...] = field(default_factory=tuple)

    @property
    def best(self) -> Evaluation:
        """See `best_of`."""
        return best_of(self.evaluations)


def best_of(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The one of highest skill among the feasible; without any, the one of least violation. The first of equals.

    Those that could be judged come before those that broke a hard budget of their own, whose unit is another.
    """

    def key(one: Evaluation) -> tuple[bool, bool, float, float, int]:
        skill = -math.inf if one.skill is None else one.skill
        unjudged = one.judged.problem is not None
        return not one.feasible, unjudged, 0.0 if one.feasible else one.violation, -skill, one.number

    return min(evaluations, key=key)


def check_evaluations(evaluations: int) -> None:
    """Raise UsageError for too few evaluations to be a search."""
    if evaluations < 2:
        raise UsageError(f"{evaluations} evaluations: a search needs at least 2, the recipe as it is and another point")


def search(
    space: SearchSpace,
    start: Point,
    evaluations: int,
    seed: int,
    evaluate: Callable[[Point], Judged],
    told: Callable[[Evaluation], None] | None = None,
) -> Search:
    """The search over `space` from `start`; `told` hears of every evaluation as it comes.

    Raises:
        UsageError: fewer than two evaluations, or nothing to search.
    """
    check_evaluations(evaluations)
    if not space.axes:
        raise UsageError("a search needs at least one knob")
    done: list[Evaluation] = []
    while len(done) < evaluations:
        proposed = propose(space, start, done, evaluations, seed)
        if proposed is None:
            break
        stage, point = proposed
        done.append(Evaluation(len(done) + 1, stage, point, evaluate(point)))
        if told is not None:
            told(done[-1])
    return Search(space, seed, evaluations, tuple(done))


def propose(
    space: SearchSpace, start: Point, done: Sequence[Evaluation], evaluations: int, seed: int
) -> tuple[Literal["recipe", "spread", "near the best"], Point] | None:
    """The next point and its stage, a pure function of its arguments; None when the space holds no other point."""
    if not done:
        return "recipe", dict(start)
    near = evaluations // 3
    step = len(done) - (evaluations - near)
    if step >= 0:
        found = _unseen(space, done, _around(space.places(best_of(done).knobs), len(space.axes), step, near, seed))
        if found is not None:
            return "near the best", found
    found = _unseen(space, done, iter(_sequence(len(space.axes), evaluations, seed)))
    return None if found is None else ("spread", found)


def _unseen(space: SearchSpace, done: Sequence[Evaluation], places: Iterator[Places]) -> dict[str, Value] | None:
    seen = [dict(one.knobs) for one in done]
    return next((point for point in map(space.point, places) if point not in seen), None)


def _around(centre: Places, dimensions: int, step: int, steps: int, seed: int) -> Iterator[Places]:
    """Places in the box of this step about `centre`, folded back at the sides of the cube."""
    radius = WIDEST * (NARROWEST / WIDEST) ** (step / max(1, steps - 1))
    for row in _sequence(dimensions, steps, seed + 1)[step:]:
        yield tuple(_folded(c + radius * (2 * place - 1)) for c, place in zip(centre, row, strict=True))


def _folded(place: float) -> float:
    place = abs(place)
    return 2 - place if place > 1 else place


@lru_cache(maxsize=8)
def _sequence(dimensions: int, wanted: int, seed: int) -> tuple[Places, ...]:
    """At least `wanted` places spread over the unit cube, and as many again for those that turn out to be repeated."""
    from scipy.stats import qmc  # type: ignore[import-untyped]

    power = max(6, math.ceil(math.log2(2 * wanted)))
    rows = qmc.Sobol(dimensions, scramble=True, seed=seed).random_base2(power)
    return tuple(tuple(float(value) for value in row) for row in rows)
