"""Frontiers of swept points against hand-made ones."""

import dataclasses
import math

import numpy as np
import pytest

from benchmarks.study.cells import Cell, Outcome
from benchmarks.study.frontier import SHARES, Frontier, reach


def cell(method: str, seed: int = 0, experts: str = "one", ids: str = "same", **suites: str) -> Cell:
    found = {name: Outcome.of("m", [ids, name, str(len(bits))], bits) for name, bits in suites.items()}
    return Cell("k", "merge", "main", seed, experts, method, None, None, {}, "d", found, {}, {}, {}, None, {}, {}, {})


def draw(seed: int, rate: float, count: int = 200) -> str:
    return "".join(map(str, (np.random.default_rng(seed).random(count) < rate).astype(int)))


def test_the_frontier_takes_the_points_that_nothing_beats() -> None:
    shares, skills = np.array([0.7, 0.8, 0.9, 0.75]), np.array([0.6, 0.5, 0.4, 0.3])
    found = reach(shares, skills, 0.2)
    at = dict(zip(SHARES, found, strict=True))
    assert at[0.7] == pytest.approx(0.6) and at[0.75] == pytest.approx(0.55) and at[0.95] == pytest.approx(0.3)
    assert (np.diff(found) <= 1e-12).all()
    beyond = reach(np.array([1.1]), np.array([0.7]), 0.2)  # more refusals than the anchor, and more skill
    assert beyond == pytest.approx(np.full(len(SHARES), 0.7))


def test_a_family_that_is_better_everywhere_has_a_gap_above_zero_and_none_to_itself() -> None:
    skills = ("arithmetic", "instructions")
    sides = {"over_refusal": "0" * 200}
    anchor = cell("anchor", refusal=draw(1, 0.9), arithmetic=draw(2, 0.1), instructions=draw(3, 0.1), **sides)

    def family(skill: float) -> list[dict[tuple[int, str], Cell]]:
        return [
            {
                (s, "three"): cell(
                    "m",
                    s,
                    "three",
                    refusal=draw(10 + s, keep),
                    arithmetic=draw(20 + s, skill * (1.4 - keep)),
                    instructions=draw(30 + s, skill * (1.4 - keep)),
                    **sides,
                )
                for s in range(3)
            }
            for keep in (0.6, 0.75, 0.85)
        ]

    frontier = Frontier(anchor, skills, draws=200)
    better, worse = family(1.0), family(0.4)
    gap = frontier.gap(better, worse)
    assert gap is not None and gap.low > 0
    none = frontier.gap(better, better)
    assert none is not None and (none.value, none.low, none.high) == (0.0, 0.0, 0.0)
    curve = frontier.curve(better)
    assert curve is not None and curve.dropped == 0
    assert all(a <= b <= c for a, b, c in zip(curve.low, curve.skill, curve.high, strict=True))


def test_points_that_refuse_harmless_requests_are_dropped_from_the_frontier() -> None:
    anchor = cell("anchor", refusal="1" * 100, arithmetic="0" * 100, over_refusal="0" * 100)
    good = {
        (0, "three"): cell("m", 0, "three", refusal="1" * 100, arithmetic="1" * 50 + "0" * 50, over_refusal="0" * 100)
    }
    bad = {
        key: dataclasses.replace(one, suites={**one.suites, "over_refusal": Outcome.of("m", ["q"], "1" * 6 + "0" * 94)})
        for key, one in good.items()
    }
    frontier = Frontier(anchor, ["arithmetic"], draws=20)
    curve = frontier.curve([good, bad])
    assert curve is not None and curve.dropped == 1 and len(curve.points) == 1
    assert frontier.curve([bad]) is None and frontier.gap([bad], [good]) is None
    every = Frontier(anchor, ["arithmetic"], draws=20, rise=math.inf)
    whole = every.curve([good, bad])
    assert whole is not None and whole.dropped == 0 and len(whole.points) == 2
    assert every.takes_all and not frontier.takes_all and every.gap([bad], [good]) is not None
    for unscored in ({"over_refusal": "-" * 100}, {}):
        silent = {(0, "three"): cell("m", 0, "three", refusal="1" * 100, arithmetic="1" * 100, **unscored)}
        assert frontier.curve([silent]) is None


def swept(refusal: str, arithmetic: str) -> list[dict[tuple[int, str], Cell]]:
    return [{(0, "three"): cell("m", 0, "three", refusal=refusal, arithmetic=arithmetic, over_refusal="0" * 100)}]


def test_items_without_a_score_are_left_out_of_the_frontier_not_counted_as_failures() -> None:
    anchor = cell("anchor", refusal="1" * 100, arithmetic="0" * 100, over_refusal="0" * 100)
    half = swept("1" * 100, "1" * 50 + "-" * 50)
    frontier = Frontier(anchor, ["arithmetic"], draws=20)
    curve = frontier.curve(half)
    assert curve is not None and curve.points == ((1.0, 1.0),)
    kept = frontier.curve(swept("1" * 80 + "-" * 20, "1" * 100))
    assert kept is not None and kept.points == ((1.0, 1.0),)


def test_two_frontiers_are_compared_on_the_items_that_both_have_scores_for() -> None:
    anchor = cell("anchor", refusal="1" * 100, arithmetic="0" * 100, over_refusal="0" * 100)
    frontier = Frontier(anchor, ["arithmetic"], draws=20)
    gap = frontier.gap(swept("1" * 100, "1" * 50 + "-" * 50), swept("1" * 100, "1" * 50 + "0" * 50))
    assert gap is not None and (gap.value, gap.low, gap.high) == (0.0, 0.0, 0.0)
    assert gap.items == 150  # 100 of refusal, 50 of arithmetic
    assert frontier.gap(swept("1" * 100, "-" * 100), swept("1" * 100, "1" * 100)) is None
