"""Colours can be read: WCAG 2 contrast of every text and mark against what it lies on, in both colour schemes."""

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


def scheme(number: int) -> dict[str, tuple[int, int, int]]:
    """The variables of the first (light) or second (dark) :root block."""
    block = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)[number]
    found = re.findall(r"--([a-z-]+): #([0-9a-f]{6})", block)
    return {name: (int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)) for name, code in found}


def luminance(colour: tuple[int, int, int]) -> float:
    parts = [value / 255 for value in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("number", [0, 1], ids=["light", "dark"])
def test_text_and_marks_stand_out(number: int) -> None:
    colours = scheme(number)
    for text, ground in TEXT:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for mark, ground in MARKS:
        assert contrast(colours[mark], colours[ground]) >= 3.0, (mark, ground)


def test_black_on_white_is_twenty_one() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21.0)
