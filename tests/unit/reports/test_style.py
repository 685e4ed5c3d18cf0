"""Colours can be read: WCAG 2 contrast of every text and mark on its ground, in both colour schemes and on paper."""

import re
from pathlib import Path

import pytest

CSS = (Path(__file__).resolve().parents[3] / "reports/templates/style.css").read_text(encoding="utf-8")
# text (4.5 to 1), what it lies on
TEXT = [
    ("ink", "page"),
    ("ink", "panel"),
    ("soft", "page"),
    ("soft", "panel"),
    ("link", "page"),
    ("link", "panel"),
    ("green", "pass-bg"),
    ("vermillion", "fail-bg"),
    ("vermillion", "page"),
    ("amber", "warn-bg"),
]
MARKS = [(name, "page") for name in ("blue", "vermillion", "green", "amber", "purple", "soft", "ink")]


ROOT = re.compile(r"(?:@media ([^{]*) \{\s*)?:root \{(.*?)\}", re.DOTALL)


def asked(query: str, medium: str, scheme: str) -> bool:
    """Whether a media query holds; it may name a medium and a colour scheme."""
    left = query.replace(f"(prefers-color-scheme: {scheme})", medium)
    return set(left.split(" and ")) <= {medium}


def palette(medium: str, scheme: str) -> dict[str, tuple[int, int, int]]:
    """The variables of every :root block that holds there, the later ones over the earlier."""
    out: dict[str, tuple[int, int, int]] = {}
    for query, block in ROOT.findall(CSS):
        if asked(query or medium, medium, scheme):
            found = re.findall(r"--([a-z-]+): #([0-9a-f]{6})", block)
            out |= {name: (int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)) for name, code in found}
    return out


def luminance(colour: tuple[int, int, int]) -> float:
    parts = [value / 255 for value in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("medium", ["screen", "print"])
def test_text_and_marks_stand_out(medium: str, scheme: str) -> None:
    colours = palette(medium, scheme)
    for text, ground in TEXT:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for mark, ground in MARKS:
        assert contrast(colours[mark], colours[ground]) >= 3.0, (mark, ground)


def test_paper_is_white_in_either_scheme_and_a_dark_screen_is_not() -> None:
    assert palette("print", "dark") == palette("print", "light")
    assert palette("print", "dark")["page"] == palette("screen", "light")["page"] == (255, 255, 255)
    assert luminance(palette("screen", "dark")["page"]) < 0.05


def test_black_on_white_is_twenty_one() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21.0)
