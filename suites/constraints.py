"""What a format constraint says: its kind, and the arguments of that kind. auditor/scorers/instructions.py verifies it.

Example: {"kind": "contains", "word": "simple", "times": 2}
"""

import difflib
from collections.abc import Mapping
from typing import Any

_NUMBER, _TEXT, _TEXTS = "a whole number from 0", "a text", "a list of texts"
# Arguments by kind, and what each is.
KINDS: dict[str, dict[str, str]] = {
    "all_lower": {},
    "all_upper": {},
    "bullets": {"n": _NUMBER},
    "contains": {"word": _TEXT, "times": _NUMBER},
    "ends_with": {"phrase": _TEXT},
    "json_keys": {"keys": _TEXTS},
    "min_words": {"min": _NUMBER},
    "no_commas": {},
    "numbered_list": {"n": _NUMBER},
    "quoted": {},
    "sentences": {"n": _NUMBER},
    "starts_with": {"phrase": _TEXT},
    "title_brackets": {},
    "word_count": {"max": _NUMBER},
}


def constraint_fault(given: Any) -> str:
    """Why nobody can verify a constraint: a part is missing, unknown or of the wrong type; empty for a sound one."""
    kind = given.get("kind") if isinstance(given, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        near = difflib.get_close_matches(str(kind), KINDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(KINDS)}"
        return f"no constraint kind {kind!r}; {hint}"
    wanted = KINDS[kind]
    for name in given:
        if name not in ("kind", *wanted):
            return f"constraint {kind} has no argument {name!r}; it takes {', '.join(wanted) or 'none'}"
    for name, what in wanted.items():
        if name not in given:
            return f"constraint {kind} has no {name!r}, {what}"
        if not _is(given[name], what):
            return f"constraint {kind}: {name!r} is {given[name]!r}, not {what}"
    return ""


def _is(value: Any, what: str) -> bool:
    if what == _NUMBER:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if what == _TEXT:
        return isinstance(value, str) and bool(value.strip())
    return isinstance(value, list | tuple) and bool(value) and all(_is(one, _TEXT) for one in value)
