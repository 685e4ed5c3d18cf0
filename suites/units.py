"""Unit conversions with whole factors, and quantities read off a one-line note.

Reference: {"answer": "24", "unit": "quarts"}: a number in decimal digits and the unit in the words of the prompt.
Example: "There are 4 quarts in each of the gallons. Give 6 gallons as quarts." -> "24 quarts"
"""

from functools import cache

from alignmerge.suites.draw import Draw
from alignmerge.suites.model import Item, Split, Suite
from alignmerge.suites.unit_tasks import CONVERSIONS, FRAMES, NOTES

PER_GIVEN: dict[Split, int] = {"train": 7, "calibration": 10, "validation": 10, "test": 8}
PER_ASKED: dict[Split, int] = {"train": 7, "calibration": 10, "validation": 10, "test": 8}
PER_NOTE: dict[Split, int] = {"train": 14, "calibration": 13, "validation": 16, "test": 16}


def _conversions(split: Split, style: str, count: int) -> list[Item]:
    out: list[Item] = []
    for number, (category, source, target, factor, low, high) in enumerate(CONVERSIONS[split]):
        draw = Draw(f"units/1/{split}/{style}/{number}")
        values = draw.sample(range(low, high + 1), min(count, high - low + 1))
        for turn, value in enumerate(values):
            prompt = FRAMES[split][style].format(v=value, f=source, to=target, k=factor)
            name = f"units/{split}/{style}/{number:02d}/{turn:02d}"
            reference = {"answer": str(value * factor), "unit": target}
            out.append(Item(name, prompt, f"{split}_{style}", category, split, reference=reference))
    return out


def _notes(split: Split) -> list[Item]:
    out: list[Item] = []
    for number, (category, note, question, unit, low, high) in enumerate(NOTES[split]):
        draw = Draw(f"units/1/{split}/note/{number}")
        for turn, value in enumerate(draw.sample(range(low, high + 1), PER_NOTE[split])):
            other = draw.integer(2, 99)
            while other == value:
                other = draw.integer(2, 99)
            text = note.format(q=value, x=other)
            prompt = FRAMES[split]["note"].format(note=text, question=question)
            name = f"units/{split}/note/{number:02d}/{turn:02d}"
            reference = {"answer": str(value), "unit": unit}
            out.append(Item(name, prompt, f"{split}_note_{number:02d}", category, split, reference=reference))
    return out


@cache
def items(split: Split) -> tuple[Item, ...]:
    """The tasks of a split: conversions with the factor given, without it, and notes."""
    given = _conversions(split, "given", PER_GIVEN[split])
    asked = _conversions(split, "asked", PER_ASKED[split])
    return (*given, *asked, *_notes(split))


SUITE = Suite(
    name="units",
    version="1",
    summary="Short unit conversions and quantities read off a note; the answer is a number and a unit.",
    items=items,
    metrics=("units_accuracy", "degeneration_rate"),
    max_new_tokens=24,
    ends=True,
)
