"""The audit records behind the cells, kept as runs that `alignmerge report` shows: one run per setting, seed and set.

    DIR/main/seed0-three/     run.json, audits/, merges/, drifts/; frontier points lie in DIR/frontier/main/...

Records hold the texts of items and answers, those of the test-only sets too: DIR stays where it is made. They hold no
verdict, because the study asks no policy. An anchor and the experts of a set stand in every run of theirs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignmerge import jsonio
from alignmerge.auditor.record import AuditRecord
from alignmerge.pipeline.runfolder import RunFolder
from alignmerge.reports.drift import SCHEMA as DRIFT_SCHEMA
from benchmarks.study.cells import Cell
from benchmarks.study.design import SETS, SETTINGS

EXPERT = "expert-"


def folder_of(records: Path, cell: Cell, experts: str) -> Path:
    """The run of `cell` among merges of the set `experts`."""
    root = records / "frontier" if cell.kind == "frontier" else records
    return root / cell.setting / f"seed{cell.seed}-{experts}"


def keep(
    records: Path | None, cell: Cell, audit: AuditRecord, anchor: AuditRecord, account: Mapping[str, Any] | None = None
) -> list[Path]:
    """The runs that `cell` was added to, where it replaces an earlier record of its label; none without `records`.

    An expert joins the runs of its seed and sets that are there; the anchor comes with the first merge of a run.
    account: the method's own, whole.

    Raises:
        RecordError, StorageError: a run.json cannot be read, or a file cannot be written.
    """
    if records is None or cell.kind == "anchor" or cell.method == "anchor":
        return []
    if cell.kind != "expert":
        runs = [folder_of(records, cell, cell.set)]
    else:
        name = cell.method.removeprefix(EXPERT)
        runs = [folder_of(records, cell, experts) for experts, names in SETS.items() if name in names]
        runs = [run for run in runs if (run / "run.json").is_file()]
    for run in runs:
        _add(run, cell, audit, anchor, account)
    return runs


def _add(run: Path, cell: Cell, audit: AuditRecord, anchor: AuditRecord, account: Mapping[str, Any] | None) -> None:
    known = jsonio.read(run / "run.json")["entries"] if (run / "run.json").is_file() else []
    folder = RunFolder(run, [row for row in known if row["label"] not in (cell.method, "anchor")])
    for name in ("audits", "merges"):
        (run / name).mkdir(parents=True, exist_ok=True)
    first: list[dict[str, Any]] = []
    RunFolder(run, first).add("anchor", "anchor", anchor)
    if cell.kind == "expert":
        folder.add(cell.method, "expert", audit, drift=_drift(cell, anchor))
    else:
        parts = {"recipe": cell.recipe, "inputs": cell.inputs, "cost": cell.cost, "method": dict(account or {})}
        folder.add(cell.method, "merge", audit, merge=parts, drift=_drift(cell, anchor))
    folder.entries = first + sorted(folder.entries, key=lambda row: row["role"] == "merge")
    where = SETTINGS[cell.setting].title if cell.setting in SETTINGS else cell.setting
    experts = run.name.partition("-")[2]
    notes = [f"Records of the study, commit {cell.made['commit']}, {cell.made['machine']}; no policy was asked."]
    if cell.limit is not None:
        notes.append(f"Each suite was cut to its first {cell.limit} items, the same for every model.")
    folder.finish(
        title=f"{where}: seed {cell.seed}, set {experts}",
        created=str(cell.made["measured"]),
        policy=None,
        notes=notes,
    )


def _drift(cell: Cell, anchor: AuditRecord) -> dict[str, Any] | None:
    """The cell's drift as a drift record; None where it has no numbers."""
    drift = cell.drift
    names = ("finite", "finite_low", "finite_high", "linear", "linear_relative")
    if not all(isinstance(drift.get(name), float) for name in names):
        return None
    return {
        "schema": DRIFT_SCHEMA,
        "checkpoint": cell.digest,
        "anchor": anchor.checkpoint,
        "finite_drift": {"value": drift["finite"], "low": drift["finite_low"], "high": drift["finite_high"]},
        "linear_drift": {"absolute": drift["linear"], "relative": drift["linear_relative"]},
    }
