"""Answers kept on disk, so that a killed audit goes on where it stopped and a second one asks nothing twice.

The key starts with the checkpoint's digest: a name or path can come to hold another model, and an answer of the wrong
model is the worst thing an audit could show. Only complete answers are stored; an error leaves no row.
"""

import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from alignmerge import jsonio
from alignmerge.auditor.engines.base import Answer, Completion, Sampling
from alignmerge.errors import AlignMergeError, StorageError

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA_VERSION = 2
_OLDER = (1,)  # without the table of likelihoods, which is added
BUSY_SECONDS = 30.0
_IN_USE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_TABLES = ("answers", "likelihoods")
_ANSWERS = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, checkpoint TEXT NOT NULL, prompt TEXT NOT NULL, tokens TEXT NOT NULL, answer TEXT NOT NULL,
    finish TEXT NOT NULL CHECK (finish IN ('stop', 'length')), states BLOB, states_shape TEXT, states_dtype TEXT
) WITHOUT ROWID
"""
# SQLite keeps NaN as NULL, which NOT NULL refuses.
_LIKELIHOODS = """
CREATE TABLE IF NOT EXISTS likelihoods (
    key TEXT PRIMARY KEY, checkpoint TEXT NOT NULL, prompt TEXT NOT NULL, value REAL NOT NULL CHECK (value <= 1e-6)
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Asked:
    """Everything an answer depends on besides the prompt; each part is a SHA-256 (or a version)."""

    checkpoint: str
    template: str
    sampling: str
    engine: str
    code: str

    def key(self, prompt: str) -> str:
        """SHA-256 naming one answer."""
        text = _sha256(prompt)
        return jsonio.digest([self.checkpoint, text, self.template, self.sampling, self.engine, self.code])

    def choice_key(self, prompt: str, choice: str) -> str:
        """SHA-256 naming the likelihood of one choice as the answer to a prompt."""
        return jsonio.digest([self.key(prompt), _sha256(choice)])


def asked(checkpoint: str, engine: Mapping[str, object], sampling: Sampling, code: str) -> Asked:
    """The key parts of a run of `engine` (its `describe()`) on a checkpoint."""
    return Asked(checkpoint, str(engine["template"]), sampling.digest, str(engine["digest"]), code)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class CompletionStore:
    """Answers and likelihoods of choices in one SQLite file, safe against a kill and shared by several processes.

    Raises:
        StorageError: the file is damaged, of another program or of a newer version (it is left as it is), or the disk
            refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._reported():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                _patiently(self._prepare)
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        """Make the file ready; can be done again from the start."""
        found = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        others = {row[0] for row in self._db.execute("SELECT name FROM sqlite_master")} - set(_TABLES)
        if found not in (0, *_OLDER, SCHEMA_VERSION) or (found == 0 and others):
            raise StorageError(
                f"{self.path}: not an answer store of this version (found {found}, need {SCHEMA_VERSION}); "
                "name another file, or move this one away"
            )
        self._db.execute("PRAGMA journal_mode=WAL")  # only now: it writes to the file
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(_ANSWERS)
        self._db.execute(_LIKELIHOODS)
        self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self._db.execute("SELECT key, checkpoint, tokens, answer, finish, states FROM answers LIMIT 1").fetchall()
        self._db.execute("SELECT key, checkpoint, prompt, value FROM likelihoods LIMIT 1").fetchall()

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise StorageError(
                f"{self.path}: {error}; the file is kept as it is, name another or move it away"
            ) from None
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be used: {error.strerror}") from None

    def find(self, asked: Asked, prompt: str, states: bool = False) -> Answer | None:
        """The stored answer (index 0), or None; with `states`, only one that has its states."""
        with self._reported():
            row = self._db.execute(
                "SELECT tokens, answer, finish, states, states_shape, states_dtype FROM answers WHERE key = ?",
                (asked.key(prompt),),
            ).fetchone()
            if row is None or (states and row[3] is None):
                return None
            try:
                tokens = tuple(int(token) for token in json.loads(row[0]))
                held = _unpack(row[3], json.loads(row[4]), row[5]) if states else None
            except (ValueError, TypeError, RuntimeError, AlignMergeError) as error:
                raise sqlite3.DatabaseError(f"a damaged row ({error})") from None
            return Answer(0, Completion(tokens, str(row[1]), row[2]), held)

    def count(self) -> int:
        """How many answers are kept."""
        with self._reported():
            return int(self._db.execute("SELECT count(*) FROM answers").fetchone()[0])

    def put(self, asked: Asked, rows: Sequence[tuple[str, Answer]]) -> None:
        """Keep answers for good, all or none; an older row with the same key is replaced."""
        values = []
        for prompt, answer in rows:
            done = answer.completion
            blob, shape, dtype = _pack(answer.states) if answer.states is not None else (None, None, None)
            tokens = json.dumps(list(done.tokens))
            text = done.text.encode("utf-8", "replace").decode()
            key = asked.key(prompt)
            values.append((key, asked.checkpoint, _sha256(prompt), tokens, text, done.finish, blob, shape, dtype))
        self._keep("INSERT OR REPLACE INTO answers VALUES (?,?,?,?,?,?,?,?,?)", values)

    def find_likelihoods(self, asked: Asked, prompt: str, choices: Sequence[str]) -> tuple[float, ...] | None:
        """The stored log-likelihood of every choice as the answer to a prompt, or None when one is missing."""
        found = []
        with self._reported():
            for choice in choices:
                row = self._db.execute(
                    "SELECT value FROM likelihoods WHERE key = ?", (asked.choice_key(prompt, choice),)
                ).fetchone()
                if row is None:
                    return None
                if not isinstance(row[0], float):
                    raise sqlite3.DatabaseError(f"a damaged row ({row[0]!r} is no likelihood)")
                found.append(row[0])
        return tuple(found)

    def put_likelihoods(self, asked: Asked, rows: Sequence[tuple[str, Sequence[str], Sequence[float]]]) -> None:
        """Keep the log-likelihoods of prompts' choices for good, all or none."""
        values = [
            (asked.choice_key(prompt, choice), asked.checkpoint, _sha256(prompt), value)
            for prompt, choices, found in rows
            for choice, value in zip(choices, found, strict=True)
        ]
        self._keep("INSERT OR REPLACE INTO likelihoods VALUES (?,?,?,?)", values)

    def _keep(self, statement: str, values: Sequence[tuple[object, ...]]) -> None:
        with self._reported():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(statement, values)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _patiently(work: Callable[[], None]) -> None:
    """Do `work` until no other process is in its way, for BUSY_SECONDS at most.

    SQLite's own waiting does not cover the change to a write-ahead log, nor a log that another process is just clearing
    away: there it says at once that the file is locked.
    """
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            # The low byte is the kind of error, the rest its finer form; Python's own errors have none.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _IN_USE or time.monotonic() > until:
                raise
        time.sleep(0.02)


def _pack(states: "Tensor") -> tuple[bytes, str, str]:
    import torch

    flat = states.detach().cpu().contiguous()
    name = str(flat.dtype).removeprefix("torch.")
    return flat.view(torch.uint8).numpy().tobytes(), json.dumps(list(flat.shape)), name


def _unpack(blob: bytes, shape: list[int], dtype: str) -> "Tensor":
    import torch

    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in kinds:
        raise ValueError(f"states of type {dtype!r}")
    return torch.frombuffer(bytearray(blob), dtype=kinds[dtype]).reshape(shape)
