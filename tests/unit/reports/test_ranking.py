"""Skill, gain over the anchor and the Pareto front."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignmerge.auditor.record import AuditRecord, Interval, ItemScore, MetricResult
from alignmerge.auditor.statistics import tango
from alignmerge.reports.model import REFUSAL, SKILLS, ReportInput
from alignmerge.reports.ranking import gain, mean_skill, paired_differences, pareto_front, rank


def record(scores: dict[str, list[float | None]], intervals: bool = True) -> AuditRecord:
    """An audit whose metric values are the means of `scores` and whose intervals are 0.1 wide on either side."""
    items, metrics = [], []
    for metric, values in scores.items():
        known = [value for value in values if value is not None]
        mean = sum(known) / len(known)
        interval = Interval(mean - 0.1, mean + 0.1, 0.95, "none") if intervals else None
        metrics.append(
            MetricResult(metric, metric, "rate", "higher", mean, len(known), len(values) - len(known), interval)
        )
        items += [
            ItemScore(metric, f"{index}", metric, value, None if value is not None else "?", "", "", "stop", "")
            for index, value in enumerate(values)
        ]
    return AuditRecord("0" * 64, "x", (), tuple(metrics), tuple(items), {}, {}, {}, 0, {}, "")


def test_mean_skill_combines_intervals_as_independent() -> None:
    estimate = mean_skill(record({"a": [1.0, 0.0], "b": [1.0, 1.0]}), ("a", "b"))
    assert estimate is not None
    assert estimate.value == pytest.approx(0.75)
    assert estimate.low == pytest.approx(0.75 - 0.1 * 2**0.5 / 2)
    assert estimate.high == pytest.approx(0.75 + 0.1 * 2**0.5 / 2)


def test_mean_skill_is_unknown_when_one_skill_is() -> None:
    assert mean_skill(record({"a": [1.0]}), ("a", "b")) is None
    assert mean_skill(record({"a": [1.0]}), ()) is None
    bare = mean_skill(record({"a": [1.0]}, intervals=False), ("a",))
    assert bare is not None
    assert (bare.value, bare.low, bare.high) == (1.0, None, None)


def test_gain_is_paired_by_item_and_skips_unscored() -> None:
    anchor = record({"a": [0.0, 0.0, 1.0, None, 0.0]})
    candidate = record({"a": [1.0, 0.0, 1.0, 1.0, None]})
    assert paired_differences(candidate, anchor, "a") == [1.0, 0.0, 0.0]
    estimate = gain(candidate, anchor, ("a",))
    assert estimate is not None
    assert estimate.value == pytest.approx(1 / 3)
    interval = tango(1, 0, 3)
    assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high))
    assert estimate.high is not None
    assert estimate.high > 1 / 3


def test_gain_over_oneself_is_zero_and_keeps_a_width() -> None:
    one = record({"a": [1.0, 0.0, 1.0], "b": [0.0, 0.0, 1.0]})
    assert gain(one, one, ("a", "b")) is not None
    assert gain(one, one, ("a", "b")) == gain(one, one, ("b", "a"))
    estimate = gain(one, one, ("a",))
    assert estimate is not None
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < estimate.value == 0.0 < estimate.high
    assert gain(one, one, ("missing",)) is None


def test_those_that_may_ship_come_first_whatever_they_gained(report: ReportInput) -> None:
    rows = rank(report, REFUSAL)
    assert [row.entry.label for row in rows] == ["AlignMerge", "TIES", "task arithmetic", "linear soup"]
    entries = tuple(replace(entry, verdict=None) for entry in report.entries)
    assert len(rank(replace(report, entries=entries), REFUSAL)) == 4
    assert report.skills == SKILLS


def test_gain_is_the_opposite_the_other_way_round() -> None:
    one, other = (
        record({"a": [1.0, 1.0, 0.0, 1.0], "b": [0.0, 0.0, 1.0, 0.0]}),
        record({"a": [0.0] * 4, "b": [1.0] * 4}),
    )
    there, back = gain(one, other, ("a", "b")), gain(other, one, ("a", "b"))
    assert there is not None
    assert back is not None
    assert there.low is not None
    assert there.high is not None
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))


def test_values_that_are_not_yes_or_no_get_no_interval() -> None:
    estimate = gain(record({"a": [0.5, 0.25]}), record({"a": [0.0, 0.0]}), ("a",))
    assert estimate is not None
    assert (estimate.value, estimate.low, estimate.high) == (0.375, None, None)


COORDINATES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12)


@given(COORDINATES)
def test_front_is_what_nothing_beats(points: list[Any]) -> None:
    front = pareto_front(points)
    assert front
    for index, (x, y) in enumerate(points):
        beaten = any(ox >= x and oy >= y and (ox, oy) != (x, y) for ox, oy in points)
        assert (index in front) == (not beaten)
    for left, right in pairwise(front):
        assert points[left][0] <= points[right][0]
        assert points[left][1] >= points[right][1]
