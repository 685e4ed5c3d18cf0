"""A run folder: what it holds, and what is refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignmerge import jsonio
from alignmerge.auditor import record
from alignmerge.errors import IntegrityError, RecordError, StorageError
from alignmerge.policies.verdict import to_statement
from alignmerge.reports.model import ReportInput, load_run
from alignmerge.reports.render import render


def write_run(report: ReportInput, folder: Path) -> None:
    """The invented run as files."""
    rows = []
    for index, entry in enumerate(report.entries):
        record.save(entry.audit, folder / f"audits/{index}")
        row: dict[str, Any] = {"label": entry.label, "role": entry.role, "audit": f"audits/{index}", "also": []}
        row |= {"verdict": None, "merge": None}
        if entry.verdict is not None:
            row["verdict"] = f"{index}.verdict.json"
            jsonio.write(folder / row["verdict"], to_statement(entry.verdict))
        if entry.merge is not None:
            row["merge"] = f"{index}.merge.json"
            jsonio.write(folder / row["merge"], dict(entry.merge))
        if entry.blame is not None:
            row["blame"] = f"{index}.blame.json"
            jsonio.write(folder / row["blame"], entry.blame.model_dump(by_alias=True, mode="json"))
        for policy, verdict in entry.also:
            row["also"].append(f"{index}.{policy}.json")
            jsonio.write(folder / row["also"][-1], to_statement(verdict))
        rows.append(row)
    summary = [
        {"rule": row.rule, "metric": row.metric, "limit": row.limit, "severity": row.severity, "text": row.text}
        for row in report.policy_summary
    ]
    value = {
        "schema": "alignmerge.run/1",
        "title": report.title,
        "created": report.created,
        "version": report.version,
        "policy": {"name": report.policy_name, "summary": summary},
        "entries": rows,
        "notes": list(report.notes),
    }
    jsonio.write(folder / "run.json", value)


@pytest.fixture(scope="module")
def written(report: ReportInput, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_run(report, folder)
    return folder


@pytest.fixture
def run(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "run"))


def edit(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_files_give_the_same_report_as_the_records(report: ReportInput, run: Path) -> None:
    loaded = load_run(run)
    assert [entry.label for entry in loaded.entries] == [entry.label for entry in report.entries]
    assert [entry.verdict for entry in loaded.entries] == [entry.verdict for entry in report.entries]
    assert [entry.also for entry in loaded.entries] == [entry.also for entry in report.entries]
    assert render(loaded) == render(report)
    assert loaded.anchor is not None
    assert loaded.anchor.label == "safety anchor"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(schema="alignmerge.run/2"), "schema"),
        (lambda v: v.update(surprise=1), "surprise"),
        (lambda v: v.pop("title"), "title"),
        (lambda v: v["entries"][0].update(role="boss"), "entries.0.role"),
        (lambda v: v["policy"]["summary"][0].update(limit="0.05"), "limit"),
        (lambda v: v["policy"]["summary"][0].update(limit=True), "limit"),
        (lambda v: v["entries"][0].update(audit="../elsewhere"), "leaves the run's folder"),
        (lambda v: v["entries"][0].update(audit="/etc"), "leaves the run's folder"),
        (lambda v: v["entries"][5].update(verdict="6.verdict.json"), "speaks of checkpoint"),
        (lambda v: v["entries"][5].update(verdict="audits/5/audit.json"), "not an in-toto Statement"),
    ],
)
def test_a_malformed_run_is_refused(run: Path, change: Callable[[Any], None], message: str) -> None:
    edit(run / "run.json", change)
    with pytest.raises(RecordError, match=message):
        load_run(run)


def test_a_link_out_of_the_folder_is_refused(run: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (run / "way-out").symlink_to(outside)
    edit(run / "run.json", lambda v: v["entries"][0].update(audit="way-out"))
    with pytest.raises(RecordError, match="leaves the run's folder"):
        load_run(run)


def test_a_verdict_on_an_older_audit_is_refused(run: Path) -> None:
    edit(run / "audits/5/audit.json", lambda v: v.update(seed=1))
    with pytest.raises(RecordError, match="another audit"):
        load_run(run)


def test_what_was_measured_from_another_anchor_is_refused(report: ReportInput, run: Path) -> None:
    at, ties = next((at, one) for at, one in enumerate(report.entries) if one.label == "TIES")
    drift = {"schema": "alignmerge.drift/1", "checkpoint": ties.audit.checkpoint, "anchor": "e" * 64}
    drift |= {name: {"unscored": "not asked"} for name in ("finite_drift", "linear_drift")}
    jsonio.write(run / "drift.json", drift)
    edit(run / "run.json", lambda v: v["entries"][at].update(drift="drift.json"))
    with pytest.raises(RecordError, match=r"drift.json: was measured from anchor eeeeeeeeeeee, the run's is"):
        load_run(run)
    assert report.anchor is not None
    jsonio.write(run / "drift.json", {**drift, "anchor": report.anchor.audit.checkpoint})
    assert load_run(run).entries[at].drift is not None
    edit(run / f"{at}.blame.json", lambda v: v.update(anchor="e" * 64))
    with pytest.raises(RecordError, match=r"blame.json: was measured from anchor eeeeeeeeeeee"):
        load_run(run)


@pytest.mark.parametrize("policy", ["verdict", "release"])
def test_a_verdict_against_another_anchor_is_refused(report: ReportInput, run: Path, policy: str) -> None:
    at, ties = next((at, one) for at, one in enumerate(report.entries) if one.label == "TIES")
    verdict = ties.verdict if policy == "verdict" else ties.also[0][1]
    assert verdict is not None
    other = replace(verdict, audits={**verdict.audits, "anchor": "e" * 64})
    jsonio.write(run / f"{at}.{policy}.json", to_statement(other))
    with pytest.raises(RecordError, match="another anchor's audit than the run's"):
        load_run(run)
    edit(run / "run.json", lambda v: v["entries"][1].update(role="reference"))  # no anchor: nothing to hold it against
    load_run(run)


def test_changed_items_are_refused(run: Path) -> None:
    path = run / "audits/0/items.jsonl"
    path.write_bytes(path.read_bytes().replace(b"Here", b"hERE", 1))
    with pytest.raises(IntegrityError):
        load_run(run)


def test_a_missing_file_is_a_storage_error(run: Path) -> None:
    (run / "5.merge.json").unlink()
    with pytest.raises(StorageError):
        load_run(run)
