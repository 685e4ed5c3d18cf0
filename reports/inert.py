"""Text that stays text in Markdown, and the tables and lists that are made of it."""

import re
from collections.abc import Iterable, Sequence

from alignmerge.reports.text import clean

_ACTIVE = frozenset("\\`*_{}[]<>&#+!|~@$^")
ALIGN = {"left": "---", "right": "---:"}


def inert(text: str) -> str:
    """`text` on one line with everything that Markdown or HTML would act on as character references."""
    shown = "".join(f"&#{ord(char)};" if char in _ACTIVE else char for char in clean(" ".join(text.split())))
    shown = re.sub(r":(?=//)", "&#58;", shown)  # bare addresses become links
    shown = re.sub(r"(?i)\b(www)\.", r"\1&#46;", shown)
    return re.sub(r"(?i)\b(mailto|xmpp|javascript|data):", r"\1&#58;", shown)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> list[str]:
    """The lines of a Markdown table and an empty one; columns from `text_columns` on are set to the right.

    Neither head nor cells need be inert. A table without rows is nothing.
    """
    marks = [ALIGN["left" if index < text_columns else "right"] for index in range(len(head))]
    lines = [f"| {' | '.join(inert(cell) if cell else '' for cell in row)} |" for row in rows]
    return [f"| {' | '.join(map(inert, head))} |", f"| {' | '.join(marks)} |", *lines, ""] if lines else []


def bullets(rows: Iterable[tuple[str, str]]) -> list[str]:
    """One line per lead (in bold, left out where empty) and text, and an empty one; nothing without rows."""
    lines = [f"- **{inert(lead)}**: {inert(text)}" if lead else f"- {inert(text)}" for lead, text in rows]
    return [*lines, ""] if lines else []


def section(title: str, *parts: Sequence[str]) -> list[str]:
    """The parts under a heading; nothing where all of them are empty."""
    lines = [line for part in parts for line in part]
    return [f"## {title}", "", *lines] if lines else []
