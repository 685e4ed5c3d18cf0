"""The answer store: round trips, what a key is made of, damage, and several users at once."""

import itertools
import sqlite3
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alignmerge.auditor.engines.base import Answer, Completion, Sampling
from alignmerge.auditor.store import Asked, CompletionStore, asked
from alignmerge.errors import StorageError

KEY = Asked("checkpoint", "template", "sampling", "engine", "code")
ANSWER = Answer(7, Completion((1, 2), "hello", "stop"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_answer_comes_back_bit_by_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    states = torch.randn(3, 5).to(dtype)
    with CompletionStore(tmp_path / "new" / "s.sqlite") as store:
        store.put(KEY, [("p", replace(ANSWER, states=states))])
    with CompletionStore(tmp_path / "new" / "s.sqlite") as store:
        found = store.find(KEY, "p", states=True)
    assert found is not None
    assert found.completion == ANSWER.completion
    assert found.states is not None
    assert found.states.dtype == dtype
    assert torch.equal(found.states, states)


@given(st.text(), st.text())
def test_any_text_is_a_prompt_and_an_answer(prompt: str, text: str) -> None:
    with CompletionStore(Path(":memory:")) as store:
        store.put(KEY, [(prompt, Answer(0, Completion((), text, "length")))])
        found = store.find(KEY, prompt)
        assert found is not None
        assert found.completion.text == text.encode("utf-8", "replace").decode()


def test_H13_lone_surrogates_do_not_stop_a_run(tmp_path: Path) -> None:
    with CompletionStore(tmp_path / "s") as store:
        store.put(KEY, [("\ud800", Answer(0, Completion((), "\udfff\0", "stop")))])
        found = store.find(KEY, "\ud800")
    assert found is not None
    assert found.completion.text == "?\0"


@pytest.mark.parametrize("part", [field.name for field in fields(Asked)])
def test_I02_every_part_of_the_key_counts(tmp_path: Path, part: str) -> None:
    with CompletionStore(tmp_path / "s") as store:
        store.put(KEY, [("p", ANSWER)])
        assert store.find(KEY, "p") is not None
        assert store.find(replace(KEY, **{part: "other"}), "p") is None
        assert store.find(KEY, "p ") is None


def test_I02_parts_cannot_run_into_each_other() -> None:
    keys = {Asked(*parts).key("p") for parts in itertools.permutations(["ab", "c", "a", "bc", ""], 5)}
    assert len(keys) == 120


def test_the_sampling_is_part_of_the_key() -> None:
    described = {"template": "t", "digest": "e"}
    ways = [Sampling(4), Sampling(5), Sampling(4, 0.5), Sampling(4, seed=1)]
    assert len({asked("c", described, way, "v").key("p") for way in ways}) == 4


def test_an_answer_without_states_does_not_serve_where_states_are_needed(tmp_path: Path) -> None:
    with CompletionStore(tmp_path / "s") as store:
        store.put(KEY, [("p", ANSWER)])
        assert store.find(KEY, "p", states=True) is None
        store.put(KEY, [("p", replace(ANSWER, states=torch.zeros(1, 2)))])
        assert store.find(KEY, "p", states=True) is not None


def _read_all(path: Path) -> None:
    with CompletionStore(path) as store:
        for n in range(200):
            store.find(KEY, str(n))


@pytest.mark.parametrize("damage", ["garbage", "truncated", "other schema", "newer"])
def test_I05_a_damaged_file_is_refused_and_kept(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "s.sqlite"
    if damage == "other schema":
        sqlite3.connect(path).execute("CREATE TABLE mine (x)").connection.close()
    else:
        with CompletionStore(path) as store:
            store.put(KEY, [(str(n), ANSWER) for n in range(200)])
        if damage == "newer":
            sqlite3.connect(path).execute("PRAGMA user_version=99").connection.close()
        else:
            data = path.read_bytes()
            path.write_bytes(b"not a database" * 500 if damage == "garbage" else data[: len(data) // 2 + 100])
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"s\.sqlite") as raised:
        _read_all(path)
    assert raised.value.exit_code == 6
    assert path.read_bytes() == before


def test_I05_a_damaged_row_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with CompletionStore(path) as store:
        store.put(KEY, [("p", ANSWER)])
    raw = sqlite3.connect(path)
    raw.execute("UPDATE answers SET tokens = '[1,'")
    raw.commit()
    raw.close()
    with CompletionStore(path) as store, pytest.raises(StorageError, match="damaged row"):
        store.find(KEY, "p")


def test_I05_text_that_is_no_text_is_reported(tmp_path: Path) -> None:
    """Python's own error for it has no code of SQLite's."""
    path = tmp_path / "s.sqlite"
    with CompletionStore(path) as store:
        store.put(KEY, [("p", ANSWER)])
    raw = sqlite3.connect(path)
    raw.execute("UPDATE answers SET answer = CAST(X'ff' AS TEXT)")
    raw.commit()
    raw.close()
    with pytest.raises(StorageError, match=r"s\.sqlite"):
        CompletionStore(path)


def test_I06_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        CompletionStore(tmp_path / "file" / "s.sqlite")


def test_a_batch_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    bad = Answer(0, Completion((), "x", "error"))  # type: ignore[arg-type]
    with CompletionStore(tmp_path / "s") as store:
        with pytest.raises(StorageError):
            store.put(KEY, [("good", ANSWER), ("bad", bad)])
        assert store.find(KEY, "good") is None
        store.put(KEY, [("good", ANSWER)])
        assert store.find(KEY, "good") is not None


def test_I07_two_users_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with CompletionStore(path) as one, CompletionStore(path) as two:
        for n in range(20):
            (one if n % 2 else two).put(KEY, [(str(n), ANSWER)])
        assert all(store.find(KEY, str(n)) for store in (one, two) for n in range(20))


def test_I07_a_file_that_is_just_being_made_is_waited_for(tmp_path: Path) -> None:
    """SQLite does not wait where two processes change a new file to a write-ahead log: its error comes at once."""
    holder = sqlite3.connect(tmp_path / "held", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")

    class Met(CompletionStore):
        times = 0

        def _prepare(self) -> None:
            self.times += 1
            if self.times < 3:
                sqlite3.connect(tmp_path / "held", timeout=0).execute("SELECT * FROM sqlite_master")
            super()._prepare()

    with Met(tmp_path / "s") as store:
        store.put(KEY, [("p", ANSWER)])
        assert store.times == 3
        assert store.find(KEY, "p") is not None
    holder.close()


def test_I07_a_file_that_stays_locked_is_reported_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alignmerge.auditor.store.BUSY_SECONDS", 0.2)
    holder = sqlite3.connect(tmp_path / "s", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StorageError, match="locked"):
        CompletionStore(tmp_path / "s")
    holder.close()
