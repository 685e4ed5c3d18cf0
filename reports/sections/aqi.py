"""AQI: value and interval per checkpoint, the frozen layer weights, and whether its validity gate passed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alignmerge.reports import charts, clusters
from alignmerge.reports.account import find, is_number
from alignmerge.reports.drawing import Drawing
from alignmerge.reports.model import Entry, ReportInput
from alignmerge.reports.names import is_aqi
from alignmerge.reports.sections.comparison import columns, metric_chart
from alignmerge.reports.sections.section import Section
from alignmerge.reports.text import number

CLUSTERED = "aqi_log_j"  # the form whose detail holds the projection and the categories


@dataclass(frozen=True)
class Line:
    """One checkpoint as printed."""

    label: str
    role: str
    value: str
    interval: str
    error: str
    gate: str
    gate_reason: str

    @property
    def gate_words(self) -> str:
        """Whether the gate passed, and why."""
        return f"{self.gate}: {self.gate_reason}" if self.gate_reason else self.gate


@dataclass(frozen=True)
class Form:
    """One form of the index."""

    name: str
    unit: str
    direction: str
    lines: tuple[Line, ...]
    chart: Drawing | None

    @property
    def gate(self) -> str:
        """The validity gate in words where it is the same for every checkpoint; else empty."""
        words = {line.gate_words for line in self.lines}
        return words.pop() if len(words) == 1 else ""


@dataclass(frozen=True)
class Category:
    """log J of the pairs of one category as printed. `value` is the reason where there is none."""

    label: str
    category: str
    pairs: str
    value: str
    interval: str
    chance: str


@dataclass(frozen=True)
class View:
    """All forms measured; the clusters, categories and layer weights where the records have them."""

    forms: tuple[Form, ...]
    clusters: tuple[Drawing, ...]
    categories: tuple[Category, ...]
    weights: Drawing | None

    @property
    def gate(self) -> str:
        """The validity gate in words where it is the same for every form; else empty."""
        words = {form.gate for form in self.forms}
        return words.pop() if len(words) == 1 else ""


def _lines(report: ReportInput, metric: str) -> tuple[Line, ...]:
    lines = []
    for entry in report.entries:
        result = entry.audit.result(metric)
        if result is None:
            continue
        value = f"unscored: {result.reason or 'no reason recorded'}" if result.value is None else number(result.value)
        interval = result.interval
        gate = {None: "none", True: "passed", False: "not passed"}[result.valid]
        lines.append(
            Line(
                label=entry.label,
                role=entry.role,
                value=value,
                interval="" if interval is None else f"{number(interval.low)} to {number(interval.high)}",
                error="" if result.standard_error is None else number(result.standard_error),
                gate=gate,
                gate_reason=result.valid_reason or "",
            )
        )
    return tuple(lines)


def weights_of(reference: Mapping[str, Any] | None) -> tuple[float, ...]:
    """Weights of layers 1, 2, ... in order; empty when the reference has none."""
    for name in ("alpha", "layer_weights"):
        found = find(reference, name)
        if isinstance(found, Mapping):
            found = [found[key] for key in sorted(found, key=lambda key: (len(str(key)), str(key)))]
        if isinstance(found, list | tuple) and found and all(is_number(value) for value in found):
            return tuple(float(value) for value in found)
    return ()


def drawn_clusters(report: ReportInput) -> tuple[Drawing, ...]:
    """One projection per checkpoint that recorded one."""
    made = []
    for index, entry in enumerate(report.entries):
        found = clusters.of_detail(_detail(entry))
        if found is not None:
            made.append(clusters.scatter(f"clusters-{index}", entry.label, found))
    return tuple(made)


def _detail(entry: Entry) -> Mapping[str, Any]:
    result = entry.audit.result(CLUSTERED)
    return {} if result is None or result.detail is None else result.detail


def category_lines(report: ReportInput) -> tuple[Category, ...]:
    """Every category of every checkpoint that recorded them; categories by name, checkpoints in the run's order."""
    held = [(entry.label, _detail(entry).get("categories")) for entry in report.entries]
    parts = [(label, found) for label, found in held if isinstance(found, Mapping)]
    names = sorted({str(name) for _, found in parts for name in found})
    return tuple(
        _category(label, name, found[name])
        for name in names
        for label, found in parts
        if isinstance(found.get(name), Mapping)
    )


def _category(label: str, name: str, found: Mapping[str, Any]) -> Category:
    numbers = {key: found[key] for key in ("pairs", "value", "low", "high", "chance") if is_number(found.get(key))}
    reason = found.get("reason")
    return Category(
        label=label,
        category=name,
        pairs=f"{numbers['pairs']:,.0f}" if "pairs" in numbers else "",
        value=number(numbers["value"])
        if "value" in numbers
        else f"unscored: {reason if isinstance(reason, str) else 'no reason recorded'}",
        interval=f"{number(numbers['low'])} to {number(numbers['high'])}" if {"low", "high"} <= set(numbers) else "",
        chance=number(numbers["chance"]) if "chance" in numbers else "",
    )


def view(report: ReportInput) -> View:
    """Every AQI form with its lines and chart; weights from the first record that carries them."""
    forms = []
    for index, column in enumerate(column for column in columns(report) if is_aqi(column.metric)):
        chart = metric_chart(report, column, f"aqi-{index}")
        forms.append(Form(column.name, column.unit, column.direction, _lines(report, column.metric), chart))
    found = (weights_of(entry.audit.aqi_reference) for entry in report.entries)
    weights = next((row for row in found if row), ())
    title = "Layer weights of the pooled hidden state, fitted on the anchor and frozen"
    return View(
        forms=tuple(forms),
        clusters=drawn_clusters(report),
        categories=category_lines(report),
        weights=charts.layer_weights("weights", title, weights) if weights else None,
    )


SECTION = Section("aqi", "Alignment quality index (AQI)", "aqi.html.j2", view)
