"""Answers of checkpoints that stand alone, to be read: what a metric counts against them, as far as the page holds."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from alignmerge.auditor.record import AuditRecord, ItemScore
from alignmerge.reports.counted import (
    HALF,
    Remark,
    Remarks,
    family,
    harmful_suites,
    is_harmful,
    item_metrics,
    more_is_worse,
    plain,
    remarks,
    said,
)
from alignmerge.reports.model import OVER_REFUSAL, REFUSAL, ReportInput
from alignmerge.reports.names import metric_name
from alignmerge.reports.ranking import skills_of
from alignmerge.reports.room import ANSWER_BYTES, allot, cost
from alignmerge.reports.sections.section import Section

SHOWN = 5


@dataclass(frozen=True)
class Reading:
    """One answer. The texts are whole; the template cuts them visibly. `also` is what other metrics count."""

    item: str
    category: str
    prompt: str
    answer: str
    harmful: bool
    also: str
    remarks: tuple[Remark, ...]


@dataclass(frozen=True)
class Group:
    """The answers that one metric counts against a checkpoint: `total` of `of`, of which `readings` are printed.

    `above` of them stand in groups before this one.
    """

    title: str
    total: int
    of: int
    above: int
    readings: tuple[Reading, ...]

    @property
    def omitted(self) -> int:
        """How many are not on the page."""
        return self.total - self.above - len(self.readings)


@dataclass(frozen=True)
class Sheet:
    """All groups of one checkpoint."""

    label: str
    groups: tuple[Group, ...]

    @property
    def omitted(self) -> int:
        """How many answers are not on the page."""
        return sum(group.omitted for group in self.groups)


@dataclass(frozen=True)
class _Counted:
    """One answer that counts against its checkpoint; `also` is filled by the metrics that come later."""

    row: ItemScore
    said: Remarks
    harmful: frozenset[str]
    also: list[str] = field(default_factory=list)

    def built(self) -> tuple[Reading, int]:
        """The reading, and what it costs."""
        row, told = self.row, self.said.get((self.row.suite, self.row.item), ())
        harmful, also = is_harmful(row, self.harmful), "; ".join(self.also)
        reading = Reading(row.item, row.category, row.prompt, row.answer, harmful, also, told)
        fields = (row.item, row.category, also, *(remark.metric for remark in told))
        return reading, cost((row.prompt, row.answer, *(remark.text for remark in told)), fields, len(told))


@dataclass(frozen=True)
class _Draft:
    """A group before it is known how many of its own answers the page holds."""

    title: str
    total: int
    of: int
    own: list[_Counted]


def shown(report: ReportInput) -> bool:
    """Whether there are answers and no anchor with a merge to set them beside."""
    return not (report.anchor and report.merges) and any(entry.audit.items for entry in report.entries)


def _title(metric: str, skills: Sequence[str]) -> str:
    suite = metric.partition("@")[2].replace("_", " ")
    of = f" ({suite})" if suite else ""
    if plain(metric) == REFUSAL:
        return f"Harmful requests answered{of}"
    if plain(metric) == OVER_REFUSAL:
        return f"Harmless requests refused{of}"
    name = metric_name(metric)
    return f"{name}: wrong" if family(metric, skills) == 2 else f"{name}: counted against it"


def _drafts(audit: AuditRecord, skills: tuple[str, ...]) -> list[_Draft]:
    """What is counted against one checkpoint: harmful requests answered, harmless ones refused, wrong answers, more."""
    told, harmful = remarks(audit), harmful_suites(audit)
    seen: dict[tuple[str, ...], _Counted] = {}
    drafts = []
    for metric in item_metrics((audit,), skills):
        held = [row for row in audit.by_metric[metric] if row.value is not None]
        rising = more_is_worse((audit,), metric)
        against = [row for row in held if ((row.value or 0.0) >= HALF) == rising]
        own = []
        for row in sorted(against, key=lambda row: (row.suite, row.item)):
            key = (row.suite, row.item, row.answer)
            if key in seen:
                seen[key].also.append(f"{metric_name(metric)}: {said(metric, row.value or 0.0)}")
                continue
            seen[key] = _Counted(row, told, harmful)
            own.append(seen[key])
        drafts.append(_Draft(_title(metric, skills), len(against), len(held), own))
    return drafts


def view(report: ReportInput) -> tuple[Sheet, ...]:
    """One sheet per checkpoint."""
    return sheets(report, ANSWER_BYTES)


def counted(report: ReportInput) -> tuple[Sheet, ...]:
    """The sheets with all their counts and no answer, for forms that print none."""
    return sheets(report, 0)


def sheets(report: ReportInput, room: int) -> tuple[Sheet, ...]:
    """One sheet per checkpoint, with the answers that `room` bytes hold."""
    skills = skills_of(report)
    every = [_drafts(entry.audit, skills) for entry in report.entries]
    kept = iter(allot([draft.own for drafts in every for draft in drafts], _Counted.built, room))
    return tuple(
        Sheet(entry.label, tuple(_group(draft, next(kept)) for draft in drafts))
        for entry, drafts in zip(report.entries, every, strict=True)
    )


def _group(draft: _Draft, readings: list[Reading]) -> Group:
    return Group(draft.title, draft.total, draft.of, draft.total - len(draft.own), tuple(readings))


SECTION = Section("readings", "Answers", "readings.html.j2", view, shown)
