"""What a report is made of, and how it is read from a run folder.

`run.json` (schema alignmerge.run/1) names the records of one comparison, all inside the same folder:

    {"schema": "alignmerge.run/1", "title": "...", "created": "2026-01-31T12:00:00Z", "version": "0.1.0",
     "policy": {"name": "demo.yaml", "summary": [{"rule", "metric", "limit", "severity", "text"}]},
     "entries": [{"label", "role": "reference|anchor|expert|merge|checkpoint", "audit": "audits/soup",
                  "verdict": "verdicts/soup.json" | null, "merge": "merges/soup/merge.json" | null,
                  "drift": "drifts/soup.json" | null, "blame": "blames/soup.json" | null,
                  "also": ["verdicts/soup.release.json"]}],
     "notes": ["..."]}

`also` holds verdicts of further policies on the same audit. Optional: `version`, `drift`, `blame`, `also`, `notes`,
`skills` (metric ids).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from alignmerge import __version__, jsonio
from alignmerge.auditor import record
from alignmerge.auditor.record import AuditRecord
from alignmerge.errors import RecordError
from alignmerge.policies.verdict import Verdict, from_statement
from alignmerge.reports.blame import BlameRecord, read_blame
from alignmerge.reports.drift import read_drift

SCHEMA = "alignmerge.run/1"
SKILLS = ("arithmetic_accuracy", "instruction_following_rate", "units_accuracy")
REFUSAL = "refusal_rate"
OVER_REFUSAL = "over_refusal_rate"

Role = Literal["reference", "anchor", "expert", "merge", "checkpoint"]


@dataclass(frozen=True)
class PolicyRow:
    """One rule of the policy in words. `limit` is inclusive and in the metric's unit."""

    rule: str
    metric: str
    limit: float
    severity: Literal["block", "warn"]
    text: str


@dataclass(frozen=True)
class Entry:
    """One checkpoint of the comparison.

    `verdict` is None where no policy was asked. `merge` is the content of merge.json, None where nothing was merged.
    `drift` is the content of its drift record, None where none was kept; so is `blame`, who spent it. `also` holds
    (policy name, verdict) of further policies.
    """

    label: str
    role: Role
    audit: AuditRecord
    verdict: Verdict | None = None
    merge: Mapping[str, Any] | None = None
    also: tuple[tuple[str, Verdict], ...] = ()
    drift: Mapping[str, Any] | None = None
    blame: BlameRecord | None = None


@dataclass(frozen=True)
class ReportInput:
    """Everything a report prints. `skills` are the metric ids whose mean is the skill of an entry."""

    title: str
    created: str
    policy_name: str
    policy_summary: tuple[PolicyRow, ...]
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()
    version: str = __version__
    skills: tuple[str, ...] = SKILLS

    @property
    def anchor(self) -> Entry | None:
        """The first entry with the role of the anchor."""
        return next((entry for entry in self.entries if entry.role == "anchor"), None)

    @property
    def merges(self) -> tuple[Entry, ...]:
        """The merges, in the order of the run."""
        return tuple(entry for entry in self.entries if entry.role == "merge")

    @property
    def experts(self) -> tuple[Entry, ...]:
        """The experts by themselves, in the order of the run."""
        return tuple(entry for entry in self.entries if entry.role == "expert")


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class _PolicyRow(_Strict):
    rule: str
    metric: str
    limit: float
    severity: Literal["block", "warn"]
    text: str


class _Policy(_Strict):
    name: str
    summary: tuple[_PolicyRow, ...]


class RunRow(_Strict):
    """One row of `entries` in run.json; paths are relative to the run's folder."""

    label: str
    role: Role
    audit: str
    verdict: str | None = None
    merge: str | None = None
    drift: str | None = None
    blame: str | None = None
    also: tuple[str, ...] = ()


class RunFile(_Strict):
    """run.json as it is written, checked."""

    schema_: Literal["alignmerge.run/1"]
    title: str
    created: str
    version: str = __version__
    policy: _Policy
    entries: tuple[RunRow, ...]
    notes: tuple[str, ...] = ()
    skills: tuple[str, ...] = SKILLS


def read_run(folder: Path) -> RunFile:
    """`folder`/run.json alone; the records it names are not read.

    Raises:
        RecordError: malformed.
        StorageError: it cannot be read.
    """
    path = folder / "run.json"
    return _parse(jsonio.read(path), path)


def load_run(folder: Path) -> ReportInput:
    """The report input that `folder`/run.json and the records it names describe.

    Raises:
        RecordError: run.json or a record is malformed, a path leaves the folder, or a verdict, drift or blame speaks of
            another audit or another anchor.
        IntegrityError: items are not the ones their audit recorded.
        StorageError: a file cannot be read.
    """
    run = read_run(folder)
    entries = tuple(_entry(folder, row) for row in run.entries)
    anchor = next((entry.audit for entry in entries if entry.role == "anchor"), None)
    if anchor is not None:
        _check_anchor(folder, run.entries, entries, anchor)
    return ReportInput(
        title=run.title,
        created=run.created,
        policy_name=run.policy.name,
        policy_summary=tuple(PolicyRow(**row.model_dump()) for row in run.policy.summary),
        entries=entries,
        notes=run.notes,
        version=run.version,
        skills=run.skills,
    )


def _parse(value: Any, path: Path) -> RunFile:
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise RecordError(f"{path}: key 'schema' is not {SCHEMA!r}; write the run again with this version")
    fields = {("schema_" if key == "schema" else key): content for key, content in value.items()}
    try:
        return RunFile.model_validate_json(jsonio.canonical(fields))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: {place}: {first['msg']}") from None


def inside(folder: Path, name: str, key: str) -> Path:
    """The path of the record `name` that run.json in `folder` gives under `key`.

    Raises:
        RecordError: it leaves the folder.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RecordError(f"{folder / 'run.json'}: {key} {name!r} leaves the run's folder; copy the record into it")
    return path


def _entry(folder: Path, row: RunRow) -> Entry:
    audit = record.load(inside(folder, row.audit, "audit"))
    verdict = None if row.verdict is None else _verdict(folder, row.verdict, audit)
    also = tuple(_verdict(folder, name, audit) for name in row.also)
    merge = None if row.merge is None else jsonio.read(inside(folder, row.merge, "merge"))
    if merge is not None and not isinstance(merge, dict):
        raise RecordError(f"{folder / str(row.merge)}: a merge record is a JSON object")
    pairs = tuple((extra.policy_name, extra) for extra in also)
    drift = None if row.drift is None else read_drift(inside(folder, row.drift, "drift"), audit.checkpoint)
    blame = None if row.blame is None else read_blame(inside(folder, row.blame, "blame"), audit.checkpoint)
    return Entry(row.label, row.role, audit, verdict=verdict, merge=merge, also=pairs, drift=drift, blame=blame)


def _check_anchor(folder: Path, rows: Sequence[RunRow], entries: Sequence[Entry], anchor: AuditRecord) -> None:
    """Nothing, once every verdict, drift and blame is known to be measured from `anchor`, the run's."""
    digest = record.record_digest(anchor)
    for row, entry in zip(rows, entries, strict=True):
        verdicts = [] if entry.verdict is None else [(str(row.verdict), entry.verdict)]
        for name, verdict in [*verdicts, *((name, one) for name, (_, one) in zip(row.also, entry.also, strict=True))]:
            if verdict.audits.get("anchor", digest) != digest:
                raise RecordError(f"{folder / name}: was decided against another anchor's audit than the run's")
        drift, blame = entry.drift and entry.drift["anchor"], entry.blame and entry.blame.anchor
        for place, found in ((row.drift, drift), (row.blame, blame)):
            if found not in (None, anchor.checkpoint):
                raise RecordError(
                    f"{folder / str(place)}: was measured from anchor {str(found)[:12]}, the run's is "
                    f"{anchor.checkpoint[:12]}; measure it again"
                )


def _verdict(folder: Path, name: str, audit: AuditRecord) -> Verdict:
    path = inside(folder, name, "verdict")
    return check_verdict(path, read_verdict(path), audit)


def read_verdict(path: Path) -> Verdict:
    """The verdict in the file at `path`.

    Raises:
        RecordError: malformed. StorageError: it cannot be read.
    """
    return from_statement(jsonio.read(path), str(path))


def check_verdict(path: Path, verdict: Verdict, audit: AuditRecord) -> Verdict:
    """`verdict`, once it is known to be about `audit`.

    Raises:
        RecordError: it speaks of another checkpoint or rests on another audit.
    """
    if verdict.subject != audit.checkpoint:
        raise RecordError(
            f"{path}: speaks of checkpoint {verdict.subject[:12]}, the audit is of {audit.checkpoint[:12]}"
        )
    if record.record_digest(audit) not in verdict.audits.values():
        raise RecordError(f"{path}: was decided on another audit than the one named here; decide again")
    return verdict
