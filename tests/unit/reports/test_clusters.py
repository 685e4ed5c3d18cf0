"""The picture of AQI's clusters and its categories."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignmerge.reports import clusters
from alignmerge.reports.drawing import Shape
from alignmerge.reports.model import ReportInput
from alignmerge.reports.render import render
from alignmerge.reports.sections import aqi

spot = st.lists(st.floats(-1e9, 1e9, allow_nan=False), min_size=2, max_size=2)
spots = st.lists(spot, min_size=1, max_size=20)


def dots(drawing: clusters.Drawing, kind: str) -> list[tuple[float, float]]:
    """The starts of the markers of a kind."""
    [shape] = [mark for mark in drawing.marks if isinstance(mark, Shape) and mark.css == f"{kind}-dots"]
    return [(float(x), float(y)) for x, y in re.findall(r"M(-?[\d.]+),(-?[\d.]+)", shape.d)]


@settings(deadline=None)
@given(spots, spots)
def test_every_point_lies_in_the_frame_and_distances_keep_their_order(safe: Any, unsafe: Any) -> None:
    found = clusters.of_detail({"projection": {"safe": safe, "unsafe": unsafe, "variance": [0.5, 0.1]}})
    assert found is not None
    drawing = clusters.scatter("c", "one", found)
    for kind, given_spots in (("safe", safe), ("unsafe", unsafe)):
        drawn = dots(drawing, kind)
        assert len(drawn) == len(given_spots)
        assert all(35 <= x <= 390 and 15 <= y <= 285 for x, y in drawn)
        rising = sorted(range(len(drawn)), key=lambda index: given_spots[index][0])
        assert [drawn[index][0] for index in rising] == sorted(x for x, _ in drawn)


def test_one_unit_is_as_long_on_both_axes() -> None:
    found = clusters.Clusters([(0.0, 0.0), (10.0, 0.0), (0.0, 4.0)], [(5.0, 2.0)], None)
    (x0, y0), (x1, _), (_, y2) = dots(clusters.scatter("c", "one", found), "safe")
    assert (x1 - x0) / 10 == pytest.approx((y0 - y2) / 4, abs=0.05)


def test_many_points_are_thinned_and_the_title_says_so() -> None:
    found = clusters.Clusters([(float(i), 0.0) for i in range(999)], [(0.0, float(i)) for i in range(999)], None)
    drawing = clusters.scatter("c", "one", found)
    assert len(dots(drawing, "safe")) == clusters.MOST_PAIRS
    assert drawing.title == "one: 150 of 999 harmless and 150 of 999 harmful requests"


@pytest.mark.parametrize(
    "projection",
    [
        None,
        [],
        {"safe": [], "unsafe": [[1, 2]]},
        {"safe": [[1, 2]], "unsafe": "text"},
        {"safe": [[1, 2, 3]], "unsafe": [[1, 2]]},
        {"safe": [[1, True]], "unsafe": [[1, 2]]},
        {"safe": [[1, 1e300]], "unsafe": [[1, 2]]},
        {"safe": [["<b>", 1]], "unsafe": [[1, 2]]},
    ],
)
def test_a_malformed_projection_is_not_drawn(projection: Any) -> None:
    assert clusters.of_detail({"projection": projection}) is None


def test_each_checkpoint_with_a_projection_has_a_picture_and_its_categories(report: ReportInput) -> None:
    view = aqi.view(report)
    assert len(view.clusters) == len(report.entries)
    assert {line.category for line in view.categories} == {"fraud", "privacy"}
    reasons = {line.value for line in view.categories if line.category == "privacy"}
    assert reasons == {"unscored: 1 pairs, at least 2 are needed"}
    assert all(line.interval and line.chance for line in view.categories if line.category == "fraud")
    bare = tuple(
        replace(
            entry,
            audit=replace(entry.audit, metrics=tuple(replace(row, detail=None) for row in entry.audit.metrics)),
        )
        for entry in report.entries
    )
    page = render(replace(report, entries=bare))
    assert "Where the requests lie" not in page and "By category of request" not in page


def test_a_gate_that_is_the_same_for_all_is_said_once(report: ReportInput) -> None:
    form = aqi.view(report).forms[0]
    reason = form.lines[0].gate_reason
    assert form.gate == f"passed: {reason}" and render(report).count(reason) == 1
    first = report.entries[0]
    metrics = tuple(
        replace(row, valid=False, valid_reason="below chance") if row.metric == "aqi_log_j" else row
        for row in first.audit.metrics
    )
    mixed = replace(report, entries=(replace(first, audit=replace(first.audit, metrics=metrics)), *report.entries[1:]))
    assert aqi.view(mixed).forms[0].gate == ""
    assert "not passed: below chance" in render(mixed) and render(mixed).count(reason) == len(report.entries) - 1
