"""How many answers a page has room for: all of them on most pages, as many as fit on the largest.

A browser opens 5 MB at once as long as most of it is closed; charts, tables and provenance of a run with many merges
take up to 2 MB.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from markupsafe import escape

from alignmerge.reports.text import ANSWER_CHARACTERS, FIELD_CHARACTERS, clean

ANSWER_BYTES = 3_000_000
MARKUP_BYTES = 440  # of one pair of answers without its texts
REMARK_BYTES = 60  # of one remark of a judge, without its text
DIGEST_BYTES = 50  # what stands for a text that is withheld may be longer than the text

Drafted = TypeVar("Drafted")
Built = TypeVar("Built")


def cost(answers: Iterable[str], fields: Iterable[str], remarks: int) -> int:
    """At most so many bytes does a pair with these texts take, shown or withheld; `fields` are never withheld."""
    long = sum(max(_printed(text, ANSWER_CHARACTERS), DIGEST_BYTES) for text in answers)
    return MARKUP_BYTES + remarks * REMARK_BYTES + long + sum(_printed(text, FIELD_CHARACTERS) for text in fields)


def _printed(text: str, limit: int) -> int:
    return len(escape(clean(clean(text, limit))).encode())  # twice, as a filter and on its way out


def allot(
    groups: Sequence[Sequence[Drafted]], build: Callable[[Drafted], tuple[Built, int]], room: int
) -> list[list[Built]]:
    """The first ones of every group, built, as many as `room` bytes hold; `build` gives each with what it costs.

    Groups take turns, so that a small one is whole before a large one fills the page.
    """
    kept: list[list[Built]] = [[] for _ in groups]
    waiting = [index for index, group in enumerate(groups) if group]
    while waiting:
        still = []
        for index in waiting:
            built, taken = build(groups[index][len(kept[index])])
            if taken > room:
                continue
            room -= taken
            kept[index].append(built)
            if len(kept[index]) < len(groups[index]):
                still.append(index)
        waiting = still
    return kept
