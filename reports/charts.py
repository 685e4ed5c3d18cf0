"""The report's charts as pure functions from numbers to drawings.

One visual language: shape tells the role (diamond reference, square anchor, triangle expert, circle merge), fill tells
whether a merge may ship (filled) or not (hollow), whiskers are 95 % intervals, a dashed line is a limit or the anchor.
Everything is labelled where it is drawn; colour is never the only sign.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from alignmerge.reports.drawing import (
    CHARACTER,
    WIDTH,
    Box,
    Drawing,
    Label,
    Line,
    Mark,
    Rect,
    Scale,
    Shape,
    fit,
    marker,
    place_labels,
    polyline,
    short_names,
    shorten,
    tick_text,
)
from alignmerge.reports.ranking import Estimate, pareto_front
from alignmerge.reports.text import number

SHAPES: dict[str, Literal["circle", "square", "triangle", "diamond"]] = {
    "reference": "diamond",
    "checkpoint": "diamond",
    "anchor": "square",
    "expert": "triangle",
    "merge": "circle",
}
SIGNS = {"PASS": "✓", "WARN": "!", "FAIL": "✗", "INCONCLUSIVE": "?", "Pending": "…"}
BUDGET_SHOWN = (-1.0, 3.0)
NAME = 34  # characters of a rule's name, beside which the multiple of a bound has room
CROWD = 9  # points that a chart of the usual width can label without a tangle


@dataclass(frozen=True)
class Point:
    """A checkpoint in a chart. `decision` is None where no policy was asked."""

    label: str
    role: str
    y: Estimate
    x: Estimate
    decision: str | None = None


@dataclass(frozen=True)
class BudgetBar:
    """One rule: `value` and `bound` as multiples of the limit (None: not measured), `text` the printed numbers."""

    label: str
    decision: str
    value: float | None
    bound: float | None
    text: str


def point_css(role: str, decision: str | None) -> str:
    """Class names of a marker: its role, and hollow unless the merge may ship."""
    if role != "merge":
        return f"mark {role}"
    return "mark merge ships" if decision in ("PASS", "WARN") else "mark merge stays"


def _x_axis(scale: Scale, top: float, bottom: float, title: str) -> list[Mark]:
    marks: list[Mark] = []
    for tick in scale.ticks:
        marks.append(Line(scale(tick), top, scale(tick), bottom, "grid"))
        marks.append(Label(scale(tick), bottom + 15, tick_text(tick), "middle", "tick"))
    marks.append(Label((scale.start + scale.end) / 2, bottom + 32, title, "middle", "axis"))
    return marks


def _y_axis(scale: Scale, left: float, right: float) -> list[Mark]:
    marks: list[Mark] = []
    for tick in scale.ticks:
        marks.append(Line(left, scale(tick), right, scale(tick), "grid"))
        marks.append(Label(left - 6, scale(tick) + 4, tick_text(tick), "end", "tick"))
    return marks


def _clip(value: float) -> float:
    return min(max(value, BUDGET_SHOWN[0]), BUDGET_SHOWN[1])


def budgets(key: str, title: str, bars: Sequence[BudgetBar]) -> Drawing:
    """Every rule as a bar from no change to the measured change, a whisker to the bound, the limit at 1."""
    row, top = 44.0, 20.0
    bottom = top + row * len(bars)
    scale = Scale(BUDGET_SHOWN[0], BUDGET_SHOWN[1], 56, WIDTH - 40, (-1, 0, 1, 2, 3))
    marks = _x_axis(scale, top, bottom, "share of the budget used (1 = limit)")
    marks.append(Label(scale(1), top - 6, "limit", "middle", "limit-label"))
    names = short_names([bar.label for bar in bars], NAME)
    for index, (bar, name) in enumerate(zip(bars, names, strict=True)):
        start, end = top + row * index + 18, top + row * index + 39  # beside the bar, not through its name
        marks.append(Line(scale(1), start, scale(1), end, "limit"))
        marks.append(Line(scale(0), start, scale(0), end, "zero"))
        marks += _budget_row(bar, name, scale, top + row * index)
    words = "; ".join(f"{bar.label}: {bar.decision}, {bar.text}" for bar in bars)
    return Drawing(key, title, words, bottom + 40, tuple(marks))


def _budget_row(bar: BudgetBar, name: str, scale: Scale, top: float) -> list[Mark]:
    sign = SIGNS.get(bar.decision.upper(), "?")
    marks: list[Mark] = [Label(14, top + 15, f"{sign} {name}", "start", "label strong halo")]
    if bar.value is None:
        return [*marks, Label(14, top + 32, shorten(bar.text, 58), "start", "label halo")]
    start, end = sorted((scale(0), scale(_clip(bar.value))))
    marks.append(Rect(start, top + 22, round(max(end - start, 1.5), 1), 12, f"bar {bar.decision}", bar.text))
    if bar.bound is not None:
        low, high = sorted((scale(_clip(bar.value)), scale(_clip(bar.bound))))
        at, spine = scale(bar.bound), (low, top + 28, high, top + 28)
        # Edged, and with an end that is taller than the bar: a whisker that runs back into its bar is seen as one. What
        # runs off the scale has no end.
        parts = [spine, (at, top + 20, at, top + 36)] if _clip(bar.bound) == bar.bound else [spine]
        marks += [Line(*line, css) for css in ("whisker-edge", "whisker") for line in parts]
    over = bar.bound if bar.bound is not None and _clip(bar.bound) != bar.bound else None
    if _clip(bar.value) != bar.value:
        marks.append(_cut_end(bar.value, scale, top, "label strong halo"))
        if over is not None:  # beside the end there is room for one number
            marks.append(Label(WIDTH - 4, top + 15, f"bound {_times(over)}", "end", "label halo"))
    elif over is not None:
        marks.append(_cut_end(over, scale, top, "label halo"))
    return marks


def _cut_end(value: float, scale: Scale, top: float, css: str) -> Label:
    """The multiple of what runs off the scale, beside the end that is cut."""
    right, cut = value > 0, scale(_clip(value))
    return Label(cut + (4 if right else -5), top + 32, _times(value), "start" if right else "end", css)


def _times(value: float) -> str:
    """A multiple of the limit, as the label of what runs off the scale."""
    times = f"{value:.0f}×" if abs(value) >= 10 else f"{value:.1f}×"
    return times.replace("-", "\u2212")


def intervals(key: str, title: str, axis: str, points: Sequence[Point], anchor: float | None) -> Drawing:
    """One metric for every checkpoint: a marker with its interval, the anchor's value as a dashed line.

    The metric is the `y` of each point.
    """
    left, row, top = 140.0, 23.0, 8.0
    bottom = top + row * len(points)
    spread = [v for point in points for v in (point.y.value, point.y.low, point.y.high) if v is not None]
    rate = all(-1e-9 <= value <= 1 + 1e-9 for value in spread)
    scale = Scale(0, 1, left, WIDTH - 50, (0, 0.25, 0.5, 0.75, 1)) if rate else fit(spread, left, WIDTH - 50, count=4)
    marks = _x_axis(scale, top, bottom, axis)
    if anchor is not None:
        marks.append(Line(scale(anchor), top, scale(anchor), bottom, "limit"))
    names = short_names([point.label for point in points], int((left - 9) / CHARACTER))  # short of a marker at 0
    for index, (point, name) in enumerate(zip(points, names, strict=True)):
        y = top + row * index + row / 2
        css = point_css(point.role, point.decision)
        marks.append(Label(0, y + 4, name, "start", "label"))
        if point.y.low is not None and point.y.high is not None:
            marks.append(Line(scale(point.y.low), y, scale(point.y.high), y, "whisker"))
        shown = number(point.y.value)
        marks.append(Shape(marker(SHAPES[point.role], scale(point.y.value), y, 4.5), css, f"{point.label}: {shown}"))
        marks.append(Label(WIDTH, y + 4, shown, "end", "tick"))
    words = "; ".join(f"{point.label} {number(point.y.value)}" for point in points)
    return Drawing(key, title, words, bottom + 40, tuple(marks))


def pareto(key: str, title: str, points: Sequence[Point], x_title: str, y_title: str) -> Drawing:
    """Skill against refusals kept, with intervals, direct labels and the front that nothing beats in both.

    Twice as wide where many points would lie on each other, and then with thin whiskers off the front.
    """
    crowded = len(points) > CROWD
    width = 2 * WIDTH if crowded else WIDTH
    left, right, top, bottom = 40.0, width - 10, 34.0, 520.0 if crowded else 330.0
    across = [v for point in points for v in (point.x.value, point.x.low, point.x.high) if v is not None]
    along = [v for point in points for v in (point.y.value, point.y.low, point.y.high) if v is not None]
    xs = fit(across, left, right, bounds=(0.0, 1.0) if min(across) >= 0 and max(across) <= 1 else (-9e9, 9e9))
    ys = fit(along, bottom, top, bounds=(0.0, 1.0) if min(along) >= 0 and max(along) <= 1 else (-9e9, 9e9))
    marks = [*_y_axis(ys, left, right), *_x_axis(xs, top, bottom, x_title), Label(0, 14, y_title, "start", "axis")]
    front = pareto_front([(point.x.value, point.y.value) for point in points])
    spots = [(xs(point.x.value), ys(point.y.value)) for point in points]
    joined = [spots[index] for index in front]
    obstacles = _along(joined)
    if len(front) > 1:
        marks.append(Shape(polyline(joined), "front"))
    for index, (point, (x, y)) in enumerate(zip(points, spots, strict=True)):
        thin = crowded and index not in front
        for line in _whiskers(point, x, y, xs, ys, "whisker thin" if thin else "whisker"):
            marks.append(line)
            obstacles += [] if thin else _along([(line.x1, line.y1), (line.x2, line.y2)])
    for point, (x, y) in zip(points, spots, strict=True):
        tip = f"{point.label}: skill {number(point.x.value)}, refusal {number(point.y.value)}"
        marks.append(Shape(marker(SHAPES[point.role], x, y, 6), point_css(point.role, point.decision), tip))
    marks += _point_labels(points, spots, Box(left, top, right, bottom), obstacles)
    words = "; ".join(f"{p.label} ({p.role}): skill {number(p.x.value)}, refusal {number(p.y.value)}" for p in points)
    words += f". On the front: {', '.join(points[i].label for i in front)}"
    return Drawing(key, title, words, bottom + 40, tuple(marks), width)


def _whiskers(point: Point, x: float, y: float, xs: Scale, ys: Scale, css: str) -> list[Line]:
    lines = []
    if point.x.low is not None and point.x.high is not None:
        lines.append(Line(xs(max(point.x.low, xs.low)), y, xs(min(point.x.high, xs.high)), y, css))
    if point.y.low is not None and point.y.high is not None:
        lines.append(Line(x, ys(max(point.y.low, ys.low)), x, ys(min(point.y.high, ys.high)), css))
    return lines


def _point_labels(
    points: Sequence[Point], spots: Sequence[tuple[float, float]], frame: Box, obstacles: Sequence[Box]
) -> list[Mark]:
    names = short_names([point.label for point in points], 24 if len(points) <= CROWD else 18)
    texts = [
        f"{name} {SIGNS[point.decision]}" if point.decision in SIGNS else name
        for point, name in zip(points, names, strict=True)
    ]
    anchors = [(x, y, text) for (x, y), text in zip(spots, texts, strict=True)]
    marks: list[Mark] = []
    for (x, y, text), (box, leader) in zip(anchors, place_labels(anchors, frame, obstacles), strict=True):
        if leader:
            edge = box.bottom if box.bottom < y else box.top if box.top > y else y
            marks.append(Line(x, y, round(min(max(x, box.left), box.right), 1), round(edge, 1), "leader"))
        marks.append(Label(round(box.left, 1), round(box.bottom - 3.5, 1), text, "start", "label halo"))
    return marks


def _along(points: Sequence[tuple[float, float]]) -> list[Box]:
    """Small boxes along a line, for labels to keep off."""
    boxes = []
    for (x1, y1), (x2, y2) in pairwise(points):
        count = max(int(max(abs(x2 - x1), abs(y2 - y1)) / 6), 1)
        for index in range(count + 1):
            x, y = x1 + (x2 - x1) * index / count, y1 + (y2 - y1) * index / count
            boxes.append(Box(x - 3, y - 2, x + 3, y + 2))
    return boxes


def layer_weights(key: str, title: str, weights: Sequence[float]) -> Drawing:
    """Weight of layers 1, 2, ... in the pooled hidden state, as bars; the largest is labelled."""
    left, right, top, bottom = 40.0, WIDTH - 8, 22.0, 130.0
    ys = fit([0.0, *weights], bottom, top, count=3)
    slot = (right - left) / len(weights)
    every = max(1, round(len(weights) / 10))
    marks = _y_axis(ys, left, right)
    largest = max(range(len(weights)), key=lambda index: weights[index])
    for index, weight in enumerate(weights):
        x = left + slot * index
        first, second = sorted((ys(0), ys(weight)))
        tip = f"layer {index + 1}: {number(weight)}"
        marks.append(
            Rect(round(x + slot * 0.12, 1), first, round(slot * 0.76, 1), round(second - first, 1), "weight", tip)
        )
        if (index + 1) % every == 0:
            marks.append(Label(round(x + slot / 2, 1), bottom + 15, str(index + 1), "middle", "tick"))
    x = min(max(left + slot * (largest + 0.5), left + 50), right - 50)
    text = f"layer {largest + 1}: {number(weights[largest])}"
    marks.append(Label(round(x, 1), ys(weights[largest]) - 5, text, "middle", "label halo"))
    marks.append(Label((left + right) / 2, bottom + 32, "layer", "middle", "axis"))
    marks.append(Label(0, 12, "weight", "start", "axis"))
    words = ", ".join(f"{index}: {number(weight)}" for index, weight in enumerate(weights, start=1) if weight)
    return Drawing(key, title, f"non-zero layer weights: {words}", bottom + 40, tuple(marks))


def trace(key: str, title: str, steps: Sequence[float], panels: Sequence[tuple[str, Sequence[float]]]) -> Drawing:
    """Small multiples over the same steps, one per (name, values), each on its own scale, first and last labelled."""
    left, right, height = 52.0, WIDTH - 64, 106.0
    xs = fit(steps, left, right, count=6, bounds=(min(steps), max(steps)))
    marks: list[Mark] = []
    for index, (name, values) in enumerate(panels):
        top = 30 + height * index
        ys = fit(values, top + height - 44, top, count=3)
        marks += _y_axis(ys, left, right)
        marks.append(Label(0, top - 14, name, "start", "label strong halo"))
        spots = [(xs(step), ys(value)) for step, value in zip(steps, values, strict=True)]
        marks.append(Shape(polyline(spots), "curve"))
        marks += [
            Shape(marker("circle", x, y, 2.5), "curve-dot", tick_text(value))
            for (x, y), value in zip(spots, values, strict=True)
        ]
        marks.append(Label(right + 8, spots[-1][1] + 4, f"{values[-1]:.3g}", "start", "tick"))
    bottom = 30 + height * len(panels) - 44
    for tick in xs.ticks:
        marks.append(Label(xs(tick), bottom + 17, tick_text(tick), "middle", "tick"))
    marks.append(Label((left + right) / 2, bottom + 34, "step", "middle", "axis"))
    words = "; ".join(f"{name}: from {values[0]:.4g} to {values[-1]:.4g}" for name, values in panels)
    return Drawing(key, title, words, bottom + 42, tuple(marks))
