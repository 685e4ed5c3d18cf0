"""items.jsonl: rows of item scores in their canonical form, read and written at the speed that 100,000 of them need.

Rows are parsed many at a time. Those that are written as we write rows have each key once and stand one on a line, so
only others go through the strict reader, one by one; and the digest of a file of such rows, in order, need not be
worked out again.
"""

import gc
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from json.encoder import encode_basestring as quoted
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from alignmerge import jsonio
from alignmerge.errors import IntegrityError, RecordError, StorageError

if TYPE_CHECKING:
    from alignmerge.auditor.record import ItemScore

T = TypeVar("T")
BATCH = 500  # rows parsed at once: most of what that saves, and no memory to speak of


class Rows(tuple["ItemScore", ...]):
    """Rows read from a file in canonical form and order; `sha256` is that of the file, and so of the rows."""

    sha256: str

    def __new__(cls, rows: Sequence["ItemScore"], sha256: str) -> "Rows":
        made = super().__new__(cls, rows)
        made.sha256 = sha256
        return made


def line(row: "ItemScore") -> bytes:
    """The row as canonical JSON without a line's end: what `jsonio.canonical` gives; a note only if it has one."""
    return _text(row).encode()


def _text(row: "ItemScore") -> str:
    value = "null" if row.value is None else repr(float(row.value))
    unscored = "null" if row.unscored is None else quoted(row.unscored)
    note = "" if row.note is None else f'"note":{quoted(row.note)},'
    return (
        f'{{"answer":{quoted(row.answer)},"category":{quoted(row.category)},"finish":{quoted(row.finish)},'
        f'"item":{quoted(row.item)},"metric":{quoted(row.metric)},{note}"prompt":{quoted(row.prompt)},'
        f'"suite":{quoted(row.suite)},"unscored":{unscored},"value":{value}}}'
    )


def place(row: "ItemScore") -> tuple[str, str, str]:
    """What rows are ordered by."""
    return row.metric, row.suite, row.item


def content(rows: Sequence["ItemScore"]) -> bytes:
    """The content of items.jsonl: rows sorted by metric, suite and item id, one canonical JSON object per line."""
    return b"".join(line(row) + b"\n" for row in sorted(rows, key=place))


def digest(rows: Sequence["ItemScore"]) -> str:
    """SHA-256 of the rows' content."""
    return rows.sha256 if isinstance(rows, Rows) else hashlib.sha256(content(rows)).hexdigest()


@contextmanager
def without_cycles() -> Iterator[None]:
    """Nothing; inside, nobody searches for reference cycles: rows are in none, and a search walks all of them."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def read(
    path: Path,
    sha256: str,
    parse: Callable[[bytes, str], "ItemScore"],
    parse_all: Callable[[bytes, str], Sequence["ItemScore"]],
) -> tuple["ItemScore", ...]:
    """The rows in the file at `path`, whose content must have this SHA-256.

    parse: one line, and where it is. parse_all: a JSON array of rows, and where it is.

    Raises:
        IntegrityError: it is another file, or there is none.
        RecordError: from `parse`, or a line that is not strict JSON.
        StorageError: it cannot be read.
    """
    rows: list[ItemScore] = []
    canonical, found = True, hashlib.sha256()
    try:
        if path.is_file():
            with path.open("rb") as file:  # the digest first: nothing is parsed that was changed
                for block in iter(lambda: file.read(1 << 20), b""):
                    found.update(block)
        if found.hexdigest() != sha256:
            raise IntegrityError(f"{path}: not the items that audit.json names; restore it or audit again")
        if not path.is_file():
            return ()
        with path.open("rb") as file, without_cycles():
            while texts := list(islice(file, BATCH)):
                batch = _written(texts, str(path), parse_all)
                if batch is None:
                    canonical = False
                    batch = [_row(text, f"{path}:{len(rows) + at}", parse) for at, text in enumerate(texts, start=1)]
                rows += batch
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from None
    places = [place(row) for row in rows] if canonical else []
    return Rows(rows, sha256) if canonical and places == sorted(places) else tuple(rows)


def _written(
    texts: Sequence[bytes], where: str, parse_all: Callable[[bytes, str], Sequence["ItemScore"]]
) -> Sequence["ItemScore"] | None:
    """The rows of these lines, if they are exactly what we write for those rows; else None."""
    try:
        rows = parse_all(b"[" + b",".join(texts) + b"]", where)
    except RecordError:
        return None  # the reader of single lines says which, and what is wrong with it
    written = "".join([_text(row) + "\n" for row in rows]).encode()
    return rows if written == b"".join(texts) else None


def _row(text: bytes, where: str, parse: Callable[[bytes, str], "ItemScore"]) -> "ItemScore":
    stripped = text.rstrip(b"\r\n")
    try:
        row = parse(stripped, where)
    except RecordError:
        jsonio.loads(stripped, where)  # its message where it is not JSON at all
        raise
    if line(row) + b"\n" != text:
        jsonio.loads(stripped, where)  # pydantic's own parser takes duplicate keys
    return row
