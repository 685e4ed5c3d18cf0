"""The choices of a likelihood item, read off its row or its prompt as a definition says."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alignmerge.errors import RecordError
from alignmerge.suites.definition import Choices
from alignmerge.suites.rows import Row, cell

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTERED = re.compile(r"^\((\w)\) ", re.MULTILINE)
_DASHED = re.compile(r"^- (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Options:
    """What may be answered, the place of the right one, and the options as a prompt lists them."""

    choices: tuple[str, ...]
    answer: int
    shown: str


def options_of(how: Choices, row: Row, question: str, category: str, answer: Any) -> Options | None:
    """The options of a row; None where the prompt lists one option only, or options that the answer is none of.

    (A few upstream rows are like that. They cannot be asked, and the suite counts them.)

    Raises:
        RecordError: fewer than two options, two of one text, or an answer that names none of the row's own.
    """
    if how.parse:
        return _parsed(how, row, question, category, answer)
    found = _found(how, row)
    texts = _texts(how, row, found)
    place = _place(how, row, texts, answer, number=_is_place(answer, found))
    shown = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, texts, strict=False))
    return Options(tuple(LETTERS[: len(texts)]) if how.letters else tuple(texts), place, shown)


def _found(how: Choices, row: Row) -> list[Any]:
    listed = how.column is not None and (how.column.split(".")[0] in row.values or not how.columns)
    return _list(row, str(how.column)) if listed else [cell(row, name) for name in how.columns]


def _is_place(answer: Any, found: Sequence[Any]) -> bool:
    """Whether an answer can only be a place: a number among choices that are all texts."""
    return type(answer) is int and all(isinstance(one, str) for one in found)


def _texts(how: Choices, row: Row, found: Sequence[Any]) -> list[str]:
    texts = [str(one) if isinstance(one, int | float) and not isinstance(one, bool) else one for one in found]
    if not 2 <= len(texts) <= len(LETTERS) or not all(isinstance(one, str) and one.strip() for one in texts):
        raise RecordError(f"{row.place}: {len(texts)} choices, or one that is no text; 2 to {len(LETTERS)} are needed")
    texts = [one.strip() for one in texts]
    if len(set(texts)) < len(texts) and not how.letters:
        raise RecordError(f"{row.place}: two choices have one text, so neither can be the right one alone")
    return texts


def _list(row: Row, name: str) -> list[Any]:
    """The values of a column that holds a list; a text (all that a CSV file has) is none, whatever is written in it."""
    value = cell(row, name)
    if not isinstance(value, list | tuple):
        raise RecordError(f"{row.place}: column {name!r} is {type(value).__name__}, not a list")
    return list(value)


def _place(how: Choices, row: Row, texts: Sequence[str], answer: Any, *, number: bool) -> int:
    """The place of the right choice: its label where choices have some, else its number from 0, its letter or its text.

    number: the answer is no text. Where a prompt lists texts after letters, the letters are the choices: a number or
    letter is then no text.
    """
    text = str(answer).strip()
    if how.labels:
        labels = [str(one) for one in _list(row, how.labels)]
        found = [labels.index(text)] if text in labels else []
    else:
        found = [int(text)] if text.isdecimal() and len(text) < 10 and int(text) < len(texts) else []
        found += [LETTERS.index(text)] if text in tuple(LETTERS[: len(texts)]) else []
        if text in texts and not (found and (how.letters or number)):
            found.append(texts.index(text))
    if not found:
        raise RecordError(f"{row.place}: the answer {text[:40]!r} is none of the {len(texts)} choices")
    if len(set(found)) > 1:
        first, other = (f"{LETTERS[one]} ({texts[one][:40]!r})" for one in found)
        way = "its letter" if text.isdecimal() else "its number, from 0"
        raise RecordError(f"{row.place}: the answer {text[:40]!r} names two choices, {first} and {other}; write {way}")
    return found[0]


def _parsed(how: Choices, row: Row, question: str, category: str, answer: Any) -> Options | None:
    options = how.fixed.get(category) or [f"({one})" for one in _LETTERED.findall(question)]
    options = options or [one.strip() for one in _DASHED.findall(question)]
    if not options or len(set(options)) < len(options):
        fault = "lists one option twice" if options else "lists no options; name them under `fixed`"
        raise RecordError(f"{row.place}: category {category!r}: the prompt {fault}")
    text = str(answer).strip()
    return Options(tuple(options), options.index(text), "") if text in options and len(options) > 1 else None
