"""Rows of a local file: JSON Lines, JSON, CSV, Parquet or plain lines, each with the place it stands at.

Files are foreign: sizes are bounded, text must be UTF-8 (a byte-order mark and CRLF are taken), and every refusal names
file and line. The bytes that are parsed are the bytes whose SHA-256 is given.
"""

import csv
import hashlib
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from alignmerge import jsonio
from alignmerge.errors import RecordError, StorageError, UsageError

MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_ROWS = 1_000_000
ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".txt")


@dataclass(frozen=True)
class Row:
    """One row's columns, where it stands (`file:line`, or `file: row n`), and its number from 1."""

    place: str
    number: int
    values: dict[str, Any]
    file: str


@dataclass(frozen=True)
class Table:
    """All rows of a file, or of the files of a folder, and the SHA-256 that names them."""

    rows: tuple[Row, ...]
    sha256: str


def cell(row: Row, name: str) -> Any:
    """The value of a column, a JSON value; `a.b` looks inside objects, `a.0` inside lists.

    Raises:
        RecordError: the row has no such column, or it holds what JSON cannot (Parquet has bytes, dates and NaN).
    """
    value: Any = row.values
    for part in (name,) if name in row.values else name.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list | tuple) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise RecordError(f"{row.place}: has no column {name!r}")
    return _plain(value, f"{row.place}: column {name!r}")


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, list | tuple):
        return [_plain(one, where) for one in value]
    if isinstance(value, Mapping):
        return {key: _plain(one, where) for key, one in value.items()}
    if isinstance(value, Decimal):
        return written(value)
    if not isinstance(value, float):
        name = type(value).__name__
        raise RecordError(f"{where} holds {name if name == 'bytes' else f'a {name}'}; write a text or a number")
    if not math.isfinite(value):
        raise RecordError(f"{where} holds {value}, which is no number")
    return value


def written(number: int | float | Decimal) -> str:
    """A number as decimal text with all its digits, which scorers compare exactly."""
    text = f"{Decimal(str(number)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def read_table(path: Path, rows_key: str | None = None, files: str | None = None) -> Table:
    """The rows of a file, or of every file of a folder (of the pattern `files`) in the order of their names.

    `rows_key`: where a .json file is an object, the key that holds its list of rows. A .txt file has one row per line
    that is not empty, with the column `text`.

    Raises:
        StorageError: a file cannot be read.
        UsageError: its name does not end in a known format, or a folder holds no such file.
        RecordError: it is too large or malformed; the message names the line.
    """
    if path.is_dir():
        found = sorted(one for one in path.iterdir() if one.suffix in ENDINGS and fnmatchcase(one.name, files or "*"))
        if not found:
            raise UsageError(f"{path}: the folder holds no file {files or 'ending in ' + ', '.join(ENDINGS)}")
        tables = [_read_file(one, rows_key) for one in found]
        names = [[one.name, table.sha256] for one, table in zip(found, tables, strict=True)]
        return Table(tuple(row for table in tables for row in table.rows), jsonio.digest(names))
    return _read_file(path, rows_key)


def _read_file(path: Path, rows_key: str | None) -> Table:
    if path.suffix not in ENDINGS:
        raise UsageError(f"{path}: a suite's data is a file ending in {', '.join(ENDINGS)}")
    try:
        if not path.is_file():
            raise UsageError(f"{path}: no such file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise RecordError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from None
    if path.suffix == ".parquet":
        found = _parquet(data, path)
    else:
        text = _text(data, path)
        if path.suffix == ".csv":
            found = _csv(text, path)
        elif path.suffix == ".json":
            found = _json(text, path, rows_key)
        else:
            found = _lines(text, path)
    rows = []
    for place, number, values in found:
        if number > MAX_ROWS:
            raise RecordError(f"{place}: more than {MAX_ROWS} rows")
        rows.append(Row(place, number, values, path.stem))
    return Table(tuple(rows), hashlib.sha256(data).hexdigest())


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecordError(f"{path}:{line}: not UTF-8") from None


_Found = Iterator[tuple[str, int, dict[str, Any]]]


def _lines(text: str, path: Path) -> _Found:
    number = 0
    for count, line in enumerate(text.split("\n"), 1):
        body = line.removesuffix("\r")
        if not body.strip():
            continue
        number, place = number + 1, f"{path}:{count}"
        if path.suffix == ".txt":
            yield place, number, {"text": body}
            continue
        value = jsonio.loads(body, place)
        if not isinstance(value, dict):
            raise RecordError(f"{place}: a row must be an object with columns, not {_kind(value)}")
        yield place, number, value


def _json(text: str, path: Path, rows_key: str | None) -> _Found:
    value = jsonio.loads(text, str(path))
    if rows_key is not None:
        if not isinstance(value, dict) or rows_key not in value:
            raise RecordError(f"{path}: has no key {rows_key!r} with the rows")
        value = value[rows_key]
    if not isinstance(value, list):
        raise RecordError(f"{path}: holds {_kind(value)}, not a list of rows; name the key of the list with `rows:`")
    for number, row in enumerate(value, 1):
        if not isinstance(row, dict):
            raise RecordError(f"{path}: row {number}: a row must be an object with columns, not {_kind(row)}")
        yield f"{path}: row {number}", number, row


def _csv(text: str, path: Path) -> _Found:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    number = 0
    try:
        for cells in reader:
            place = f"{path}:{reader.line_num}"
            if not cells:
                continue
            if not header:
                header = cells
                if len(set(header)) < len(header) or not all(name.strip() for name in header):
                    raise RecordError(f"{place}: the header has an empty column name or one twice")
                continue
            if len(cells) != len(header):
                raise RecordError(f"{place}: {len(cells)} cells where the header has {len(header)}")
            number += 1
            yield place, number, {name: cell.replace("\r\n", "\n") for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise RecordError(f"{path}:{reader.line_num}: not valid CSV: {error}") from None


def _parquet(data: bytes, path: Path) -> _Found:
    import pyarrow
    from pyarrow import parquet

    try:
        # Without threads: while one of its own still runs, pyarrow now and then aborts the process at its end.
        table = parquet.ParquetFile(pyarrow.BufferReader(data), pre_buffer=False).read(use_threads=False)
        if table.num_rows > MAX_ROWS:
            raise RecordError(f"{path}: more than {MAX_ROWS} rows")
        rows = table.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise RecordError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
    for number, row in enumerate(rows, 1):
        yield f"{path}: row {number}", number, row


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
