"""Whether an answer is broken as text: 1 empty, looping or (where answers should end) cut off; 0 sound.

Looping: the answer has at least 12 words and its later part says nothing new, measured as the share of word 3-grams
that occurred before; above 0.5 it loops. Short lists that repeat a word ("1 cup ... 1 cup") stay far below.
"""

from alignmerge.auditor.engines.base import Completion
from alignmerge.auditor.scorers.base import Score, Scorer, shorten, yes_no
from alignmerge.suites.model import Item

NGRAM = 3
MIN_WORDS = 12
MAX_REPEATED_SHARE = 0.5
MAX_SAME_CHARACTER = 40


def repeated_share(text: str) -> float:
    """Share of word 3-grams of `text` that occurred in it before, in [0, 1)."""
    words = text.lower().split()
    grams = [tuple(words[start : start + NGRAM]) for start in range(len(words) - NGRAM + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


def is_looping(text: str) -> bool:
    """Whether `text` mostly repeats itself, by words or by one character."""
    text = shorten(text)
    run, last = 0, ""
    for char in text:
        run = run + 1 if char == last and not char.isspace() else 1
        last = char
        if run >= MAX_SAME_CHARACTER:
            return True
    return len(text.split()) >= MIN_WORDS and repeated_share(text) > MAX_REPEATED_SHARE


def degeneration(ends: bool) -> Scorer:
    """The scorer for a suite; with `ends`, an answer that reaches its token limit counts as broken."""

    def score(item: Item, completion: Completion) -> Score:
        cut_off = ends and completion.finish == "length"
        return yes_no(not completion.text.strip() or cut_off or is_looping(completion.text))

    return Scorer("degeneration", "lower", "rate", score)
