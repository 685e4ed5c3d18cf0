"""The marks a chart is made of, axes and label placement: geometry as data, written as SVG by the template.

Lengths are SVG user units of a drawing WIDTH wide. Colour, weight and fonts belong to the style sheet: a mark carries
class names only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

WIDTH = 390.0
PIECE = 1000
CHARACTER = 7.2  # width of an average character of the 12 unit chart font, in a wide one (DejaVu Sans)
LINE = 14.0


@dataclass(frozen=True)
class Line:
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    css: str
    kind: ClassVar[str] = "line"


@dataclass(frozen=True)
class Rect:
    """A filled rectangle; `tip` is shown on hover."""

    x: float
    y: float
    width: float
    height: float
    css: str
    tip: str = ""
    kind: ClassVar[str] = "rect"


@dataclass(frozen=True)
class Shape:
    """A path through `d`; `tip` is shown on hover."""

    d: str
    css: str
    tip: str = ""
    kind: ClassVar[str] = "shape"

    @property
    def pieces(self) -> list[str]:
        """`d` in pieces that a report prints whole: it cuts long strings, and a path that was cut draws nothing."""
        return [self.d[start : start + PIECE] for start in range(0, len(self.d), PIECE)]


@dataclass(frozen=True)
class Label:
    """One line of text, its baseline at (x, y)."""

    x: float
    y: float
    text: str
    anchor: Literal["start", "middle", "end"] = "start"
    css: str = "label"
    kind: ClassVar[str] = "label"


Mark = Line | Rect | Shape | Label


@dataclass(frozen=True)
class Drawing:
    """A chart: `title` and `description` are what a screen reader says instead of it. `id` is unique in the page."""

    id: str
    title: str
    description: str
    height: float
    marks: tuple[Mark, ...]
    width: float = WIDTH


@dataclass(frozen=True)
class Scale:
    """A linear map from [low, high] in data to [start, end] in the drawing, with ticks at round numbers."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...] = field(default_factory=tuple)

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def round_step(span: float, count: int) -> float:
    """The step of 1, 2 or 5 times a power of ten that divides `span` into at most about `count` parts."""
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))


def fit(
    values: Sequence[float],
    start: float,
    end: float,
    *,
    count: int = 5,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Scale:
    """A scale over all `values`, widened to round numbers and kept inside `bounds`; never empty."""
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    if high - low < max(1e-12, size * 1e-9):
        pad = size * 0.1 if size > 1e-9 else 0.5
        low, high = low - pad, high + pad
    step = round_step(high - low, count)
    low = max(math.floor(low / step + 1e-9) * step, bounds[0])
    high = min(math.ceil(high / step - 1e-9) * step, bounds[1])
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Scale(low, high, start, end, tuple(round(index * step, 12) for index in range(first, last + 1)))


def tick_text(value: float) -> str:
    """A tick value without spare digits, with a true minus sign."""
    return f"{value:.6g}".replace("-", "\u2212")


def marker(shape: Literal["circle", "square", "triangle", "diamond"], x: float, y: float, size: float = 5.0) -> str:
    """Path of a marker around (x, y); `size` is about its half width."""
    if shape == "circle":
        return f"M{x - size:.1f},{y:.1f}a{size},{size} 0 1,0 {2 * size},0a{size},{size} 0 1,0 {-2 * size},0z"
    corners = {
        "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        "triangle": ((0.0, -1.15), (1.1, 0.85), (-1.1, 0.85)),
        "diamond": ((0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)),
    }[shape]
    return polyline([(x + dx * size, y + dy * size) for dx, dy in corners]) + "z"


def polyline(points: Sequence[tuple[float, float]]) -> str:
    """Path through `points`."""
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)


def shorten(text: str, characters: int) -> str:
    """`text` cut to fit a chart, with an ellipsis where it was cut; the tables carry it whole."""
    return text if len(text) <= characters else text[: characters - 1].rstrip() + "…"


def short_names(names: Sequence[str], characters: int) -> tuple[str, ...]:
    """Each of `names` cut to fit a chart, so that different ones stay different: in the middle, else down to the part
    in which those that would look the same differ, else with a number of their own.
    """
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        alike.setdefault(_cut(name, characters), []).append(name)
    told = {group[0]: cut for cut, group in alike.items() if len(group) == 1}
    for cut, group in alike.items():
        if len(group) > 1:
            parts = _differing(group, characters)
            apart = len({*parts, *told.values()}) == len(parts) + len(told)
            numbered = (
                f"{cut[: characters - 5]}…{number}" for number in range(len(told) + 1, len(told) + len(group) + 1)
            )
            told |= zip(group, parts if apart else numbered, strict=True)
    return tuple(told[name] for name in names)


def _differing(names: Sequence[str], characters: int) -> list[str]:
    """The part of each name in which they differ, with as much of what is before it as there is room for."""
    first, last = _alike(names), _alike([name[::-1] for name in names])
    ends = [max(len(name) - last, first) for name in names]
    start = max(min(first, first - (characters - 2 - max(end - first for end in ends))), 0)
    return [
        _cut(("…" if start else "") + name[start:end] + ("…" if end < len(name) else ""), characters)
        for name, end in zip(names, ends, strict=True)
    ]


def _alike(names: Sequence[str]) -> int:
    """How many characters all of `names` begin with."""
    first, last = min(names), max(names)
    return next((at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))


def _cut(text: str, characters: int) -> str:
    """`text` cut in its middle: names often differ at their ends alone."""
    if len(text) <= characters:
        return text
    tail = (characters - 1) // 2
    return f"{text[: characters - 1 - tail].rstrip()}…{text[-tail:].lstrip()}"


@dataclass(frozen=True)
class Box:
    """A rectangle that a label or marker covers."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """Shared area."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)

    def outside(self, frame: "Box") -> float:
        """How far it sticks out of `frame`, summed over the sides."""
        sides = (frame.left - self.left, frame.top - self.top, self.right - frame.right, self.bottom - frame.bottom)
        return sum(max(side, 0.0) for side in sides)


RINGS = (9.0, 18.0, 30.0, 44.0, 60.0, 80.0, 104.0)
LEADER_FROM = 20.0
TURNS = tuple((math.cos(turn * math.pi / 8), math.sin(turn * math.pi / 8)) for turn in range(16))


def place_labels(
    anchors: Sequence[tuple[float, float, str]], frame: Box, obstacles: Sequence[Box]
) -> tuple[tuple[Box, bool], ...]:
    """For each (x, y, text) the box of its label inside `frame`, and whether it lies far enough to need a leader line.

    Greedy and deterministic: labels are placed in the given order at the nearest spot that covers the least.
    """
    placed: list[tuple[Box, bool]] = []
    taken = [Box(x - 6, y - 6, x + 6, y + 6) for x, y, _ in anchors] + list(obstacles)
    for x, y, text in anchors:
        box, distance = _spot(x, y, len(text) * CHARACTER, frame, taken)
        placed.append((box, distance > LEADER_FROM))
        taken.append(box)
    return tuple(placed)


def _spot(x: float, y: float, width: float, frame: Box, taken: Sequence[Box]) -> tuple[Box, float]:
    """The best box for a label at (x, y) and its distance; no farther ring can be better than a free spot."""
    reach = Box(x - width - RINGS[-1], y - LINE - RINGS[-1], x + width + RINGS[-1], y + LINE + RINGS[-1])
    near = [box for box in taken if box.overlap(reach)]
    best: tuple[float, Box, float] | None = None
    for distance in RINGS:
        for across, down in TURNS:
            left = x + distance * across - (0.0 if across > 0.2 else width if across < -0.2 else width / 2)
            middle = y + distance * down
            box = Box(left, middle - LINE / 2, left + width, middle + LINE / 2)
            cost = sum(box.overlap(other) for other in near) * 3 + box.outside(frame) * 100 + distance
            if best is None or cost < best[0]:
                best = cost, box, distance
        if best is not None and best[0] <= distance:
            break
    assert best is not None
    return best[1], best[2]
