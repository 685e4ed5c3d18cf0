"""Answers of a server kept only until its audit is written.

What a server runs may change behind one URL and one name, so its answers are no other audit's. They are kept for the
audit into one folder, so that a killed one goes on, and the record then says so. Answers that an audit did not use, for
example those of another server that was asked for the same folder, are neither told of nor removed by it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from alignmerge import jsonio
from alignmerge.auditor.engines.base import Answer
from alignmerge.auditor.store import Asked, CompletionStore
from alignmerge.cache import cache_dir
from alignmerge.errors import StorageError

_BESIDE = ("", "-wal", "-shm")  # SQLite's own names


def store_of(output: Path) -> Path:
    """Where the answers of an audit into `output` are kept while it runs."""
    return cache_dir() / "served" / f"{jsonio.digest(str(output.resolve()))[:32]}.sqlite"


class ServedAnswers(CompletionStore):
    """The store of one audit of a server into the folder `output`; closed empty, it leaves no file.

    Raises:
        StorageError: see CompletionStore.
    """

    def __init__(self, output: Path) -> None:
        path = store_of(output)
        self._last = max((file.stat().st_mtime for file in _files(path) if file.exists()), default=0.0)
        self._before, self._new = set[str](), set[str]()
        super().__init__(path)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the record must say of answers that this audit took from an interrupted one."""
        if not self._before:
            return ()
        last = datetime.fromtimestamp(self._last, UTC).isoformat(timespec="seconds")
        return (
            f"this audit was interrupted: {len(self._before)} answers were kept from before, none later than {last}, "
            "and not asked again; whether the server ran the same model then cannot be checked",
        )

    def find(self, asked: Asked, prompt: str, states: bool = False) -> Answer | None:
        """As CompletionStore; what was there before this audit counts as used."""
        found = super().find(asked, prompt, states)
        if found is not None and (key := asked.key(prompt)) not in self._new:
            self._before.add(key)
        return found

    def put(self, asked: Asked, rows: Sequence[tuple[str, Answer]]) -> None:
        """As CompletionStore."""
        super().put(asked, rows)
        self._new |= {asked.key(prompt) for prompt, _ in rows}

    def forget(self) -> None:
        """Remove the answers of this audit: the record that was made of them is written.

        Raises:
            StorageError: the disk refuses.
        """
        self._keep("DELETE FROM answers WHERE key = ?", [(key,) for key in sorted(self._before | self._new)])

    def close(self) -> None:
        """Let go of the file, and remove it where it holds no answer.

        Raises:
            StorageError: it cannot be read or removed.
        """
        try:
            empty = self.count() == 0
        finally:
            super().close()
        for path in _files(self.path) if empty else ():
            try:
                path.unlink(missing_ok=True)
            except PermissionError as error:
                raise StorageError(f"{path}: cannot be removed: {error.strerror}") from None


def _files(store: Path) -> list[Path]:
    return [store.with_name(store.name + end) for end in _BESIDE]
