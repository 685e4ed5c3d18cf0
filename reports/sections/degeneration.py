"""Empty, looping and truncated answers."""

from collections import Counter
from dataclasses import dataclass

from alignmerge.auditor.record import ItemScore
from alignmerge.reports.model import Entry, ReportInput
from alignmerge.reports.names import is_degeneration, metric_name
from alignmerge.reports.sections.section import Section
from alignmerge.reports.text import number

EXAMPLES_SHOWN = 2


@dataclass(frozen=True)
class Example:
    """One degenerate answer."""

    item: str
    suite: str
    finish: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class Line:
    """One checkpoint and metric as printed; `finishes` are counts of how its answers ended."""

    label: str
    role: str
    metric: str
    value: str
    interval: str
    count: int
    scored: int
    finishes: str
    examples: tuple[Example, ...]


def _finishes(rows: list[ItemScore]) -> str:
    counts = Counter(row.finish or "unknown" for row in rows)
    return ", ".join(
        f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    )


def _line(entry: Entry, metric: str) -> Line | None:
    result = entry.audit.result(metric)
    if result is None:
        return None
    rows = sorted((row for row in entry.audit.items if row.metric == metric), key=lambda row: (row.suite, row.item))
    bad = [row for row in rows if row.value]
    interval = result.interval
    shown = bad[:EXAMPLES_SHOWN] if entry.role == "merge" else []
    return Line(
        label=entry.label,
        role=entry.role,
        metric=metric_name(metric),
        value=f"unscored: {result.reason or 'no reason recorded'}" if result.value is None else number(result.value),
        interval="" if interval is None else f"{number(interval.low)} to {number(interval.high)}",
        count=len(bad),
        scored=result.scored,
        finishes=_finishes(rows),
        examples=tuple(Example(row.item, row.suite, row.finish, row.prompt, row.answer) for row in shown),
    )


def view(report: ReportInput) -> tuple[Line, ...]:
    """A line per checkpoint and degeneration metric; empty when none was measured."""
    names = dict.fromkeys(row.metric for entry in report.entries for row in entry.audit.metrics)
    lines = (_line(entry, metric) for metric in names if is_degeneration(metric) for entry in report.entries)
    return tuple(line for line in lines if line is not None)


SECTION = Section("degeneration", "Degenerate answers", "degeneration.html.j2", view)
