"""Frontiers: the skill that a method reaches at each share of the anchor's refusals, from swept points.

Notable decisions:
- The frontier of a family is what its points and the anchor reach by linear interpolation along the points that no
  other beats in both; a merge that keeps more refusals than asked counts for what is asked.
- Only items that were scored for every point and the anchor count, so that all are measured on the same.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.study.analysis import RISE, Cells, Pooled, check_same, replicate, values
from benchmarks.study.cells import Cell

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Mask = NDArray[np.bool_]

SHARES = tuple(round(0.70 + 0.01 * step, 2) for step in range(26))


@dataclass(frozen=True)
class Curve:
    """A family's frontier: mean skill at each share of SHARES, with a 95 % band; `points` are (share, skill)."""

    skill: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    points: tuple[tuple[float, float], ...]
    dropped: int


def reach(shares: "Array", skills: "Array", anchor_skill: float) -> "Array":
    """Mean skill at each of SHARES from points (p,), the anchor being a point at share 1."""
    shares, skills = np.append(shares, 1.0), np.append(skills, anchor_skill)
    order = np.lexsort((-skills, -shares))  # most refusals first, of equals the most skilled
    front: list[int] = []
    for index in order:
        if not front or skills[index] > skills[front[-1]]:
            front.append(int(index))
    front.reverse()
    return np.asarray(np.interp(SHARES, shares[front], skills[front]), dtype=np.float64)


class Frontier:
    """Families of swept points of the same seeds, beside the anchor; resamples are shared by all of them.

    rise: how much more than the anchor a point may over-refuse; infinity takes every point.
    """

    def __init__(self, anchor: Cell, skills: Sequence[str], draws: int = 1000, rise: float = RISE) -> None:
        self._anchor, self._draws, self._most = anchor, draws, rise
        self._skills = dict.fromkeys(skills, 1 / len(skills))

    @property
    def takes_all(self) -> bool:
        """Whether a point counts whatever it over-refuses."""
        return math.isinf(self._most)

    def curve(self, points: Sequence[Cells]) -> Curve | None:
        """The family's frontier; None where no point is left.

        Points whose over-refusal exceeds the anchor's by more than `rise` are dropped, and those of which a suite
        has no score at all.

        Raises:
            RecordError: points that were asked other items than the anchor.
        """
        kept = self._kept(points)
        found = self._reached(kept, self._scored(kept))
        if found is None:
            return None
        rows, spots = found
        low, high = np.quantile(rows[1:], [0.025, 0.975], axis=0)
        dropped = len(points) - len(kept)
        return Curve(tuple(rows[0].tolist()), tuple(low.tolist()), tuple(high.tolist()), tuple(spots), dropped)

    def gap(self, first: Sequence[Cells], second: Sequence[Cells]) -> Pooled | None:
        """Mean over SHARES of the first frontier less the second, by paired resamples; None where one has no point.

        Raises:
            RecordError: points that were asked other items than the anchor.
        """
        own, others = self._kept(first), self._kept(second)
        scored = self._scored([*own, *others])
        one, other = self._reached(own, scored), self._reached(others, scored)
        if one is None or other is None:
            return None
        difference = (one[0] - other[0]).mean(axis=1)
        low, high = np.quantile(difference[1:], [0.025, 0.975])
        items = sum(int(mask.sum()) for mask in scored.values())
        return Pooled(float(difference[0]), float(low), float(high), len(next(iter(own))), items)

    def _kept(self, points: Sequence[Cells]) -> list[Cells]:
        return [one for one in points if self._rise(one) <= self._most + 1e-9 and self._has_scores(one)]

    def _rise(self, cells: Cells) -> float:
        rates, anchor = [one.rate("over_refusal") for one in cells.values()], self._anchor.rate("over_refusal")
        known = [rate for rate in rates if rate is not None]
        if anchor is None or len(known) < len(rates):
            return math.inf  # which no limit but infinity allows
        return sum(known) / len(known) - anchor

    def _has_scores(self, cells: Cells) -> bool:
        return all(one.rate(suite) is not None for one in cells.values() for suite in (*self._skills, "refusal"))

    def _scored(self, points: Sequence[Cells]) -> "dict[str, Mask]":
        """Per suite which items were scored for the anchor and for every cell of the points."""
        out: dict[str, Mask] = {}
        for suite in (*self._skills, "refusal"):
            every = [self._anchor, *(one for cells in points for one in cells.values())]
            for one in every:
                check_same(self._anchor, one, suite)
            unscored = np.isnan(np.stack([values(one.suites[suite]) for one in every]))
            out[suite] = np.asarray(~unscored.any(axis=0))
        return out

    def _reached(
        self, points: Sequence[Cells], scored: "Mapping[str, Mask]"
    ) -> "tuple[Array, list[tuple[float, float]]] | None":
        """(1 + draws, shares) of skill, and the points' estimates; None without a point or a scored item."""
        if not points or not all(mask.any() for mask in scored.values()):
            return None
        anchors: Cells = dict.fromkeys(points[0], self._anchor)
        ends = self._rates(anchors, {"refusal": 1.0}, scored)
        start = self._rates(anchors, self._skills, scored)
        shares = np.stack([self._rates(one, {"refusal": 1.0}, scored) for one in points]) / ends
        skills = np.stack([self._rates(one, self._skills, scored) for one in points])
        found = np.stack([reach(shares[:, i], skills[:, i], float(start[i])) for i in range(len(start))])
        return found, list(zip(shares[:, 0].tolist(), skills[:, 0].tolist(), strict=True))

    def _rates(self, cells: Cells, suites: Mapping[str, float], scored: "Mapping[str, Mask]") -> "Array":
        """The estimate first, then every draw's, (1 + draws,)."""
        ordered = [cells[key] for key in sorted(cells)]
        strata = [
            weight * np.stack([values(one.suites[suite])[scored[suite]] for one in ordered])
            for suite, weight in suites.items()
        ]
        own = sum(one.mean() for one in strata)
        return np.concatenate([[own], replicate(strata, self._draws, seed=1)])
