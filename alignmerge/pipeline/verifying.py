"""Whether a run folder still says what it said: weights, records, verdicts and policy against each other's digests.

Everything is re-derived from files: the manifest from bytes, each verdict from the audits and policy beside it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignmerge import jsonio
from alignmerge.auditor import record
from alignmerge.auditor.record import AuditRecord
from alignmerge.errors import AlignMergeError, InputRejected, IntegrityError, RecordError
from alignmerge.policies.decide import decide
from alignmerge.policies.schema import Policy, load_policy, policy_digest
from alignmerge.policies.verdict import Verdict, from_statement
from alignmerge.provenance import manifest as manifests

RECORDS = "records"
_RECORD_ENDINGS = (".json", ".jsonl", ".yaml", ".html")


@dataclass(frozen=True)
class Finding:
    """One thing that does not hold: the file or record it is about, and what is wrong."""

    where: str
    problem: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


@dataclass(frozen=True)
class Verified:
    """What was checked. `findings` is empty when everything holds; `verdicts` maps labels to decisions."""

    checked: tuple[str, ...]
    verdicts: dict[str, str]
    findings: tuple[Finding, ...]


def records_folder(folder: Path) -> Path:
    """The run folder in `folder`: itself, or its `records` (the folder of one merge).

    Raises:
        RecordError: neither holds a run.json.
    """
    for place in (folder, folder / RECORDS):
        if (place / "run.json").is_file():
            return place
    raise RecordError(f"{folder}: no run.json here or in {RECORDS}/; name a folder that merge, compare or demo wrote")


def verify(folder: Path) -> Verified:
    """What holds and what does not in `folder`.

    Raises:
        RecordError: there is no run here, or run.json cannot be read as one.
        IntegrityError, StorageError: a record cannot be read.
    """
    run_folder = records_folder(folder)
    run = jsonio.read(run_folder / "run.json")
    checked, findings, verdicts = ["run.json"], [], dict[str, str]()
    try:
        entries = list(run["entries"])
        audits = {row["label"]: record.load(_inside(run_folder, row["audit"])) for row in entries}
    except (KeyError, TypeError) as error:
        raise RecordError(f"{run_folder / 'run.json'}: malformed: {error!r}") from None
    policies = _policies(run_folder)
    anchor = next((audits[row["label"]] for row in entries if row["role"] == "anchor"), None)
    for row in entries:
        label, audit = row["label"], audits[row["label"]]
        checked.append(row["audit"])
        names = [name for name in (row.get("verdict"), *row.get("also", ())) if name]
        for name in names:
            checked.append(name)
            try:
                verdict = from_statement(jsonio.read(_inside(run_folder, name)), name)
            except InputRejected as error:
                findings.append(Finding(name, str(error)))
                continue
            findings += _check_verdict(name, verdict, audit, anchor, policies)
            verdicts.setdefault(label, verdict.decision)
        merge = row.get("merge")
        model = folder if run_folder != folder else folder / "models" / label
        verdicts.setdefault(label, "ungated") if merge else None
        findings += _check_model(model, audit, merge and jsonio.read(_inside(run_folder, merge)), checked)
    return Verified(tuple(checked), verdicts, tuple(findings))


def require(verified: Verified) -> None:
    """Return when nothing was found.

    Raises:
        IntegrityError: lists every finding.
    """
    if verified.findings:
        raise IntegrityError("; ".join(str(finding) for finding in verified.findings))


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RecordError(f"{folder / 'run.json'}: {name!r} leaves the run's folder")
    return path


def _policies(run_folder: Path) -> dict[str, Policy]:
    """The policies stored beside the records, by digest."""
    found = (load_policy(path) for path in sorted(run_folder.glob("policy*.yaml")))
    return {policy_digest(policy): policy for policy in found}


def _check_verdict(
    name: str, verdict: Verdict, audit: AuditRecord, anchor: AuditRecord | None, policies: dict[str, Policy]
) -> list[Finding]:
    out = []
    if verdict.subject != audit.checkpoint:
        out.append(Finding(name, f"speaks of {verdict.subject[:12]}, the audit is of {audit.checkpoint[:12]}"))
    known = {record.record_digest(one) for one in (audit, anchor) if one is not None}
    if not {verdict.audits.get("candidate"), verdict.audits.get("anchor")} - {None} <= known:
        out.append(Finding(name, "was decided on other audits than the ones in this folder"))
    policy = policies.get(verdict.policy)
    if policy is None:
        return [*out, Finding(name, f"its policy {verdict.policy_name} ({verdict.policy[:12]}) is not in this folder")]
    try:
        again = decide(policy, audit, anchor, created=verdict.created, version=verdict.version)
    except AlignMergeError as error:
        return [*out, Finding(name, f"cannot be decided again: {error}")]
    if again.rules != verdict.rules or again.decision != verdict.decision:
        out.append(Finding(name, f"says {verdict.decision}; its audits and policy give {again.decision}"))
    return out


def _check_model(model: Path, audit: AuditRecord, merge: Any, checked: list[str]) -> list[Finding]:
    out = []
    if merge is not None and merge.get("output_digest") != audit.checkpoint:
        out.append(Finding("merge record", f"made {str(merge.get('output'))[:12]}, the audit is of another checkpoint"))
    if merge is None or not (model / manifests.FILE_NAME).is_file():
        return out
    checked.append(str(model / manifests.FILE_NAME))
    stored = manifests.read(model)
    if stored.digest != audit.checkpoint:
        out.append(Finding(str(model), f"is {stored.digest[:12]}, the audit is of {audit.checkpoint[:12]}"))
    records = model / RECORDS
    own = {path.relative_to(model).as_posix() for path in records.rglob("*") if path.name.endswith(_RECORD_ENDINGS)}
    allowed = manifests.RECORD_FILES | own
    differences = manifests.verify(model, stored, frozenset(allowed))
    return out + [Finding(str(model / one.path), f"{one.kind} since the manifest was made") for one in differences]
