"""YAML as AlignMerge reads it: one small document of plain data, and nothing that surprises.

Notable decisions:
- Scalars follow the YAML 1.2 core schema, not 1.1: `no`, `on` and `2026-01-01` are text, and `1e-3` is 0.001.
- NaN and infinity are refused (`nan > limit` is false, so a gate would pass on them).
- Duplicate keys, anchors, aliases, tags and merge keys are refused: each lets a file mean something else
  than a reader sees.
- The tree is built from parser events with a depth limit, so hostile nesting cannot exhaust the stack.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from alignmerge.errors import AlignMergeError, StorageError, UsageError

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 40
MAX_INTEGER_DIGITS = 18

Location = tuple[str | int, ...]

_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF|nan|NaN|NAN)")
_WORDS: dict[str, Any] = {"": None, "~": None} | {
    spelling: value
    for word, value in (("null", None), ("true", True), ("false", False))
    for spelling in (word, word.capitalize(), word.upper())
}


@dataclass(frozen=True)
class Document:
    """A parsed YAML file: the plain value and the line (from 1) on which each part of it starts."""

    path: Path
    value: Any
    lines: dict[Location, int] = field(repr=False)

    def where(self, location: Location) -> str:
        """`file:line` of the part at `location`, or of the nearest enclosing part that has a line."""
        while location and location not in self.lines:
            location = location[:-1]
        return f"{self.path}:{self.lines.get(location, 1)}"


def load(path: Path, error: type[AlignMergeError] = UsageError, limit_bytes: int = MAX_BYTES) -> Any:
    """The plain value (dict, list, str, int, float, bool, None) of the YAML file at `path`.

    Raises:
        StorageError: the file cannot be read.
        error: the file is not one strict YAML document; the message starts with `file:line`.
    """
    return load_document(path, error, limit_bytes).value


def load_document(path: Path, error: type[AlignMergeError] = UsageError, limit_bytes: int = MAX_BYTES) -> Document:
    """The same as `load`, together with the line of every part."""
    try:
        if not path.is_file():
            raise error(f"{path}: not a file")
        with path.open("rb") as handle:
            data = handle.read(limit_bytes + 1)
    except OSError as problem:
        raise StorageError(f"{path}: cannot be read: {problem.strerror}") from None
    if len(data) > limit_bytes:
        raise error(f"{path}: larger than {limit_bytes} bytes")
    return parse(data, path, error)


def parse(data: bytes, path: Path, error: type[AlignMergeError] = UsageError) -> Document:
    """The document in `data`; `path` is only named in messages."""
    try:
        text = data.decode("utf-8-sig")
        builder = _Builder(path, error, yaml.parse(text, Loader=yaml.SafeLoader))
        return Document(path, builder.document(), builder.lines)
    except UnicodeDecodeError as problem:
        raise error(f"{path}: not UTF-8 at byte {problem.start}") from None
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        raise error(f"{path}:{mark.line + 1 if mark else 1}: not valid YAML: {problem.problem}") from None
    except yaml.YAMLError as problem:
        raise error(f"{path}: not valid YAML: {' '.join(str(problem).split())}") from None


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


class _Builder:
    """Turns parser events into plain values; one use."""

    def __init__(self, path: Path, error: type[AlignMergeError], events: Iterator[yaml.Event]) -> None:
        self._path, self._error, self._events = path, error, events
        self.lines: dict[Location, int] = {}

    def _refuse(self, event: yaml.Event, message: str) -> AlignMergeError:
        return self._error(f"{self._path}:{_line(event)}: {message}")

    def document(self) -> Any:
        value, seen = None, False
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if seen:
                    raise self._refuse(event, "a second YAML document; only one is read")
                seen = True
                value = self._node(next(self._events), ())
        if not seen:
            raise self._error(f"{self._path}: empty file")
        return value

    def _plain(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise self._refuse(event, "anchors (&) and aliases (*) are not used here; write the value out")
        if getattr(event, "tag", None) is not None:
            raise self._refuse(event, f"tags are not used here: {getattr(event, 'tag', None)}")

    def _node(self, event: yaml.Event, location: Location) -> Any:
        self._plain(event)
        if len(location) > MAX_DEPTH:
            raise self._refuse(event, f"nested deeper than {MAX_DEPTH} levels")
        self.lines.setdefault(location, _line(event))
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(location)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(location)
        assert isinstance(event, yaml.ScalarEvent)
        return self._scalar(event)

    def _mapping(self, location: Location) -> dict[str, Any]:
        out: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            self._plain(event)
            key = self._scalar(event) if isinstance(event, yaml.ScalarEvent) else None
            if not isinstance(key, str):
                raise self._refuse(event, "a key must be text")
            if key == "<<":
                raise self._refuse(event, "merge keys (<<) are not used here; write the keys out")
            if key in out:
                raise self._refuse(event, f"duplicate key {key!r}, first on line {self.lines[(*location, key)]}")
            self.lines[(*location, key)] = _line(event)
            out[key] = self._node(next(self._events), (*location, key))
        return out

    def _sequence(self, location: Location) -> list[Any]:
        out: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            out.append(self._node(event, (*location, len(out))))
        return out

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        text: str = event.value
        if event.style is not None:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _NOT_FINITE.fullmatch(text):
            raise self._refuse(event, f"{text} is not a number here")
        if _INTEGER.fullmatch(text):
            if len(text.lstrip("+-0")) > MAX_INTEGER_DIGITS:
                raise self._refuse(event, f"integer of more than {MAX_INTEGER_DIGITS} digits")
            return int(text)
        if _FLOAT.fullmatch(text):
            value = float(text)
            if value in (float("inf"), float("-inf")):
                raise self._refuse(event, f"{text} is too large for a number")
            return value
        return text
