"""The ledger: appends keep the chain and lose nothing, a crash is covered, hostile lines are refused."""

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignmerge import jsonio
from alignmerge.errors import IntegrityError, StorageError, UsageError
from alignmerge.provenance import keys, ledger
from alignmerge.provenance.ledger import Entry, append, head_path, read, verify
from alignmerge.provenance.lineage import knows, way_to


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> keys.SigningKey:
    path = tmp_path_factory.mktemp("keys") / "k"
    keys.new(path)
    return keys.load(path)


def digest(name: object) -> str:
    return jsonio.digest(str(name))


def merge(subject: object, anchor: object, decision: str = "PASS", verdict: Any = None) -> Entry:
    parents = {"anchor": digest(anchor)}
    return Entry(
        "merge", digest(subject), str(subject), "2026-01-31T12:00:00+00:00", decision, parents, verdict=verdict
    )


def test_entries_come_back_in_order_and_chained(tmp_path: Path, key: keys.SigningKey) -> None:
    path = tmp_path / "ledger"
    placed = [append(path, merge(number, "anchor"), key) for number in range(4)]
    assert [entry.seq for entry in placed] == [1, 2, 3, 4]
    assert [entry.previous for entry in placed[1:]] == [entry.digest for entry in placed[:-1]]
    assert read(path) == placed
    assert verify(path, key.public) == (placed, [])
    assert verify(path, None) == (placed, [])


def _append(path: Path, number: int) -> None:
    append(path, merge(number, "anchor"), None)


def test_two_processes_append_without_losing_an_entry(tmp_path: Path) -> None:
    path, context = tmp_path / "ledger", multiprocessing.get_context("fork")
    workers = [context.Process(target=_append, args=(path, number)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(entry.name for entry in read(path)) == [str(number) for number in range(6)]


def test_an_unsigned_ledger_may_become_signed_and_says_what_was_not(tmp_path: Path, key: keys.SigningKey) -> None:
    path = tmp_path / "ledger"
    append(path, merge(1, "anchor"), None)
    append(path, merge(2, 1), key)
    _, problems = verify(path, key.public)
    assert [str(problem) for problem in problems] == ["entry 1: is not signed"]


def test_a_signed_ledger_takes_no_unsigned_entry(tmp_path: Path, key: keys.SigningKey) -> None:
    path = tmp_path / "ledger"
    append(path, merge(1, "anchor"), key)
    with pytest.raises(UsageError, match="this ledger is signed; give --key"):
        append(path, merge(2, 1), None)
    assert len(read(path)) == 1


def test_a_crash_between_entry_and_head_is_covered_by_the_next_append(tmp_path: Path, key: keys.SigningKey) -> None:
    path = tmp_path / "ledger"
    append(path, merge(1, "anchor"), key)
    before = head_path(path).read_bytes()
    append(path, merge(2, 1), key)
    head_path(path).write_bytes(before)
    assert verify(path, key.public)[1] == []
    append(path, merge(3, 2), key)
    assert verify(path, key.public)[1] == []


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("unsigned", [0, 2])
@pytest.mark.parametrize("after", ["the lock", "the first head", "the entry"])
def test_a_crash_in_the_first_signed_append_locks_nobody_out(
    tmp_path: Path, key: keys.SigningKey, after: str, unsigned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger"
    for number in range(unsigned):
        append(path, merge(number, "anchor"), None)
    honest, heads = ledger.write_signed, 0

    def crash(*arguments: Any) -> None:
        nonlocal heads
        heads += 1
        if heads == {"the lock": 1, "the first head": 3, "the entry": 2}[after]:
            raise Crash
        honest(*arguments)

    def cut(*_: object) -> None:
        raise Crash

    monkeypatch.setattr(ledger, "write_signed", crash)
    if after == "the first head":
        monkeypatch.setattr(ledger, "_write", cut)
    with pytest.raises(Crash):
        append(path, merge("first", "anchor"), key)
    monkeypatch.undo()
    there = unsigned + (after == "the entry")
    held, problems = verify(path, key.public)
    assert len(held) == there
    told = [str(problem) for problem in problems if "is not signed" not in str(problem)]
    assert told == ([f"{head_path(path).name}: missing, so it cannot be told whether the end was cut off"]
                    if after == "the lock" else [])  # fmt: skip
    assert append(path, merge("next", "anchor"), key).seq == there + 1
    assert [str(one) for one in verify(path, key.public)[1]] == [
        f"entry {seq}: is not signed" for seq in range(1, unsigned + 1)
    ]


def test_K04_the_head_of_a_first_append_fits_no_other_ledger(
    tmp_path: Path, key: keys.SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "ledger", tmp_path / "other"
    for number in range(3):
        append(path, merge(number, "anchor"), key)

    def cut(*_: object) -> None:
        raise Crash

    monkeypatch.setattr(ledger, "_write", cut)
    with pytest.raises(Crash):
        append(other, merge("else", "anchor"), key)
    monkeypatch.undo()
    head_path(path).write_bytes(head_path(other).read_bytes())
    assert [problem.seq for problem in verify(path, key.public)[1]] == [1]
    with pytest.raises(IntegrityError, match="nothing is appended"):
        append(path, merge(4, 3), key)


@pytest.mark.parametrize("signed", [True, False])
def test_E04_an_entry_that_does_not_fit_on_the_disk_leaves_the_ledger_as_it_was(
    tmp_path: Path, key: keys.SigningKey, signed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, by = tmp_path / "ledger", key if signed else None
    append(path, merge(1, "anchor"), by)
    before, write = path.read_bytes(), os.write
    monkeypatch.setattr(ledger.os, "write", lambda descriptor, data: write(descriptor, data[:100]))
    with pytest.raises(StorageError, match="the ledger cannot be written: No space left"):
        append(path, merge(2, 1), by)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert append(path, merge(2, 1), by).seq == 2
    assert verify(path, key.public if signed else None)[1] == []


def test_nothing_is_appended_to_a_ledger_that_does_not_hold(tmp_path: Path, key: keys.SigningKey) -> None:
    path = tmp_path / "ledger"
    for number in range(2):
        append(path, merge(number, "anchor"), key)
    good = path.read_bytes()
    for bad in (good.splitlines(keepends=True)[0], good[:-1], good.replace(b"PASS", b"FAIL")):
        path.write_bytes(bad)
        with pytest.raises(IntegrityError, match="nothing is appended"):
            append(path, merge(3, 2), key)
        assert path.read_bytes() == bad
    path.unlink()
    with pytest.raises(IntegrityError, match="the ledger was removed"):
        append(path, merge(3, 2), key)


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_reader(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    path = tmp_path_factory.mktemp("junk") / "ledger"
    path.write_bytes(text)
    entries, problems = verify(path, None)
    assert entries == [] and (problems or not text)


@pytest.mark.parametrize(
    "change",
    [{"event": "other"}, {"subject": "short"}, {"parents": {"anchor": "x"}}, {"surprise": 1}, {"seq": "1"}],
)
def test_malformed_entries_are_refused_even_where_their_digest_fits(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "ledger"
    append(path, merge(1, "anchor"), None)
    value = json.loads(path.read_bytes())
    value["entry"] |= change
    value["digest"] = jsonio.digest(value["entry"])
    path.write_bytes(jsonio.canonical(value) + b"\n")
    with pytest.raises(IntegrityError, match="entry 1: malformed"):
        read(path)


def test_the_way_leads_back_to_the_first_anchor() -> None:
    entries = [merge("b", "a", verdict={"n": 1}), merge("other", "x"), merge("c", "b", "ungated"), merge("d", "c")]
    way = way_to(entries, digest("d"))
    assert way.root == digest("a")
    assert [(step.name, step.verdict) for step in way.steps] == [("b", {"n": 1}), ("c", None), ("d", None)]
    assert way_to(entries, digest("a")) == ledger_way("a")


def ledger_way(name: str) -> Any:
    from alignmerge.provenance.lineage import Way

    return Way(digest(name), ())


def test_a_later_gate_on_the_same_anchor_gives_an_ungated_merge_its_verdict() -> None:
    gate = Entry("gate", digest("b"), "b", "t", "PASS", {"anchor": digest("a")}, verdict={"n": 2})
    other = Entry("gate", digest("b"), "b", "t", "PASS", {"anchor": digest("z")}, verdict={"n": 3})
    failed = Entry("gate", digest("b"), "b", "t", "FAIL", {"anchor": digest("a")}, verdict={"n": 4})
    [step] = way_to([merge("b", "a", "ungated"), gate, other, failed], digest("b")).steps
    assert step.verdict == {"n": 2}


def test_gating_again_adds_a_verdict_and_takes_none_away() -> None:
    gates = [Entry("gate", digest("b"), "b", "t", "PASS", {"anchor": digest("a")}, verdict={"n": n}) for n in (2, 3)]
    [step] = way_to([merge("b", "a", verdict={"n": 1}), *gates], digest("b")).steps
    assert step.verdicts == ({"n": 1}, {"n": 2}, {"n": 3})


def test_a_ledger_knows_what_was_made_and_what_was_merged_from_and_let_through() -> None:
    gate = Entry("gate", digest("g"), "g", "t", "PASS", {"anchor": digest("gated")}, verdict={"n": 2})
    entries = [merge("b", "a"), merge("c", "rejected", "FAIL"), gate]
    known = [name for name in ("a", "b", "c", "rejected", "gated", "none") if knows(entries, digest(name))]
    assert known == ["a", "b", "c"]


@pytest.mark.parametrize("name", [None, "ledger"])
def test_an_anchor_that_no_ledger_knows_has_no_lineage(tmp_path: Path, name: str | None) -> None:
    from alignmerge.pipeline.lineage import lineage_of

    if name is not None:
        append(tmp_path / "ledger", merge("b", "a"), None)
    assert lineage_of(tmp_path / "ledger", digest("x")) is None
    if name is not None:
        found = lineage_of(tmp_path / "ledger", digest("a"))
        assert found is not None and (found.root, found.merges) == (digest("a"), 0)


def test_a_lineage_that_is_none_is_refused() -> None:
    with pytest.raises(IntegrityError, match="its own ancestor"):
        way_to([merge("b", "a"), merge("a", "b")], digest("b"))
    with pytest.raises(IntegrityError, match="2 anchors"):
        way_to([merge("b", "a"), merge("b", "c")], digest("b"))


def test_a_merge_that_is_its_anchor_spends_nothing() -> None:
    assert way_to([merge("a", "a")], digest("a")) == ledger_way("a")


def test_ledger_module_is_light() -> None:
    import subprocess
    import sys

    code = "import sys, alignmerge.provenance.ledger; assert not {'torch', 'cryptography'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(ledger.__file__).parents[2])
