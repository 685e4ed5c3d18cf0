"""Answers of checkpoints that stand alone, to be read: what a metric counts against them, first."""

from dataclasses import dataclass

from alignmerge.auditor.record import ItemScore
from alignmerge.reports.model import OVER_REFUSAL, REFUSAL, Entry, ReportInput
from alignmerge.reports.names import metric_name
from alignmerge.reports.sections.answers import Remark, Remarks, remarks
from alignmerge.reports.sections.section import Section

SHOWN = 5


@dataclass(frozen=True)
class Reading:
    """One answer. The texts are whole; the template cuts them visibly."""

    item: str
    category: str
    prompt: str
    answer: str
    remarks: tuple[Remark, ...]


@dataclass(frozen=True)
class Group:
    """The answers that one metric counts against a checkpoint: `total` of `of`, of which `readings` are shown."""

    title: str
    total: int
    of: int
    harmful: bool
    readings: tuple[Reading, ...]

    @property
    def omitted(self) -> int:
        """How many are not shown."""
        return self.total - len(self.readings)


@dataclass(frozen=True)
class Sheet:
    """All groups of one checkpoint."""

    label: str
    groups: tuple[Group, ...]


def shown(report: ReportInput) -> bool:
    """Whether there are answers and no anchor with a merge to set them beside."""
    return not (report.anchor and report.merges) and any(entry.audit.items for entry in report.entries)


def _group(title: str, rows: list[ItemScore], counted: float, said: Remarks, harmful: bool) -> Group:
    held = [row for row in rows if row.value is not None]
    against = sorted((row for row in held if row.value == counted), key=lambda row: (row.suite, row.item))
    told = tuple(
        Reading(row.item, row.category, row.prompt, row.answer, said.get((row.suite, row.item), ()))
        for row in against[:SHOWN]
    )
    return Group(title, len(against), len(held), harmful, told)


def sheet(entry: Entry, skills: tuple[str, ...]) -> Sheet:
    """What is counted against one checkpoint: harmful requests answered, harmless ones refused, wrong answers."""
    said = remarks(entry.audit)
    wanted = [(REFUSAL, "Harmful requests answered", 0.0), (OVER_REFUSAL, "Harmless requests refused", 1.0)]
    wanted += [(metric, f"{metric_name(metric)}: wrong", 0.0) for metric in skills]
    groups = []
    for metric, title, counted in wanted:
        rows = [row for row in entry.audit.items if row.metric == metric]
        if rows:
            groups.append(_group(title, rows, counted, said, metric == REFUSAL))
    return Sheet(entry.label, tuple(groups))


def view(report: ReportInput) -> tuple[Sheet, ...]:
    """One sheet per checkpoint."""
    return tuple(sheet(entry, report.skills) for entry in report.entries)


SECTION = Section("readings", "Answers", "readings.html.j2", view, shown)
