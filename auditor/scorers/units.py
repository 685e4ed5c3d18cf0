"""Whether an answer gives the right amount in the unit asked for: 1 or 0.

Of all numbers that stand right before the asked unit (or after its sign, as in $24), the last one counts and must be
within 1 % of the reference. A number without its unit is wrong: the unit was asked for. So is an answer cut off by the
token limit: what it has said so far is the question, or a step on the way.
"""

import re
from decimal import Decimal

from alignmerge.auditor.engines.base import Completion
from alignmerge.auditor.scorers.base import Score, Scorer, shorten, yes_no
from alignmerge.auditor.scorers.numbers import Found, ascii_digits, numbers, reference_number
from alignmerge.suites.model import Item

TOLERANCE = Decimal("0.01")

# Short and other spellings of units whose full name differs from them by more than a plural ending.
ALIASES: dict[str, tuple[str, ...]] = {
    "amperes": ("a", "amp", "amps"),
    "centimeters": ("cm", "centimetres", "centimetre"),
    "days": ("d",),
    "decibels": ("db",),
    "feet": ("foot", "ft", "'"),
    "gallons": ("gal",),
    "gigabytes": ("gb",),
    "grams": ("g", "grammes"),
    "hertz": ("hz",),
    "hours": ("h", "hr", "hrs"),
    "inches": ("inch", "in", '"'),
    "kilograms": ("kg", "kgs", "kilos"),
    "kilometers": ("km", "kilometres", "kilometre"),
    "knots": ("kn", "kt", "kts"),
    "liters": ("l", "litres", "litre"),
    "megabytes": ("mb",),
    "meters": ("m", "metres", "metre"),
    "milliliters": ("ml", "millilitres", "millilitre"),
    "millivolts": ("mv",),
    "minutes": ("min", "mins"),
    "mph": ("miles per hour",),
    "ounces": ("oz",),
    "pints": ("pt",),
    "pounds": ("lb", "lbs"),
    "quarts": ("qt",),
    "seconds": ("s", "sec", "secs"),
    "tablespoons": ("tbsp",),
    "volts": ("v",),
    "watts": ("w",),
}
SIGNS: dict[str, str] = {"dollars": "$", "cents": "\u00a2", "pounds": "\u00a3"}

_BETWEEN = re.compile(r"[ \t\u00a0*_-]{0,3}")


def spellings(unit: str) -> tuple[str, ...]:
    """How `unit` may be written, longest first, in lower case."""
    unit = unit.lower()
    single = unit.removesuffix("es") if unit.endswith(("xes", "shes", "ches")) else unit.removesuffix("s")
    return tuple(sorted({unit, single, *ALIASES.get(unit, ())}, key=len, reverse=True))


def _has_unit(text: str, found: Found, unit: str) -> bool:
    sign = SIGNS.get(unit)
    if sign and (text[: found.start].rstrip().endswith(sign) or text[found.end :].lstrip().startswith(sign)):
        return True
    gap = _BETWEEN.match(text, found.end)
    start = gap.end() if gap else found.end
    for name in spellings(unit):
        if text.startswith(name, start) and not text[start + len(name) : start + len(name) + 1].isalnum():
            return True
    return False


def amount(text: str, unit: str) -> Decimal | None:
    """The last number of `text` given in `unit`, or None."""
    text = ascii_digits(shorten(text)).lower()
    given = [found for found in numbers(text) if _has_unit(text, found, unit.lower())]
    return given[-1].value if given else None


def _score(item: Item, completion: Completion) -> Score:
    wanted, unit = reference_number(item.reference.get("answer")), item.reference.get("unit")
    if wanted is None or not isinstance(unit, str) or not unit:
        return Score(unscored="the item's reference holds no number 'answer' with a 'unit'")
    got = None if completion.finish == "length" else amount(completion.text, unit)
    return yes_no(got is not None and abs(got - wanted) <= TOLERANCE * abs(wanted))


UNITS = Scorer("units", "higher", "rate", _score)
