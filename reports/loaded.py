"""What a report is made of, from whatever folders are named: a run, or audits that no run holds together."""

import re
from collections.abc import Sequence
from pathlib import Path

from alignmerge.auditor import record
from alignmerge.auditor.record import AuditRecord
from alignmerge.errors import RecordError, UsageError
from alignmerge.policies.evidence import check_comparable
from alignmerge.reports.model import Entry, ReportInput, Role, load_run

RECORDS = "records"


def load(folders: Sequence[Path], anchor: Path | None = None) -> ReportInput:
    """The report input of one run folder, or of audit folders: one checkpoint's report, or a comparison of several.

    `anchor` is the audit that the others are compared with.

    Raises:
        UsageError: a run folder beside others. RecordError: no records there, or malformed ones, or audits that asked
            different things. StorageError, IntegrityError: see `load_run`.
    """
    runs = [place for folder in folders if (place := run_folder(folder)) is not None]
    if runs and (len(folders) > 1 or anchor is not None):
        raise UsageError(f"{runs[0]}: a run has its own anchor and entries; name it alone, or name audit folders only")
    if runs:
        return load_run(runs[0])
    audits = [_audit(folder) for folder in folders]
    return of_audits(audits, None if anchor is None else _audit(anchor))


def run_folder(folder: Path) -> Path | None:
    """The run folder in `folder`: its `records` (the folder of one merge), or itself; None where there is none."""
    return next((place for place in (folder / RECORDS, folder) if (place / "run.json").is_file()), None)


def of_audits(audits: Sequence[AuditRecord], anchor: AuditRecord | None) -> ReportInput:
    """The report of audits that belong to no run; they stand beside the anchor where there is one.

    Raises:
        RecordError: an audit asked other things than the anchor did.
    """
    for audit in audits if anchor is not None else ():
        assert anchor is not None
        check_comparable(audit, anchor)
    role: Role = "checkpoint" if anchor is None else "merge"
    names = _labels([*([] if anchor is None else [anchor]), *audits])
    entries = [] if anchor is None else [Entry(names[0], "anchor", anchor)]
    entries += [Entry(name, role, audit) for name, audit in zip(names[len(entries) :], audits, strict=True)]
    every = [entry.audit for entry in entries]
    title = f"Audit of {names[0]}" if len(every) == 1 else f"Audits of {len(every)} checkpoints"
    return ReportInput(title, max(one.created for one in every), "none", (), tuple(entries))


def _audit(folder: Path) -> AuditRecord:
    if not (folder / "audit.json").is_file():
        raise RecordError(f"{folder}: no run.json and no audit.json here; name a folder that a command wrote")
    return record.load(folder)


def _labels(audits: Sequence[AuditRecord]) -> list[str]:
    """A short name for each, numbered where two would be equal."""
    out: list[str] = []
    for audit in audits:
        last = re.split(r"[/:]", audit.name.rstrip("/"))[-1] or "model"
        label, number = last, 1
        while label in out:
            number += 1
            label = f"{last} {number}"
        out.append(label)
    return out
