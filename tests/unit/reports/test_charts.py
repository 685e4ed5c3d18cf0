"""Charts: everything drawn lies inside the drawing, in its true order, and labels stay apart."""

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignmerge.reports import charts
from alignmerge.reports.charts import BudgetBar, Point
from alignmerge.reports.drawing import (
    CHARACTER,
    Box,
    Drawing,
    Label,
    Line,
    Rect,
    Shape,
    fit,
    place_labels,
    round_step,
    short_names,
    tick_text,
)
from alignmerge.reports.ranking import Estimate

RATE = st.floats(0, 1)


def inside(drawing: Drawing, slack: float = 8.0) -> None:
    """Assert that no mark leaves the drawing by more than `slack`, and that every coordinate is finite."""
    for mark in drawing.marks:
        xs: list[float]
        ys: list[float]
        if isinstance(mark, Line):
            xs, ys = [mark.x1, mark.x2], [mark.y1, mark.y2]
        elif isinstance(mark, Rect):
            assert mark.width >= 0
            assert mark.height >= 0
            xs, ys = [mark.x, mark.x + mark.width], [mark.y, mark.y + mark.height]
        elif isinstance(mark, Label):
            xs, ys = [mark.x], [mark.y]
        else:
            assert "nan" not in mark.d
            assert "inf" not in mark.d
            start = re.match(r"M(-?[\d.]+),(-?[\d.]+)", mark.d)
            assert start is not None
            xs, ys = [float(start.group(1))], [float(start.group(2))]
        assert all(math.isfinite(value) for value in xs + ys)
        assert min(xs) >= -slack
        assert max(xs) <= drawing.width + slack
        assert min(ys) >= -slack
        assert max(ys) <= drawing.height + slack


def whiskers(value: float, half: float) -> Estimate:
    return Estimate(value, max(value - half, 0.0), min(value + half, 1.0))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(RATE, RATE, st.floats(0, 0.3)), min_size=1, max_size=14))
def test_pareto_stays_inside(rows: list[tuple[float, float, float]]) -> None:
    points = [
        Point(f"merge number {index}", "merge", whiskers(y, half), whiskers(x, half), "FAIL")
        for index, (x, y, half) in enumerate(rows)
    ]
    drawing = charts.pareto("p", "title", points, "skill", "refusal")
    inside(drawing)
    assert sum(isinstance(mark, Shape) and "mark" in mark.css.split() for mark in drawing.marks) == len(rows)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=8))
def test_intervals_stay_inside_for_any_unit(values: list[float]) -> None:
    points = [Point(f"m{i}", "expert", Estimate(v, v - 1, v + 2), Estimate(v)) for i, v in enumerate(values)]
    inside(charts.intervals("i", "AQI", "log ratio", points, values[0]))


@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=1, max_size=7))
def test_budget_bars_stay_inside_and_on_their_side_of_the_limit(rows: list[tuple[float, float]]) -> None:
    bars = [BudgetBar(f"rule {i}", "fail", value, bound, "text") for i, (value, bound) in enumerate(rows)]
    drawing = charts.budgets("b", "title", bars)
    inside(drawing)
    limit = next(mark.x1 for mark in drawing.marks if isinstance(mark, Line) and mark.css == "limit")
    drawn = [mark for mark in drawing.marks if isinstance(mark, Rect)]
    for (value, _), bar in zip(rows, drawn, strict=True):
        if value > 1.05:
            assert bar.x + bar.width > limit
        if value < 0.95:
            assert bar.x + bar.width < limit


def test_what_runs_off_the_scale_says_by_how_much() -> None:
    drawing = charts.budgets("b", "t", [BudgetBar("a", "fail", 12.2, 9.0, ""), BudgetBar("c", "pass", -4.5, -2.0, "")])
    texts = [mark.text for mark in drawing.marks if isinstance(mark, Label)]
    assert "12×" in texts
    assert "\u22124.5×" in texts


def test_shape_and_fill_tell_role_and_verdict_without_colour() -> None:
    assert len(set(charts.SHAPES.values())) == 4
    assert charts.point_css("merge", "PASS") == charts.point_css("merge", "WARN") == "mark merge ships"
    for decision in ("FAIL", "INCONCLUSIVE", None):
        assert charts.point_css("merge", decision) == "mark merge stays"


def test_layer_weights_draw_every_layer_and_name_the_largest() -> None:
    drawing = charts.layer_weights("w", "t", [0.0, 0.25, 0.75])
    inside(drawing)
    assert sum(isinstance(mark, Rect) for mark in drawing.marks) == 3
    assert "layer 3: 0.750" in [mark.text for mark in drawing.marks if isinstance(mark, Label)]


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=20))
def test_trace_stays_inside(values: list[float]) -> None:
    steps = [float(index) for index in range(len(values))]
    inside(charts.trace("t", "t", steps, [("L_geo", values), ("L_align", values[::-1])]))


def test_labels_of_a_crowd_do_not_cover_each_other() -> None:
    frame = Box(40, 30, 380, 330)
    anchors = [(200.0 + dx, 180.0 + dy, f"merge {dx} {dy}") for dx in (0, 6, 12) for dy in (0, 5, 10)]
    boxes = [box for box, _ in place_labels(anchors, frame, ())]
    for index, one in enumerate(boxes):
        assert one.outside(frame) == 0
        assert sum(one.overlap(other) for other in boxes[index + 1 :]) == 0


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6))
def test_a_scale_holds_its_values_and_has_ticks(values: list[float]) -> None:
    scale = fit(values, 0, 100)
    assert all(-0.2 <= scale(value) <= 100.2 for value in values)
    assert 1 <= len(scale.ticks) <= 13


@pytest.mark.parametrize(("span", "count", "step"), [(1.0, 5, 0.2), (0.7, 5, 0.2), (100.0, 4, 50.0), (9.0, 3, 5.0)])
def test_round_steps(span: float, count: int, step: float) -> None:
    assert round_step(span, count) == pytest.approx(step)


def test_ticks_have_no_spare_digits() -> None:
    assert [tick_text(value) for value in (0.30000000000000004, -2.0, 0.0)] == ["0.3", "\u22122", "0"]


def test_no_line_runs_through_the_name_of_a_rule() -> None:
    bars = [BudgetBar(f"rule {index}", "fail", 0.5, 0.7, "numbers") for index in range(4)]
    marks = charts.budgets("b", "title", bars).marks
    names = [mark for mark in marks if isinstance(mark, Label) and "strong" in mark.css]
    lines = [mark for mark in marks if isinstance(mark, Line) and mark.css in ("limit", "zero")]
    assert len(names) == 4 and len(lines) == 8
    for name in names:
        assert not any(line.y1 < name.y + 2 and line.y2 > name.y - 11 for line in lines)


def test_many_points_get_room_and_thin_whiskers_off_the_front() -> None:
    def drawn(count: int) -> Drawing:
        spots = [(0.1 + 0.05 * index, 0.9 if index == count - 1 else 0.5) for index in range(count)]
        points = [Point(f"m{x:.2f}", "merge", whiskers(y, 0.1), whiskers(x, 0.1)) for x, y in spots]
        return charts.pareto("p", "title", points, "skill", "refusal")

    few, many = drawn(charts.CROWD), drawn(charts.CROWD + 1)
    assert many.width == 2 * few.width
    thin = [sum(isinstance(mark, Line) and "thin" in mark.css for mark in one.marks) for one in (few, many)]
    assert thin == [0, 2 * charts.CROWD]  # all but the one point of the front, both ways


def test_a_whisker_inside_its_bar_is_edged_and_ends_taller_than_it() -> None:
    marks = charts.budgets("b", "t", [BudgetBar("a", "pass", -0.9, -0.3, "")]).marks
    [bar] = [mark for mark in marks if isinstance(mark, Rect)]
    edges, lines = (
        [mark for mark in marks if isinstance(mark, Line) and mark.css == css] for css in ("whisker-edge", "whisker")
    )
    assert len(lines) == 2 and [replace(line, css="") for line in lines] == [replace(line, css="") for line in edges]
    cap = next(line for line in lines if line.x1 == line.x2)
    assert bar.x < cap.x1 < bar.x + bar.width
    assert cap.y1 < bar.y and cap.y2 > bar.y + bar.height
    assert max(map(marks.index, edges)) < min(map(marks.index, lines))  # the edge is drawn below
    cut = charts.budgets("b", "t", [BudgetBar("a", "fail", 1.0, 3.5, "")]).marks
    assert not [mark for mark in cut if isinstance(mark, Line) and mark.css == "whisker" and mark.x1 == mark.x2]


def test_a_multiple_stands_beside_the_end_that_is_cut() -> None:
    bars = [BudgetBar("a", "fail", 12.2, 9.0, ""), BudgetBar("c", "pass", -104.0, -2.0, "")]
    marks = charts.budgets("b", "t", bars).marks
    over, under = [mark for mark in marks if isinstance(mark, Rect)]
    labels = {mark.text: mark for mark in marks if isinstance(mark, Label)}
    right, left = labels["12×"], labels["\u2212104×"]
    assert right.anchor == "start" and 0 < right.x - (over.x + over.width) < 10
    assert left.anchor == "end" and 0 < under.x - left.x < 10
    assert left.x - len(left.text) * CHARACTER > 0


def labels(drawing: Drawing) -> list[Label]:
    return [mark for mark in drawing.marks if isinstance(mark, Label)]


@pytest.mark.parametrize(
    ("value", "bound", "texts"),
    [
        (4.2, 3.3, ["4.2×", "bound 3.3×"]),
        (-4.5, -2.0, ["\u22124.5×", "bound \u22122.0×"]),
        (4.2, -1.5, ["4.2×", "bound \u22121.5×"]),
        (0.5, -1.2, ["\u22121.2×"]),
        (0.5, 3.5, ["3.5×"]),
        (4.2, 2.9, ["4.2×"]),
        (0.5, 0.7, []),
    ],
)
def test_a_bound_that_runs_off_the_scale_keeps_its_number(value: float, bound: float, texts: list[str]) -> None:
    drawing = charts.budgets("b", "t", [BudgetBar("a" * 64 + " (fail)", "fail", value, bound, "")])
    inside(drawing)
    times = [mark for mark in labels(drawing) if "×" in mark.text]
    assert [mark.text for mark in times] == texts
    [name] = [mark for mark in labels(drawing) if "aaa" in mark.text]
    assert name.text.endswith("a (fail)")
    for mark in times:
        width = len(mark.text) * CHARACTER
        left = mark.x - (width if mark.anchor == "end" else 0)
        assert left > 0 and left + width <= drawing.width
        assert mark.y != name.y or left > name.x + len(name.text) * CHARACTER


def test_names_that_begin_alike_stay_different_in_every_chart() -> None:
    names = [f"alignmerge-lambda-0.1-seed-{number:02d}-variant" for number in range(30)]
    middles = [f"alignmerge-lambda-{number}-of-the-whole-sweep-of-seeds" for number in range(30)]
    for many in (names, middles):
        points = [Point(name, "merge", Estimate(0.0), Estimate(0.5 + at / 90)) for at, name in enumerate(many)]
        for drawing in (charts.intervals("i", "t", "rate", points, None), charts.pareto("p", "t", points, "x", "y")):
            shown = [mark.text for mark in labels(drawing) if mark.css.startswith("label") and "rate" not in mark.text]
            assert len(set(shown)) == len(many)
    drawn = charts.intervals("i", "t", "rate", points, None)
    marks = [float(mark.d[1 : mark.d.index(",")]) for mark in drawn.marks if isinstance(mark, Shape)]
    assert all(len(mark.text) * CHARACTER < min(marks) for mark in labels(drawn) if mark.css == "label")


def test_short_names_show_where_they_differ() -> None:
    assert short_names(["soup", "soup", "ties"], 8) == ("soup", "soup", "ties")
    assert short_names(["alignmerge-a", "alignmerge-b"], 9) == ("alig…ge-a", "alig…ge-b")
    assert short_names(["x" * 20 + "1" + "y" * 20, "x" * 20 + "2" + "y" * 20, "z"], 9) == (
        "…xxxxxx1…",
        "…xxxxxx2…",
        "z",
    )


@given(st.lists(st.text("ab", max_size=30), max_size=12), st.integers(8, 24))
def test_short_names_fit_and_stay_different(names: list[str], characters: int) -> None:
    shown = short_names(names, characters)
    assert all(len(one) <= characters for one in shown)
    assert len(set(zip(names, shown, strict=True))) == len(set(names)) == len(set(shown))
