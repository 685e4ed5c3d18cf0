"""The ledger: what was merged, gated and approved, in order, in a file that is only ever appended to.

    FILE         one canonical JSON object per line: {"digest", "entry": {"seq", "previous", ...}, "signatures"}
    FILE.head    a signed Statement: how many entries there are and the digest of the last one

Every entry names the digest of the one before it, so an entry that is edited, removed, inserted or moved breaks the
chain. A chain alone cannot show that its end was cut off, or that all of it was written anew: the signed head does, as
long as the head itself, or the key's owner, is trusted. Without a key there is no head.

The head is written after its entry. A crash between the two leaves one signed entry beyond the head, which the next
signed append covers. So that this holds for the first signed entry too, a head is written before it: it counts what is
there, and where that is nothing it names the entry that is about to be first, so that it fits no other ledger.
"""

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from alignmerge import jsonio
from alignmerge.errors import IntegrityError, RecordError, StorageError, UsageError
from alignmerge.provenance import dsse
from alignmerge.provenance.keys import PublicKey, SigningKey
from alignmerge.provenance.statement import Statement, is_sha256, parse, read_bytes, read_signed, write_signed

SCHEMA = "alignmerge.ledger/1"
LEDGER_VARIABLE = "ALIGNMERGE_LEDGER"
FILE_NAME = "alignmerge-ledger.jsonl"
ENTRY_TYPE = "application/vnd.alignmerge.ledger-entry+json"
HEAD_TYPE = "https://alignmerge.dev/ledger-head/v1"
EVENTS = ("merge", "gate", "approve")
_START = "0" * 64
_MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Entry:
    """One thing that happened.

    subject: manifest digest it is about. parents: manifest digests by role ("anchor", "base", "expert-1"). decision:
    of the verdict, "ungated", or "approved". verdict: the in-toto Statement, whole, where there is one; its rules say
    what was spent. seq and previous: place in the chain, set when it is appended.
    """

    event: str
    subject: str
    name: str
    time: str
    decision: str
    parents: Mapping[str, str] = field(default_factory=dict)
    policy: str | None = None
    verdict: Mapping[str, Any] | None = None
    approval: Mapping[str, Any] | None = None
    seq: int = 0
    previous: str = _START

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the entry in canonical JSON."""
        return jsonio.digest(asdict(self))


@dataclass(frozen=True)
class Line:
    """An entry as it is stored."""

    entry: Entry
    signatures: tuple[dsse.Signature, ...]


@dataclass(frozen=True)
class Problem:
    """Something that does not hold; seq: the first entry that is known to be affected, 0 for the head."""

    seq: int
    text: str

    def __str__(self) -> str:
        return f"entry {self.seq}: {self.text}" if self.seq else self.text


def head_path(path: Path) -> Path:
    """Where the signed head of the ledger at `path` lies."""
    return path.with_name(f"{path.name}.head")


def read(path: Path) -> list[Entry]:
    """The entries of the ledger at `path`, whose chain holds. Signatures are not checked: see `verify`.

    Raises:
        StorageError: it cannot be read.
        IntegrityError: names the first entry at which the chain breaks.
    """
    lines, problem = _lines(path)
    if problem is not None:
        raise IntegrityError(f"{path}: {problem}")
    return [line.entry for line in lines]


def _lines(path: Path) -> tuple[list[Line], Problem | None]:
    """The lines up to the first that does not hold, and what is wrong with that one."""
    data = read_bytes(path, _MAX_BYTES)
    out: list[Line] = []
    texts = data.split(b"\n")
    for seq, text in enumerate(texts[:-1], start=1):
        previous = out[-1].entry.digest if out else _START
        try:
            line = _line(text, seq, previous)
        except RecordError as error:
            return out, Problem(seq, str(error))
        out.append(line)
    if texts[-1]:
        return out, Problem(len(out) + 1, "cut short, or written without its end")
    return out, None


def _line(text: bytes, seq: int, previous: str) -> Line:
    value = jsonio.loads(text, "line")
    if not isinstance(value, dict) or set(value) != {"digest", "entry", "schema", "signatures"}:
        raise RecordError("not a ledger entry")
    if value["schema"] != SCHEMA or jsonio.canonical(value) != text:
        raise RecordError(f"not a ledger entry of {SCHEMA} as it was written")
    entry = _entry(value["entry"])
    if entry.digest != value["digest"]:
        raise RecordError("its digest is not the digest of its content; it was edited")
    if entry.seq != seq:
        raise RecordError(f"is number {entry.seq} here; entries were removed, inserted or moved")
    if entry.previous != previous:
        raise RecordError("does not follow the entry before it; one of both was replaced")
    rows = value["signatures"]
    return Line(entry, _signatures(rows) if rows else ())


def _entry(value: Any) -> Entry:
    from pydantic import TypeAdapter, ValidationError

    try:
        entry = TypeAdapter(Entry).validate_json(jsonio.canonical(value), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"malformed: {place}: {first['msg']}") from None
    digests = [entry.subject, entry.previous, *entry.parents.values(), *([entry.policy] if entry.policy else [])]
    if entry.event not in EVENTS or not all(map(is_sha256, digests)):
        raise RecordError("malformed: an unknown event, or a digest that is not a SHA-256")
    return entry


def _signatures(rows: Any) -> tuple[dsse.Signature, ...]:
    return dsse.from_json({"payload": "", "payloadType": ENTRY_TYPE, "signatures": rows}, "line").signatures


def _envelope(line: Line) -> dsse.Envelope:
    return dsse.Envelope(ENTRY_TYPE, jsonio.canonical(asdict(line.entry)), line.signatures)


def verify(path: Path, key: PublicKey | None) -> tuple[list[Entry], list[Problem]]:
    """The entries that hold, from the first on, and what does not: of the chain, the signatures and the head.

    key: None checks the chain alone.

    Raises:
        StorageError: the ledger cannot be read.
    """
    lines, problem = _lines(path)
    problems = [problem] if problem is not None else []
    if key is not None:
        problems += _check_signatures(lines, key)
        problems += _check_head(path, lines, key, problem is None)
    return [line.entry for line in lines], sorted(problems, key=lambda one: (one.seq == 0, one.seq))


def _check_signatures(lines: Sequence[Line], key: PublicKey) -> list[Problem]:
    out = []
    for line in lines:
        if not line.signatures:
            out.append(Problem(line.entry.seq, "is not signed"))
            continue
        try:
            dsse.verify(_envelope(line), key, "its signature", ENTRY_TYPE)
        except IntegrityError as error:
            out.append(Problem(line.entry.seq, str(error)))
    return out


def _check_head(path: Path, lines: Sequence[Line], key: PublicKey, whole: bool) -> list[Problem]:
    head = head_path(path)
    if not head.is_file():
        return [Problem(0, f"{head.name}: missing, so it cannot be told whether the end was cut off")]
    try:
        count, last = _read_head(head, key)
    except (RecordError, IntegrityError) as error:
        return [Problem(0, str(error))]
    if count > len(lines):
        return [Problem(len(lines) + 1, f"missing: the signed head counts {count} entries")] if whole else []
    if count == 0:  # the first append did not come to its end
        return (
            []
            if not lines or lines[0].entry.digest == last
            else [Problem(1, "is not the entry that the head announced")]
        )
    found = lines[count - 1].entry.digest
    return [] if found == last else [Problem(count, "is not the entry that the signed head names as its last")]


def _read_head(path: Path, key: PublicKey) -> tuple[int, str]:
    statement = parse(read_signed(path, key), HEAD_TYPE, str(path))
    count, last = statement.predicate.get("entries"), statement.subjects.get("last entry")
    if type(count) is not int or count < 0 or last is None:
        raise RecordError(f"{path}: a head counts entries and names the last one")
    return count, last


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StorageError(f"{path}: the ledger cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def check(path: Path, key: SigningKey | None) -> None:
    """Return when an entry can be appended to the ledger at `path`, which may not exist yet.

    Raises:
        IntegrityError: what is there does not hold, or its entries are signed and its head is missing.
        UsageError: it has a signed head, and no key is given.
        StorageError: it cannot be read.
    """
    if not path.exists():
        if head_path(path).exists():
            raise IntegrityError(f"{path}: missing, but {head_path(path).name} is there; the ledger was removed")
        return
    headed = head_path(path).exists()
    if key is None and headed:
        raise UsageError(f"{path}: this ledger is signed; give --key, or another --ledger")
    lines, problem = _lines(path)
    found = [problem] if problem is not None else []
    if not found and not headed and any(line.signatures for line in lines):
        found = [Problem(0, f"its entries are signed, but {head_path(path).name} is missing; its end may be cut off")]
    if not found and headed and key is not None:
        found = _check_head(path, lines, key.public, True)
    if found:
        raise IntegrityError(f"{path}: {found[0]}; nothing is appended to a ledger that does not hold")


def append(path: Path, entry: Entry, key: SigningKey | None) -> Entry:
    """`entry` with its place in the ledger at `path`, where it is now the last one; signed when there is a key.

    Raises: see check.
    """
    check(path, key)
    with _locked(path) as descriptor:
        check(path, key)
        lines, _ = _lines(path)
        last = lines[-1].entry if lines else None
        placed = replace(entry, seq=len(lines) + 1, previous=last.digest if last else _START)
        _entry(asdict(placed))
        if key is not None and (last is None or not head_path(path).exists()):
            _write_head(path, len(lines), placed if last is None else last, key)
        _write(descriptor, path, _text(placed, key))
        if key is not None:
            _write_head(path, placed.seq, placed, key)
    return placed


def _write(descriptor: int, path: Path, text: bytes) -> None:
    """Return when `text` is the end of the file, whole and on disk; else the file is as it was."""
    size = os.fstat(descriptor).st_size
    try:
        try:
            if os.write(descriptor, text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
        jsonio.fsync_dir(path.absolute().parent)
    except OSError as error:
        raise StorageError(f"{path}: the ledger cannot be written: {error.strerror}") from None


def _write_head(path: Path, count: int, last: Entry, key: SigningKey) -> None:
    statement = Statement({"last entry": last.digest}, HEAD_TYPE, {"entries": count})
    write_signed(head_path(path), statement.to_bytes(), key)


def _text(entry: Entry, key: SigningKey | None) -> bytes:
    signed = dsse.sign(jsonio.canonical(asdict(entry)), key, ENTRY_TYPE).signatures if key else ()
    rows = dsse.to_json(dsse.Envelope(ENTRY_TYPE, b"", signed))["signatures"]
    value = {"schema": SCHEMA, "digest": entry.digest, "entry": asdict(entry), "signatures": rows}
    return jsonio.canonical(value) + b"\n"
