"""Digests, seeds, versions and recipes: what it takes to check this report or make it again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alignmerge.auditor.record import SuiteUse, record_digest
from alignmerge.reports.account import MOST_ROWS, flatten, leaf
from alignmerge.reports.model import Entry, ReportInput
from alignmerge.reports.sections.section import Section


@dataclass(frozen=True)
class Source:
    """One checkpoint's records as printed."""

    label: str
    role: str
    name: str
    checkpoint: str
    audit: str
    policies: tuple[tuple[str, str], ...]
    created: str
    seed: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """A setting and its value; `who` says which checkpoints share it ("all" where they agree)."""

    key: str
    value: str
    who: str


@dataclass(frozen=True)
class Merge:
    """One merge record, flattened; `omitted` rows are not shown."""

    label: str
    rows: tuple[tuple[str, str], ...]
    omitted: int


@dataclass(frozen=True)
class View:
    """Everything the section prints."""

    version: str
    sources: tuple[Source, ...]
    suites: tuple[SuiteUse, ...]
    settings: tuple[Setting, ...]
    merges: tuple[Merge, ...]


def _source(entry: Entry) -> Source:
    verdicts = [entry.verdict] if entry.verdict is not None else []
    verdicts += [verdict for _, verdict in entry.also]
    return Source(
        label=entry.label,
        role=entry.role,
        name=entry.audit.name,
        checkpoint=entry.audit.checkpoint,
        audit=record_digest(entry.audit),
        policies=tuple((verdict.policy_name, verdict.policy) for verdict in verdicts),
        created=entry.audit.created,
        seed=entry.audit.seed,
        notes=entry.audit.notes,
    )


def shared_settings(entries: tuple[Entry, ...], group: str) -> list[Setting]:
    """The keys of one mapping of the audits, one line per distinct value."""
    held: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        values: Mapping[str, Any] = getattr(entry.audit, group)
        for key, text in flatten(dict(values)):
            held.setdefault((f"{group}.{key}", text), []).append(entry.label)
    return [
        Setting(key, text, "all" if len(labels) == len(entries) else ", ".join(labels))
        for (key, text), labels in sorted(held.items())
    ]


def _merge(label: str, merge: Mapping[str, Any]) -> Merge:
    rows = [
        (key, text)
        for part in sorted(merge)
        for key, text in (
            [(part, leaf(merge[part]))] if not isinstance(merge[part], Mapping | list) else flatten(merge[part], part)
        )
    ]
    return Merge(label, tuple(rows[:MOST_ROWS]), max(len(rows) - MOST_ROWS, 0))


def view(report: ReportInput) -> View:
    """Checkpoints, suites, settings and merge records, in the order of the run."""
    suites = dict.fromkeys(suite for entry in report.entries for suite in entry.audit.suites)
    settings = [
        row
        for group in ("engine", "sampling", "template", "software")
        for row in shared_settings(report.entries, group)
    ]
    return View(
        version=report.version,
        sources=tuple(_source(entry) for entry in report.entries),
        suites=tuple(suites),
        settings=tuple(settings),
        merges=tuple(_merge(entry.label, entry.merge) for entry in report.entries if entry.merge is not None),
    )


SECTION = Section("provenance", "Provenance", "provenance.html.j2", view)
