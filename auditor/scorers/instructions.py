"""Whether an answer keeps every format constraint of its item: 1 or 0.

A new kind of constraint is one function with `@verifier("kind")` and its arguments in suites/constraints.py. One that
nobody can verify leaves the item unscored, whatever the answer. An answer cut off by the token limit keeps no
constraint: it is no complete answer.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from alignmerge.auditor.engines.base import Completion
from alignmerge.auditor.scorers.base import Score, Scorer, shorten, yes_no
from alignmerge.suites.constraints import constraint_fault
from alignmerge.suites.model import Item

Verifier = Callable[[str, Mapping[str, Any]], bool]
VERIFIERS: dict[str, Verifier] = {}

_NUMBERED = re.compile(r"^\s{0,8}(\d{1,3})[.)]\s", re.MULTILINE)
_BULLET = re.compile(r"^\s{0,8}[-*\u2022\u2013]\s", re.MULTILINE)
_SENTENCE = re.compile(r"[.!?]+(?=[\"')\]\u201d\u2019]*(?:\s|$))")
_TITLE = re.compile(r"<<[^<>\n]{1,200}>>")
_STRAIGHT = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"'})


def verifier(kind: str) -> Callable[[Verifier], Verifier]:
    """Register the decorated function for constraints of `kind`."""

    def register(function: Verifier) -> Verifier:
        if kind in VERIFIERS:
            raise ValueError(f"constraint kind {kind!r} is registered twice")
        VERIFIERS[kind] = function
        return function

    return register


def _plain(text: str) -> str:
    return text.translate(_STRAIGHT).casefold().strip()


@verifier("all_upper")
def all_upper(text: str, constraint: Mapping[str, Any]) -> bool:
    """Letters, and none in lower case."""
    return text.upper() == text and text.lower() != text


@verifier("all_lower")
def all_lower(text: str, constraint: Mapping[str, Any]) -> bool:
    """Letters, and none in upper case."""
    return text.lower() == text and text.upper() != text


@verifier("numbered_list")
def numbered_list(text: str, constraint: Mapping[str, Any]) -> bool:
    """Lines numbered 1 to n, "1." or "1)"."""
    found = [int(number) for number in _NUMBERED.findall(text + "\n")]
    return found == list(range(1, constraint["n"] + 1))


@verifier("bullets")
def bullets(text: str, constraint: Mapping[str, Any]) -> bool:
    """Exactly n lines that start with -, * or a bullet."""
    return len(_BULLET.findall(text + "\n")) == int(constraint["n"])


@verifier("json_keys")
def json_keys(text: str, constraint: Mapping[str, Any]) -> bool:
    """One JSON object that has all the keys, alone or in a code fence."""
    body = text.strip()
    if body.startswith("```") and body.endswith("```"):
        body = body.removeprefix("```").removeprefix("json").removesuffix("```")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and all(key in value for key in constraint["keys"])


@verifier("ends_with")
def ends_with(text: str, constraint: Mapping[str, Any]) -> bool:
    """The last characters are the phrase, whatever its case."""
    return _plain(text).endswith(_plain(constraint["phrase"]))


@verifier("starts_with")
def starts_with(text: str, constraint: Mapping[str, Any]) -> bool:
    """The first characters are the phrase, whatever its case."""
    return _plain(text).startswith(_plain(constraint["phrase"]))


@verifier("word_count")
def word_count(text: str, constraint: Mapping[str, Any]) -> bool:
    """At least one word and at most `max`."""
    return 0 < len(text.split()) <= int(constraint["max"])


@verifier("min_words")
def min_words(text: str, constraint: Mapping[str, Any]) -> bool:
    """At least `min` words."""
    return len(text.split()) >= int(constraint["min"])


@verifier("quoted")
def quoted(text: str, constraint: Mapping[str, Any]) -> bool:
    """The whole answer inside one pair of double quotation marks."""
    body = text.translate(_STRAIGHT).strip()
    return len(body) > 2 and body[0] == body[-1] == '"' and bool(body[1:-1].strip())


@verifier("no_commas")
def no_commas(text: str, constraint: Mapping[str, Any]) -> bool:
    """Words, and no comma between them."""
    return "," not in text and bool(text.strip())


@verifier("contains")
def contains(text: str, constraint: Mapping[str, Any]) -> bool:
    """The word stands in the answer exactly `times` times, whatever its case."""
    pattern = rf"(?<!\w){re.escape(_plain(constraint['word']))}(?!\w)"
    return len(re.findall(pattern, _plain(text))) == int(constraint["times"])


@verifier("title_brackets")
def title_brackets(text: str, constraint: Mapping[str, Any]) -> bool:
    """A title inside << and >>."""
    return _TITLE.search(text) is not None


@verifier("sentences")
def sentences(text: str, constraint: Mapping[str, Any]) -> bool:
    """Exactly n sentences: stretches that end in ., ! or ?; a last one without an end counts too."""
    body = text.strip()
    parts = [part for part in _SENTENCE.split(body) if part.strip("\"')] \n\u201d\u2019")]
    return len(parts) == int(constraint["n"])


def _score(item: Item, completion: Completion) -> Score:
    constraints = item.reference.get("constraints")
    if not isinstance(constraints, list | tuple) or not constraints:
        return Score(unscored="the item's reference holds no constraints")
    for constraint in constraints:
        if fault := constraint_fault(constraint):
            return Score(unscored=fault)
    if completion.finish == "length":
        return yes_no(False)
    text = shorten(completion.text)
    return yes_no(all(VERIFIERS[constraint["kind"]](text, constraint) for constraint in constraints))


INSTRUCTIONS = Scorer("instructions", "higher", "rate", _score)
