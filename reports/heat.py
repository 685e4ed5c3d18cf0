"""A heat map of what each contributor spends in each layer."""

from collections.abc import Mapping, Sequence

from alignmerge.reports.drawing import WIDTH, Drawing, Label, Mark, Rect, short_names
from alignmerge.reports.text import number

STEPS = 8
LEFT, RIGHT, TOP, ROW = 96.0, WIDTH - 52, 8.0, 22.0
OTHER = "other"


def heat_map(key: str, title: str, rows: Sequence[str], shares: Mapping[tuple[str, int | None], float]) -> Drawing:
    """Contributors down, layers across, then what lies outside the layers; all cells on one scale.

    `shares` are in nats per token by (contributor, layer). A cell that takes drift back carries a minus sign, so the
    hue is not the only sign. The sum of each row stands at its end.
    """
    layers: list[int | None] = [*sorted({layer for _, layer in shares if layer is not None})]
    layers += [None] if any(layer is None for _, layer in shares) else []
    most = max((abs(share) for share in shares.values()), default=0.0)
    slot = (RIGHT - LEFT) / max(len(layers), 1)
    bottom = TOP + ROW * len(rows)
    marks: list[Mark] = []
    for down, (name, shown) in enumerate(zip(rows, short_names(rows, 15), strict=True)):
        y = TOP + ROW * down
        marks.append(Label(0, y + 15, shown, "start", "label"))
        for across, layer in enumerate(layers):
            share = shares.get((name, layer), 0.0)
            marks += _cell(LEFT + slot * across, y, slot, share, most, f"{name}, {_place(layer)}: {number(share, 4)}")
        total = sum(share for (one, _), share in shares.items() if one == name)
        marks.append(Label(WIDTH, y + 15, number(total, 4), "end", "tick"))
    marks += _axis(layers, slot, bottom)
    words = "; ".join(f"{name} {number(sum(v for (one, _), v in shares.items() if one == name), 4)}" for name in rows)
    return Drawing(key, title, f"nats per token by contributor: {words}", bottom + 40, tuple(marks))


def _place(layer: int | None) -> str:
    return OTHER if layer is None else f"layer {layer}"


def _cell(x: float, y: float, slot: float, share: float, most: float, tip: str) -> list[Mark]:
    step = round(abs(share) / most * STEPS) if most > 0 else 0
    css = f"heat h{step} {'gives' if share < 0 else 'spends'}"
    marks: list[Mark] = [Rect(round(x, 1), y + 1, round(max(slot - 1, 0.5), 1), ROW - 2, css, tip)]
    if share < 0 and step:
        marks.append(Label(round(x + slot / 2, 1), y + 15, "\u2212", "middle", "tick halo"))
    return marks


def _axis(layers: Sequence[int | None], slot: float, bottom: float) -> list[Mark]:
    every = max(1, round(len(layers) / 10))
    marks: list[Mark] = []
    for across, layer in enumerate(layers):
        x = round(LEFT + slot * (across + 0.5), 1)
        if layer is None:
            marks.append(Label(x, bottom + 30, OTHER, "middle", "tick"))
        elif across % every == 0:
            marks.append(Label(x, bottom + 15, str(layer), "middle", "tick"))
    marks.append(Label((LEFT + RIGHT) / 2 - 20, bottom + 31, "layer", "middle", "axis"))
    marks.append(Label(WIDTH, bottom + 15, "nats/token", "end", "axis"))
    return marks
