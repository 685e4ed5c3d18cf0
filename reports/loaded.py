"""What a report is made of, from whatever folders are named: a run, or audits that no run holds together."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from alignmerge.auditor import record
from alignmerge.auditor.record import AuditRecord, record_digest
from alignmerge.errors import RecordError, UsageError
from alignmerge.policies.evidence import check_comparable
from alignmerge.reports.model import Entry, ReportInput, Role, check_verdict, load_run, read_verdict

RECORDS = "records"


def load(folders: Sequence[Path], anchor: Path | None = None, verdicts: Sequence[Path] = ()) -> ReportInput:
    """The report input of one run folder, or of audit folders: one checkpoint's report, or a comparison of several.

    `anchor` is the audit that the others are compared with; `verdicts` are files that gate wrote about those others.

    Raises:
        UsageError: a run folder beside others, or verdicts without audits or anchor.
        RecordError: no records there, or malformed ones, audits that asked different things, a verdict about others.
        StorageError, IntegrityError: see `load_run`.
    """
    runs = [place for folder in folders if (place := run_folder(folder)) is not None]
    if runs and (len(folders) > 1 or anchor is not None or verdicts):
        raise UsageError(f"{runs[0]}: a run has its own anchor and entries; name it alone, or name audit folders only")
    if runs:
        return load_run(runs[0])
    audits = [_audit(folder) for folder in folders]
    made = of_audits(audits, None if anchor is None else _audit(anchor))
    return _decided(made, verdicts) if verdicts else made


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


def _decided(report: ReportInput, paths: Sequence[Path]) -> ReportInput:
    """`report` with each verdict at the entry that it speaks of."""
    if report.anchor is None:
        raise UsageError("a verdict compares with the anchor: name its audit by --anchor")
    kept, anchor = list(report.entries), record_digest(report.anchor.audit)
    for path in paths:
        verdict = read_verdict(path)
        found = (at for at, one in enumerate(kept) if one.role == "merge" and one.audit.checkpoint == verdict.subject)
        at = next(found, None)
        if at is None:
            raise RecordError(f"{path}: speaks of checkpoint {verdict.subject[:12]}, which no audit named here is of")
        if verdict.audits.get("anchor") != anchor:
            raise RecordError(f"{path}: was decided against another anchor's audit than the one named by --anchor")
        check_verdict(path, verdict, kept[at].audit)
        if kept[at].verdict is not None:
            kept[at] = replace(kept[at], also=(*kept[at].also, (verdict.policy_name, verdict)))
        else:
            kept[at] = replace(kept[at], verdict=verdict)
    names = dict.fromkeys(one.verdict.policy_name for one in kept if one.verdict is not None)
    return replace(report, policy_name=" and ".join(names), entries=tuple(kept))


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
