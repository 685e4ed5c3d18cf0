"""audit.json and items.jsonl: what was saved is read back, and nothing else is read at all."""

import hashlib
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignmerge import jsonio
from alignmerge.auditor.audit import audit
from alignmerge.auditor.record import Interval, load, record_digest, save
from alignmerge.cli import main
from alignmerge.errors import IntegrityError, RecordError, StorageError

r = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "policies" / "records.py")))


def whole() -> Any:
    """A record that uses every field."""
    aqi = r.aqi(0.25, [0.1, 0.2], interval=Interval(0.1, 0.4, 0.95, "percentile"), valid=False, valid_reason="weak")
    scores = {"refusal_rate": [1.0, 0.0, None]}
    return r.audit(scores, [aqi], aqi_reference={"weights": [0.5]}, notes=("a note", "ü"), seed=7)


def test_a_saved_record_is_read_back_whole(tmp_path: Path) -> None:
    record = whole()
    path = save(record, tmp_path / "deep" / "folder")
    assert load(path) == load(path.parent) == record
    assert record_digest(load(path)) == record_digest(record)


def test_a_real_audit_has_the_same_digest_in_memory_and_read_back(
    tiny_engine: Any, suites: Any, tmp_path: Path
) -> None:
    record = audit(tiny_engine, checkpoint="0" * 64, name="tiny", suites=suites)
    assert record_digest(load(save(record, tmp_path))) == record_digest(record)


def changed(folder: Path, change: Callable[[Any], object]) -> None:
    value = jsonio.read(folder / "audit.json")
    change(value)
    jsonio.write(folder / "audit.json", value)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda v: v["metrics"][0].update(value="x"), "metrics.0.value"),
        (lambda v: v["metrics"][0].update(value=True), "metrics.0.value"),
        (lambda v: v["metrics"][0].update(scored="2"), "metrics.0.scored"),
        (lambda v: v["metrics"][0].update(scored=2.5), "metrics.0.scored"),
        (lambda v: v["metrics"][0].update(direction="up"), "metrics.0.direction"),
        (lambda v: v["metrics"][0].update(surprise=1), "metrics.0.surprise"),
        (lambda v: v["metrics"][1].update(replicates=[0.1, "0.2"]), "metrics.1.replicates.1"),
        (lambda v: v["metrics"][1]["interval"].pop("low"), "metrics.1.interval.low"),
        (lambda v: v["metrics"][1].update(valid="yes"), "metrics.1.valid"),
        (lambda v: v.update(metrics={}), "metrics"),
        (lambda v: v.update(template=None), "template"),
        (lambda v: v.update(sampling="hot"), "sampling"),
        (lambda v: v.update(engine=[]), "engine"),
        (lambda v: v.update(notes="text"), "notes"),
        (lambda v: v.update(checkpoint=None), "checkpoint"),
        (lambda v: v.update(checkpoint="xyz"), "checkpoint"),
        (lambda v: v.update(checkpoint="AB" * 32), "checkpoint"),
        (lambda v: v["suites"][0].update(items="10"), "suites.0.items"),
        (lambda v: v.pop("suites"), "suites"),
        (lambda v: v.pop("seed"), "seed"),
        (lambda v: v.update(surprise=1), "surprise"),
        (lambda v: v.pop("items"), "items"),
        (lambda v: v.update(items=[]), "items"),
        (lambda v: v.update(items={"file": "items.jsonl"}), "items"),
    ],
)
def test_F10_a_record_of_wrong_types_is_refused_by_name(
    change: Callable[[Any], object], key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(whole(), tmp_path)
    changed(tmp_path, change)
    with pytest.raises(RecordError, match=rf"audit\.json: malformed audit record: {key}: "):
        load(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        main(["gate", str(tmp_path), "--policy", "demo"])
    assert exit_.value.code == 5
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"value":1.0', b'"value":"1.0"', r"items\.jsonl:1: .*value"),
        (b'"value":1.0', b'"value":true', r"items\.jsonl:1: .*value"),
        (b'"value":1.0', b'"value":null', r"items\.jsonl:1: .*needs a value or a reason"),
        (b'"prompt":"prompt"', b'"prompt":null', r"items\.jsonl:1: .*prompt"),
        (b'"suite":"s"', b'"suite":"s","suite":"t"', r"items\.jsonl:1: .*duplicate key 'suite'"),
        (b'"suite":"s"', b'"suite":"s","more":1', r"items\.jsonl:1: .*more"),
        (b'{"answer"', b'["answer"', r"items\.jsonl:1: not valid JSON"),
    ],
)
def test_item_rows_of_wrong_types_are_refused_by_line(old: bytes, new: bytes, message: str, tmp_path: Path) -> None:
    save(whole(), tmp_path)
    data = (tmp_path / "items.jsonl").read_bytes()
    assert old in data.splitlines()[0]
    data = data.replace(old, new, 1)
    (tmp_path / "items.jsonl").write_bytes(data)
    with pytest.raises(IntegrityError):
        load(tmp_path)
    changed(tmp_path, lambda value: value["items"].update(sha256=hashlib.sha256(data).hexdigest()))
    with pytest.raises(RecordError, match=message):
        load(tmp_path)


def test_a_folder_that_cannot_be_made_is_an_io_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be made"):
        save(replace(whole(), notes=()), tmp_path / "file" / "audit")
