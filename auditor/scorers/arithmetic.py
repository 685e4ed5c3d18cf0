r"""Whether the final number of an answer is the right one: 1 or 0.

The final number stands after the last "answer is", "answer:", "####" or "\boxed{" where there is one (after the last
"=" of that sentence, if it holds one), and is the last number of the text otherwise. An answer cut off by the token
limit is right only through such a marker: its last number may be a step on the way. No number is a wrong answer.
"""

import re
from decimal import Decimal

from alignmerge.auditor.engines.base import Completion
from alignmerge.auditor.scorers.base import Score, Scorer, shorten, yes_no
from alignmerge.auditor.scorers.numbers import ascii_digits, numbers, reference_number
from alignmerge.suites.model import Item

MARKERS = ("answer is", "answer:", "####", "\\boxed{")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n|\}")


def final_number(text: str, cut_off: bool = False) -> Decimal | None:
    """The number an answer ends in, or None when there is none to read."""
    text = ascii_digits(shorten(text))
    lower = text.lower()
    place = max(lower.rfind(marker) for marker in MARKERS) if len(lower) == len(text) else -1
    if place >= 0:
        start = place + next(len(marker) for marker in MARKERS if lower.startswith(marker, place))
        stated = _stated(text, start, cut_off)
        if stated is not None:
            return stated
    if cut_off:
        return None
    found = numbers(text)
    return found[-1].value if found else None


def _stated(text: str, start: int, cut_off: bool) -> Decimal | None:
    end = _SENTENCE_END.search(text, start)
    sentence = text[start : end.start() if end else len(text)]
    tail = sentence[sentence.rfind("=") + 1 :]
    found = numbers(tail)
    if not found or (cut_off and end is None and found[0].end == len(tail)):
        return None  # no number, or one whose last digits may be missing
    return found[0].value


def _score(item: Item, completion: Completion) -> Score:
    wanted = reference_number(item.reference.get("answer"))
    if wanted is None:
        return Score(unscored="the item's reference holds no number 'answer'")
    got = final_number(completion.text, completion.finish == "length")
    return yes_no(got is not None and got == wanted)


ARITHMETIC = Scorer("arithmetic", "higher", "rate", _score)
