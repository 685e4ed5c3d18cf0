"""Every checkpoint against every metric, as a table and as small charts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from alignmerge.auditor.record import AuditRecord, MetricResult
from alignmerge.reports import charts
from alignmerge.reports.charts import Point
from alignmerge.reports.drawing import Drawing
from alignmerge.reports.model import Entry, ReportInput
from alignmerge.reports.names import is_aqi, is_toxicity, metric_name
from alignmerge.reports.ranking import estimate_of
from alignmerge.reports.sections.section import Section
from alignmerge.reports.text import number


@dataclass(frozen=True)
class Column:
    """One metric. `n` is the number of items scored where all checkpoints agree, else empty."""

    metric: str
    name: str
    suite: str
    unit: str
    direction: str
    n: str


@dataclass(frozen=True)
class Cell:
    """One value as printed. `value` is empty where nothing was scored, then `missing` says why."""

    value: str
    interval: str
    missing: str
    unscored: str
    best: bool
    n: str


@dataclass(frozen=True)
class Row:
    """One checkpoint. `sign` and `decision` are empty where there is no verdict."""

    label: str
    role: str
    decision: str
    sign: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class View:
    """The table and the charts under it. `different` names the suites whose items differ between checkpoints, `lacking`
    those that some checkpoints were not asked, and which.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    charts: tuple[Drawing, ...]
    different: tuple[str, ...]
    lacking: tuple[str, ...] = ()

    @property
    def has_best(self) -> bool:
        """Whether some value is marked as the best."""
        return any(cell.best for row in self.rows for cell in row.cells)


def columns(report: ReportInput) -> tuple[Column, ...]:
    """Every metric that some record holds, in the order of first appearance."""
    seen: dict[str, Column] = {}
    for entry in report.entries:
        for row in entry.audit.metrics:
            way = "higher is better ↑" if row.direction == "higher" else "lower is better ↓"
            name, n = metric_name(row.metric), common_count(report, row.metric)
            seen.setdefault(row.metric, Column(row.metric, name, row.suite, row.unit, way, n))
    return tuple(seen.values())


def common_count(report: ReportInput, metric: str) -> str:
    """The number of items scored, as text, where every record that has a value agrees; else empty."""
    results = [entry.audit.result(metric) for entry in report.entries]
    counts = {result.scored for result in results if result is not None and result.value is not None}
    if len(counts) != 1:
        return ""
    return f"n {counts.pop():,}" + (" pairs" if is_aqi(metric) else "")


def different_suites(report: ReportInput) -> tuple[str, ...]:
    """Names of the suites of which not all checkpoints were asked the same items."""
    digests: dict[str, set[str]] = {}
    for entry in report.entries:
        for suite in entry.audit.suites:
            digests.setdefault(suite.name, set()).add(suite.digest)
    return tuple(sorted(name for name, held in digests.items() if len(held) > 1))


def lacking_suites(report: ReportInput) -> tuple[str, ...]:
    """The suites that some checkpoints were not asked, as "units (not ties, soup)"."""
    asked = [(entry.label, {suite.name for suite in entry.audit.suites}) for entry in report.entries]
    names = sorted(set().union(*(held for _, held in asked)))
    without = {name: [label for label, held in asked if name not in held] for name in names}
    return tuple(f"{name} (not {', '.join(labels)})" for name, labels in without.items() if labels)


def unscored_note(audit: AuditRecord, result: MetricResult) -> str:
    """How many items could not be scored and the most frequent reason; empty when all were."""
    if not result.unscored:
        return ""
    reasons = Counter(row.unscored for row in audit.items if row.metric == result.metric and row.unscored)
    ordered = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return f"{result.unscored:,} unscored" + (f": {ordered[0][0]}" if ordered else "")


def cell(entry: Entry, column: Column, best: frozenset[str]) -> Cell:
    """The value of a metric for `entry`; best when its printed value is in `best`."""
    result = entry.audit.result(column.metric)
    if result is None:
        return Cell("", "", "not measured", "", False, "")
    if result.value is None:
        return Cell("", "", f"unscored: {result.reason or 'no reason recorded'}", "", False, "")
    value = number(result.value)
    interval = ""
    if result.interval is not None:
        interval = f"{number(result.interval.low)} to {number(result.interval.high)}"
    won = entry.role == "merge" and value in best
    return Cell(
        value, interval, "", unscored_note(entry.audit, result), won, "" if column.n else f"n {result.scored:,}"
    )


def best_values(report: ReportInput, metric: str) -> frozenset[str]:
    """The best printed value among the merges; empty when fewer than two have one or all print the same."""
    results = [result for entry in report.merges if (result := entry.audit.result(metric)) is not None]
    values = [result.value for result in results if result.value is not None]
    if len({number(value) for value in values}) < 2:
        return frozenset()
    pick = max if results[0].direction == "higher" else min
    return frozenset({number(pick(values))})


def metric_points(report: ReportInput, metric: str) -> list[Point]:
    """A point per entry that has a value for `metric`; the value is in both coordinates."""
    points = []
    for entry in report.entries:
        estimate = estimate_of(entry.audit.result(metric))
        if estimate is not None:
            decision = entry.verdict.decision if entry.verdict is not None else None
            points.append(Point(entry.label, entry.role, estimate, estimate, decision))
    return points


def metric_chart(report: ReportInput, column: Column, key: str) -> Drawing | None:
    """The interval chart of one metric, or None when nothing has a value."""
    points = metric_points(report, column.metric)
    if not points:
        return None
    anchor = estimate_of(report.anchor.audit.result(column.metric)) if report.anchor is not None else None
    axis = f"{column.unit}, {column.direction}"
    return charts.intervals(key, column.name, axis, points, None if anchor is None else anchor.value)


def table(report: ReportInput, found: Sequence[Column]) -> tuple[Row, ...]:
    """One row per entry, one cell per column."""
    best = {column.metric: best_values(report, column.metric) for column in found}
    rows = []
    for entry in report.entries:
        cells = tuple(cell(entry, column, best[column.metric]) for column in found)
        decision = entry.verdict.decision if entry.verdict is not None else ""
        rows.append(Row(entry.label, entry.role, decision, charts.SIGNS.get(decision, ""), cells))
    return tuple(rows)


def drawn(report: ReportInput, found: Sequence[Column], key: str) -> tuple[Drawing, ...]:
    """The charts of those columns that have a value; their ids start with `key`."""
    made = (metric_chart(report, column, f"{key}-{index}") for index, column in enumerate(found))
    return tuple(drawing for drawing in made if drawing is not None)


def view(report: ReportInput) -> View:
    """All entries by all metrics; charts of all but those that have their own section."""
    found = columns(report)
    here = [column for column in found if not is_aqi(column.metric) and not is_toxicity(column.metric)]
    charts_here = drawn(report, here, "metric")
    return View(found, table(report, found), charts_here, different_suites(report), lacking_suites(report))


SECTION = Section("comparison", "Measurements", "comparison.html.j2", view)
