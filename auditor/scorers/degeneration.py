"""Whether an answer is broken as text: 1 empty, looping or (where answers should end) cut off; 0 sound.

Looping is one of three things. The answer has at least 12 words, and more than half of its word 3-grams occurred in it
before. More than half of its letters stand in long words that repeat themselves: the same share, of 16 characters with
a letter. Or something of up to 16 characters without blanks stands 40 times in a row. Short lists that repeat a word
("1 cup ... 1 cup") stay far below, and words of fewer than 40 characters ("hahaha", 1000000) are never looked into.
"""

import re
from collections.abc import Hashable, Sequence

from alignmerge.auditor.engines.base import Completion
from alignmerge.auditor.scorers.base import Score, Scorer, shorten, yes_no
from alignmerge.suites.model import Item

NGRAM = 3
MIN_WORDS = 12
MAX_REPEATED_SHARE = 0.5
# A long word, which in scripts without blanks may be a whole answer, and how much of it is taken at once.
LONG_WORD = 40
PIECE = 16
IN_A_ROW = re.compile(r"(\S{1,16}?)\1{39}")


def _repeated(parts: Sequence[Hashable]) -> float:
    return 1.0 - len(set(parts)) / len(parts) if parts else 0.0


def repeated_share(text: str) -> float:
    """Share of word 3-grams of `text` that occurred in it before, in [0, 1)."""
    words = text.lower().split()
    return _repeated([tuple(words[start : start + NGRAM]) for start in range(len(words) - NGRAM + 1)])


def looping_share(words: Sequence[str]) -> float:
    """Share of the characters of `words` that stand in a long word and repeat what it said before, in [0, 1).

    Pieces without a letter do not count: rules of dashes, table borders, thousands and periods of a fraction repeat.
    """
    found = 0.0
    for word in words:
        if len(word) >= LONG_WORD:
            pieces = [word[start : start + PIECE] for start in range(len(word) - PIECE + 1)]
            found += len(word) * _repeated([piece for piece in pieces if any(map(str.isalpha, piece))])
    return found / sum(map(len, words)) if found else 0.0


def is_looping(text: str) -> bool:
    """Whether `text` mostly repeats itself, by words or inside long ones, or says one thing 40 times in a row."""
    text = shorten(text)
    words = text.split()
    if len(words) >= MIN_WORDS and repeated_share(text) > MAX_REPEATED_SHARE:
        return True
    if any(IN_A_ROW.search(word) for word in words if len(word) >= LONG_WORD):
        return True
    return looping_share(words) > MAX_REPEATED_SHARE


def degeneration(ends: bool) -> Scorer:
    """The scorer for a suite; with `ends`, an answer that reaches its token limit counts as broken."""

    def score(item: Item, completion: Completion) -> Score:
        cut_off = ends and completion.finish == "length"
        return yes_no(not completion.text.strip() or cut_off or is_looping(completion.text))

    return Scorer("degeneration", "lower", "rate", score)
