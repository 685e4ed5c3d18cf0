"""The frontier as SVG: mean skill over the share of the anchor's refusals kept, one line and band per family."""

from collections.abc import Mapping, Sequence
from html import escape

from benchmarks.study.frontier import SHARES, Curve

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 560, 20, 350
# Told apart without colour too: each family has its own dash.
STYLES = (
    ("#1f5fa8", ""),
    ("#b3541e", "7 4"),
    ("#3d7a3d", "2 3"),
    ("#7a3d7a", "10 3 2 3"),
    ("#555555", "1 4"),
    ("#8a6d00", "12 3 2 3 2 3"),
    ("#a3235f", "5 2"),
)


def frontier(curves: Mapping[str, Curve]) -> str:
    """The drawing as text; families in the order given.

    Raises:
        ValueError: more families than styles.
    """
    every = [value for one in curves.values() for value in (*one.low, *one.high)]
    low, high = _ends(every)
    parts = [*_axes(low, high)]
    labels: list[tuple[float, str, str]] = []
    for (name, curve), (colour, dash) in zip(curves.items(), STYLES[: len(curves)], strict=True):
        band = [*zip(SHARES, curve.low, strict=True), *reversed(list(zip(SHARES, curve.high, strict=True)))]
        parts.append(f'<polygon points="{_points(band, low, high)}" fill="{colour}" fill-opacity="0.12"/>')
        line = _points(list(zip(SHARES, curve.skill, strict=True)), low, high)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>')
        for share, skill in curve.points:
            if SHARES[0] <= share <= SHARES[-1] and low <= skill <= high:
                x, y = _place(share, skill, low, high)
                parts.append(f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>')
        labels.append((_place(SHARES[-1], curve.skill[-1], low, high)[1], name, colour))
    parts += _labels(labels)
    title = f"Mean skill over the share of the anchor's refusals: {', '.join(curves)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12">\n<title>{escape(title)}</title>\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _ends(every: Sequence[float]) -> tuple[float, float]:
    low, high = int(min(every) * 20) / 20, (int(max(every) * 20) + 1) / 20
    return low, high


def _place(share: float, skill: float, low: float, high: float) -> tuple[float, float]:
    x = LEFT + (share - SHARES[0]) / (SHARES[-1] - SHARES[0]) * (RIGHT - LEFT)
    return round(x, 1), round(BOTTOM - (skill - low) / (high - low) * (BOTTOM - TOP), 1)


def _points(spots: Sequence[tuple[float, float]], low: float, high: float) -> str:
    return " ".join("{},{}".format(*_place(share, skill, low, high)) for share, skill in spots)


def _axes(low: float, high: float) -> list[str]:
    out = []
    for step in range(round((high - low) * 20) + 1):
        value = low + step / 20
        y = _place(SHARES[0], value, low, high)[1]
        out.append(f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}" stroke="#e2e2e2"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end" fill="#333">{value:.2f}</text>')
    for share in SHARES[::5]:
        x = _place(share, low, low, high)[0]
        out.append(f'<text x="{x}" y="{BOTTOM + 18}" text-anchor="middle" fill="#333">{share:.0%}</text>')
    middle = (LEFT + RIGHT) / 2
    out.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle" fill="#333">refusals kept</text>')
    out.append(f'<text x="{LEFT}" y="{TOP - 7}" fill="#333">mean skill</text>')
    return out


def _labels(labels: Sequence[tuple[float, str, str]]) -> list[str]:
    """Names at the lines' right ends, moved down where they would cover each other."""
    out, last = [], float("-inf")
    for y, name, colour in sorted(labels):
        last = max(y + 4, last + 15)
        out.append(f'<text x="{RIGHT + 8}" y="{round(last, 1)}" fill="{colour}">{escape(name)}</text>')
    return out
