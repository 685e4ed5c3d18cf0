r"""The numbers in an answer, exactly as `Decimal`s.

What is read, and how:

| text | value | why |
|---|---|---|
| 1,000 and 1,000.5 | 1000 and 1000.5 | commas group three digits |
| 1.000,5 and 1,00 and 1_0 | none | another notation, or none at all: not guessed |
| $42, 60%, 7kg, -0 | 42, 60, 7, 0 | signs of money, percent and units stand beside the number |
| 5-3 | 5, 3 | a minus right after a digit or letter is subtraction |
| Arabic-Indic and full-width digits | their value | they are decimal digits |
| ², ½, nan, inf | none | not decimal digits |
| more than 40 characters | none | no answer is that long |
"""

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal

MAX_NUMBER_CHARACTERS = 40

_TOKEN = re.compile(r"(?:(?<![\w.,)])[-+])?\d[\d.,_]*")
_PLAIN = re.compile(r"[-+]?\d+(?:\.\d+)?")
_GROUPED = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")


@dataclass(frozen=True)
class Found:
    """A number-like stretch text[start:end] and its value, or None when it cannot be read."""

    start: int
    end: int
    value: Decimal | None


def ascii_digits(text: str) -> str:
    """`text` with every decimal digit of any script as 0-9, and every minus sign as "-"; the length stays the same."""
    if text.isascii():
        return text
    return "".join(
        str(unicodedata.decimal(char)) if char.isdecimal() else "-" if char in "\u2212\u2013" else char for char in text
    )


def numbers(text: str) -> list[Found]:
    """All number-like stretches of `text` (already through `ascii_digits`) in order."""
    found = []
    for match in _TOKEN.finditer(text):
        token = match.group().rstrip(".,_")
        end = match.start() + len(token)
        readable = len(token) <= MAX_NUMBER_CHARACTERS and (_PLAIN.fullmatch(token) or _GROUPED.fullmatch(token))
        found.append(Found(match.start(), end, Decimal(token.replace(",", "")) if readable else None))
    return found


def reference_number(value: object) -> Decimal | None:
    """The number a reference holds as decimal text, or None when it holds none."""
    if not isinstance(value, str):
        return None
    found = numbers(ascii_digits(value.strip()))
    return found[0].value if len(found) == 1 and found[0].end - found[0].start == len(value.strip()) else None
