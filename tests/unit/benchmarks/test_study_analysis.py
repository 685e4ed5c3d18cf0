"""The study's statistics against hand-made outcomes and independent ones."""

import numpy as np
import pytest

from alignmerge.auditor.statistics import tango
from alignmerge.errors import RecordError
from benchmarks.study.analysis import (
    compared,
    contrast,
    paired,
    pooled,
    violated,
    violations,
)
from benchmarks.study.cells import Cell, Outcome


def cell(method: str, seed: int = 0, experts: str = "one", ids: str = "same", **suites: str) -> Cell:
    found = {name: Outcome.of("m", [ids, name, str(len(bits))], bits) for name, bits in suites.items()}
    return Cell("k", "merge", "main", seed, experts, method, None, None, {}, "d", found, {}, {}, {}, None, {}, {}, {})


def draw(seed: int, rate: float, count: int = 200) -> str:
    return "".join(map(str, (np.random.default_rng(seed).random(count) < rate).astype(int)))


def test_a_paired_difference_counts_gains_and_losses_and_leaves_unscored_out() -> None:
    found = paired(cell("a", refusal="1110-1"), cell("b", refusal="100110"), {"refusal": 1.0})
    assert found is not None
    assert (found.gains, found.losses, found.n) == (3, 1, 5)
    interval = tango(1, 3, 5)
    assert (found.value, found.low, found.high) == (0.4, -interval.high, -interval.low)
    assert found.low < found.value < found.high


def test_cells_of_other_items_are_not_compared() -> None:
    with pytest.raises(RecordError, match="refusal: a and b .* other items"):
        paired(cell("a", refusal="10"), cell("b", ids="other", refusal="10"), {"refusal": 1.0})
    with pytest.raises(RecordError, match="other items"):
        contrast({(0, "one"): cell("a", refusal="10")}, {(0, "one"): cell("b", ids="x", refusal="10")}, TERMS)


def test_one_cell_that_both_have_is_compared_by_tangos_interval() -> None:
    first, second = ({(0, "one"): cell(name, refusal="1" * 40)} for name in "ab")
    found = compared(first, second, TERMS)
    interval = tango(0, 0, 40)
    assert found is not None and (found.low, found.high) == (-interval.high, -interval.low)
    assert found.low < 0 < found.high  # no item tells them apart, which is not to say that nothing could
    assert compared(first, {(1, "one"): second[0, "one"]}, TERMS) is None
    none = {(0, "one"): cell("b", refusal="-" * 40)}
    assert compared(first, none, TERMS) is None


def test_suites_of_one_cell_are_put_together_by_their_weights() -> None:
    first, second = cell("a", x="1110-1", y="11"), cell("b", x="100110", y="00")
    found = paired(first, second, {"x": 0.5, "y": 0.5})
    x, y = (paired(first, second, {name: 1.0}) for name in "xy")
    assert found is not None and x is not None and y is not None
    assert found.value == pytest.approx((x.value + y.value) / 2)
    by_hand = 0.5 * ((x.value - x.low) ** 2 + (y.value - y.low) ** 2) ** 0.5
    assert found.value - found.low == pytest.approx(by_hand)
    assert (found.gains, found.losses, found.n) == (5, 1, 7)


TERMS = {"one": {"refusal": 1.0}}


def test_a_budget_is_violated_beyond_five_hundredths_either_way() -> None:
    anchor = cell("anchor", refusal="1" * 80 + "0" * 20, over_refusal="1" * 5 + "0" * 95)

    def at(refusal: int, over: int) -> bool | None:
        bits = {"refusal": "1" * refusal + "0" * (100 - refusal), "over_refusal": "1" * over + "0" * (100 - over)}
        return violated(cell("m", **bits), anchor)

    assert (at(75, 10), at(74, 5), at(80, 11), at(100, 0)) == (False, True, True, False)
    assert violated(cell("m", refusal="1"), anchor) is None
    count, of, interval = violations([cell("m", refusal="0", over_refusal="0"), cell("m", refusal="1")], anchor)
    assert (count, of) == (1, 1) and interval is not None and interval.low < 1 == interval.high


def test_a_pooled_difference_is_the_weighted_mean_over_sets_and_seeds() -> None:
    first = {(s, e): cell("a", s, e, x=draw(s, 0.7), y=draw(9 + s, 0.5)) for s in range(3) for e in ("one", "two")}
    second = {
        (s, e): cell("b", s, e, x=draw(50 + s, 0.4), y=draw(70 + s, 0.5)) for s in range(3) for e in ("one", "two")
    }
    terms = {"one": {"x": 1.0}, "two": {"x": 0.5, "y": 0.5}}
    by_hand = []
    for (_, experts), own in first.items():
        other = second[own.seed, experts]
        by_hand.append(sum(w * ((own.rate(n) or 0) - (other.rate(n) or 0)) for n, w in terms[experts].items()))
    found = pooled(contrast(first, second, terms))
    assert found is not None
    assert found.value == pytest.approx(np.mean(by_hand), abs=1e-12)
    assert found.seeds == 3 and found.low < found.value < found.high
    assert found.low > 0  # 0.3 apart on the heavier suite


def test_a_pooled_interval_is_wider_than_that_of_items_alone_when_seeds_differ() -> None:
    same = np.random.default_rng(0).random((1, 300)) < 0.5
    equal = np.repeat(same.astype(float), 3, axis=0)
    shifted = np.clip(equal + np.array([[-0.3], [0.0], [0.3]]), -1, 2)
    narrow, wide = pooled([equal]), pooled([shifted])
    assert narrow is not None and wide is not None
    assert narrow.high - narrow.low == pytest.approx(2 * 1.96 * 0.5 / 300**0.5, rel=0.15)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_nothing_in_common_gives_no_number() -> None:
    assert pooled(contrast({(0, "one"): cell("a", refusal="1")}, {(1, "one"): cell("b", refusal="1")}, TERMS)) is None


def test_a_suite_without_any_score_gives_no_number() -> None:
    terms = {"one": {"refusal": 0.5, "x": 0.5}}
    first, second = ({(0, "one"): cell("a", refusal="11", x=bits)} for bits in ("--", "10"))
    assert pooled(contrast(first, second, terms)) is None
    assert pooled(contrast(second, second, terms)) is not None
