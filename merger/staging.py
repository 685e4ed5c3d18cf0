"""A checkpoint under construction: built beside its final place, resumable after a kill, and moved there whole.

    OUT.partial/lock             held while a process works here
    OUT.partial/plan.json        digest of recipe, inputs and versions: only the same merge may resume
    OUT.partial/journal.jsonl    one line per finished shard, with its digests
    OUT.partial/checkpoint/      becomes OUT by one rename

Order for every shard: write, fsync, rename, fsync of the folder, journal line, fsync of the journal. A shard counts
only if it is in the journal and its bytes still have the digest written there.

Nothing is ever removed that no merge put there: OUT.partial without plan.json must be empty, and plan.json is the last
to go.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from alignmerge import jsonio, progress
from alignmerge.errors import RecordError, StorageError, UsageError
from alignmerge.merger.shard_writer import Produce, Slot, Written, write_shard
from alignmerge.provenance.manifest import FileEntry, hash_file

_OWN = ("lock", "plan.json", "journal.jsonl", "checkpoint")


def check_apart(out: Path, inputs: Iterable[Path]) -> None:
    """Raise UsageError if `out` is, holds or lies in one of the `inputs`, or cannot be told to."""
    try:
        target = out.resolve()
    except (OSError, RuntimeError):  # the second for links in a circle, before Python 3.13
        raise UsageError(f"{out}: its symbolic links lead in a circle; choose another folder") from None
    for folder in inputs:
        real = folder.resolve()
        if target == real or target.is_relative_to(real) or real.is_relative_to(target):
            raise UsageError(f"{out}: is, holds or lies in the input {folder}; choose another folder")


def check_target(out: Path, inputs: Iterable[Path]) -> None:
    """Raise UsageError unless `out` is free: absent or an empty folder, and neither an input nor inside one.

    Raises:
        UsageError: as said.
        StorageError: it cannot be looked at.
    """
    check_apart(out, inputs)
    try:
        free = not out.is_symlink() and (not out.exists() or (out.is_dir() and not any(out.iterdir())))
    except OSError as error:
        raise StorageError(f"{out}: cannot be looked at: {error.strerror}") from None
    if not free:
        raise UsageError(f"{out}: already exists and is not an empty folder")


class Staging:
    """The folder OUT.partial, locked for this process; use as a context manager.

    Leaving the context keeps everything for a resume, unless `publish` or `discard` was called. `clean`: finished
    shards of another merge into OUT are removed instead of being refused.

    Raises (on entering):
        UsageError: OUT.partial belongs to another merge, or to no merge at all.
        StorageError: another process works there, or the disk refuses.
    """

    def __init__(self, out: Path, plan: Mapping[str, Any], *, clean: bool = False) -> None:
        self.out = out
        self.root = out.with_name(f"{out.name}.partial")
        self.folder = self.root / "checkpoint"
        self.notes: list[str] = []
        self._plan = {"digest": jsonio.digest(plan), "plan": dict(plan)}
        self._remarks: dict[str, dict[str, Any]] = {}
        self._clean = clean
        self._lock = -1

    def __enter__(self) -> "Staging":
        try:
            if not (self.root / "lock").exists():  # nobody works there
                self._check_own()
            self._lock = self._acquire()
            self._check_own()
            self._start()
        except OSError as error:
            self._release()
            raise StorageError(f"{self.root}: cannot be used: {error.strerror}") from None
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _acquire(self) -> int:
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not path.exists() or not os.path.samestat(os.fstat(descriptor), path.stat()):
                raise BlockingIOError  # it was finished and removed between our open and our lock
        except BlockingIOError:
            os.close(descriptor)
            raise StorageError(f"{self.root}: another merge into {self.out} is running") from None
        return descriptor

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _check_own(self) -> None:
        """Raise UsageError unless OUT.partial is absent, empty or an unfinished merge."""
        if self.root.is_symlink() or self.folder.is_symlink():
            raise UsageError(f"{self.root}: leads elsewhere by a symbolic link; remove it or choose another folder")
        names = {path.name for path in self.root.iterdir()} if self.root.exists() else set()
        foreign = {name for name in names if name not in _OWN and not name.startswith(".plan.json.")}
        if "plan.json" not in names:
            foreign |= names & {"journal.jsonl", "checkpoint"}
        if foreign:
            raise UsageError(
                f"{self.root}: is needed for the merge into {self.out} but holds {min(foreign)!a}, which no unfinished "
                "merge left there; move it or choose another output folder"
            )

    def _start(self) -> None:
        path = self.root / "plan.json"
        finished = self._journal()
        there = [name for name in finished if (self.folder / name).is_file()]
        same = path.exists() and jsonio.read(path) == self._plan
        if there and not same and not self._clean:
            alone = "attempt" in self._plan["plan"]
            what = "that does not go on: its models are computed on a GPU, and two solves there may differ"
            other = "with another recipe, other inputs or other versions"
            raise UsageError(
                f"{self.root}: is an unfinished merge {what if alone else other}; "
                "remove it (alignmerge merge --clean does) or choose another output folder"
            )
        if not same or not there:  # nothing to go on from
            self._remove_all()
            jsonio.write(path, self._plan)
            finished, self.notes = {}, self.notes if same else []
        else:
            progress.say(f"{self.root}: going on with an unfinished merge; files already written: {len(there)}")
        self.folder.mkdir(exist_ok=True)
        for path in list(self.folder.iterdir()):
            if path.name not in finished:  # what a kill left half done, temporary files of our own included
                _remove(path)

    def _journal(self) -> dict[str, Written]:
        """Finished shards by name; lines that a crash cut short or a disk damaged are dropped and counted."""
        path = self.root / "journal.jsonl"
        lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
        finished, dropped = {}, 0
        for number, line in enumerate(lines):
            if number == len(lines) - 1 and not line:
                continue
            try:
                value = jsonio.loads(line, str(path))
                if value.pop("digest") != jsonio.digest(value) or number == len(lines) - 1:
                    raise ValueError("damaged")
                written = Written(FileEntry(**value["file"]), dict(value["tensors"]))
                self._remarks[written.file.path] = dict(value["remarks"])
            except (RecordError, AttributeError, KeyError, TypeError, ValueError):
                dropped += 1
                continue
            finished[written.file.path] = written
        if dropped:
            self.notes = [f"{path.name}: unreadable lines were dropped: {dropped}"]
        return finished

    def shards(
        self,
        plan: Sequence[tuple[str, Sequence[Slot]]],
        produce: Produce,
        remarks: dict[str, Any],
        *,
        workers: int = 1,
        advance: Callable[[int], None] = lambda _: None,
        stop: Callable[[], None] = lambda: None,
    ) -> list[Written]:
        """Digests of all shards of `plan`, in order; those already finished are checked and kept.

        `remarks` is what `produce` leaves about tensors; it is kept in the journal, and filled from there for shards
        that are kept. `advance(n)` is told that n tensors are done. For `stop` see write_shard.

        Raises:
            StorageError, TensorMismatch: see write_shard.
        """
        finished = self._journal()
        out: list[Written] = []
        for name, slots in plan:
            path = self.folder / name
            before = finished.get(name)
            if before is not None and _is_regular(path) and hash_file(path) == before.file:
                remarks.update(self._remarks[name])
                advance(len(slots))
                out.append(before)
                continue
            if before is not None:
                self.notes.append(f"{name}: differs from the journal and was written again")
                _remove(path)
            temporary = path.with_name(f".{path.name}.tmp")
            temporary.unlink(missing_ok=True)
            found = write_shard(temporary, slots, produce, workers, lambda: advance(1), stop)
            written = Written(FileEntry(name, found.file.size, found.file.sha256), found.tensors)
            said = {slot.name: remarks[slot.name] for slot in slots if slot.name in remarks}
            self._finish(temporary, path, written, said)
            out.append(written)
        return out

    def _finish(self, temporary: Path, path: Path, written: Written, remarks: Mapping[str, Any]) -> None:
        try:
            temporary.replace(path)
            jsonio.fsync_dir(self.folder)
            self._append({"file": vars(written.file), "tensors": dict(written.tensors), "remarks": dict(remarks)})
        except OSError as error:
            raise StorageError(f"{path}: cannot be finished: {error.strerror}") from None

    def _append(self, value: Mapping[str, Any]) -> None:
        path = self.root / "journal.jsonl"
        value = json.loads(jsonio.canonical(value))
        with path.open("ab+") as handle:
            if handle.tell() and (handle.seek(-1, os.SEEK_END), handle.read(1))[1] != b"\n":
                handle.write(b"\n")  # close a line that a crash cut short
            handle.write(jsonio.canonical({**value, "digest": jsonio.digest(value)}) + b"\n")
            handle.flush()
            os.fsync(handle.fileno())

    def publish(self, elsewhere: Path | None = None) -> Path:
        """OUT (or `elsewhere`, beside it), which now is the staged checkpoint, complete; OUT.partial is gone.

        Raises:
            UsageError: that place has come into being meanwhile.
            StorageError: the disk refuses.
        """
        out = elsewhere or self.out
        check_target(out, ())
        try:
            jsonio.fsync_dir(self.folder)
            self.folder.rename(out)
            try:
                jsonio.fsync_dir(out.parent)
            except OSError:  # not known to last, so not published
                out.rename(self.folder)
                raise
        except OSError as error:
            raise StorageError(f"{out}: cannot be published: {error.strerror}") from None
        self._remove_root()
        return out

    def discard(self) -> None:
        """Remove OUT.partial with everything in it.

        Raises:
            StorageError: something of it is still there, so the checkpoint may be too.
        """
        self._remove_root()
        if self.root.exists():
            raise StorageError(f"{self.root}: could not be removed; it holds a checkpoint that is not to be used")

    def _remove_root(self) -> None:
        with contextlib.suppress(OSError):
            self._remove_all()
            (self.root / "lock").unlink()
            self.root.rmdir()
        self._release()

    def _remove_all(self) -> None:
        """Remove everything but the lock; plan.json, by which a later merge knows the folder, last."""
        temporary = self.root.glob(".plan.json.*")
        for path in (self.folder, self.root / "journal.jsonl", *temporary, self.root / "plan.json"):
            _remove(path)


def _is_regular(path: Path) -> bool:
    return path.exists() and stat.S_ISREG(path.lstat().st_mode)


def _remove(path: Path) -> None:
    """Remove the file, link or folder at `path`, if there is one; what a link leads to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if os.path.lexists(path):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
