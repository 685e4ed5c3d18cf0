"""How a data-aware method got to its merge: the terms of its objective by step; and how far every merge drifted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alignmerge.reports import charts
from alignmerge.reports.account import find, flatten, is_number, trace_rows
from alignmerge.reports.drawing import Drawing
from alignmerge.reports.model import ReportInput
from alignmerge.reports.sections.section import Section, has_merges

TERMS = (
    ("geo", "L_geo: distance from where the descent began"),
    ("align", "L_align: loss of the anchor's own answers"),
    ("bud", "L_bud: excess over the soft alignment budget"),
    ("skill", "Beside them: loss of the experts' own answers"),
)
DRIFTS = (
    ("functional", "Alignment functional (0: as good as the anchor; below: worse)"),
    (
        "finite_drift",
        "Finite drift: mean KL(anchor || merge), nats per token, on the first tokens of held-out alignment answers",
    ),
    ("linear_drift", "Linear drift in the alignment subspace"),
)


@dataclass(frozen=True)
class Solve:
    """One solver trace: the chart of the three terms and every number in a table."""

    label: str
    chart: Drawing | None
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    ended: str


@dataclass(frozen=True)
class Drift:
    """One number of drift that a merge's records carry."""

    label: str
    name: str
    key: str
    value: str


@dataclass(frozen=True)
class Table:
    """One measure of drift: a row of cells per merge in the order of `columns`, empty where it has no such part."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class View:
    """Empty tuples where no merge record says anything."""

    solves: tuple[Solve, ...]
    drifts: tuple[Drift, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        """`drifts` as one table per measure."""
        return tuple(_table(name, self.drifts) for name in dict.fromkeys(one.name for one in self.drifts))


def _table(name: str, drifts: tuple[Drift, ...]) -> Table:
    held = {(one.label, one.key): one.value for one in drifts if one.name == name}
    keys = tuple(dict.fromkeys(key for _, key in held))
    labels = dict.fromkeys(label for label, _ in held)
    rows = tuple((label, tuple(held.get((label, key), "") for key in keys)) for label in labels)
    return Table(name, tuple(key or "value" for key in keys), rows)


def _solve(index: int, label: str, rows: tuple[Mapping[str, float], ...], ended: str) -> Solve:
    panels = [(name, [row[key] for row in rows]) for key, name in TERMS if all(key in row for row in rows)]
    steps = [row["step"] for row in rows]
    chart = None
    if panels and len(rows) > 1:
        chart = charts.trace(f"trace-{index}", f"Objective of {label} by step", steps, panels)
    found = {key for row in rows for key in row}
    first = [key for key in ("step", *(key for key, _ in TERMS)) if key in found]
    columns = (*first, *sorted(found.difference(first)))
    table = tuple(tuple(f"{row[key]:.4g}" if key in row else "" for key in columns) for row in rows)
    return Solve(label, chart, columns, table, ended)


def _parts(found: Any, name: str = "") -> list[tuple[str, str]]:
    """(part, text) of a number with its parts: a value and its interval are one part, "before" comes first."""
    if is_number(found):
        return [(name, str(found) if isinstance(found, int) else f"{found:.4g}")]
    if not isinstance(found, Mapping):
        return list(flatten(found, name))
    lines: list[tuple[str, str]] = []
    rest = dict(found)
    if all(is_number(found.get(key)) for key in ("value", "low", "high")):
        lines.append((name, f"{found['value']:.4g} ({found['low']:.4g} to {found['high']:.4g})"))
        rest = {key: value for key, value in found.items() if key not in ("value", "low", "high")}
    for key in sorted(rest, key=lambda key: (key != "before", key)):
        lines += _parts(rest[key], f"{name}.{key}" if name else str(key))
    return lines


def view(report: ReportInput) -> View:
    """Traces and drifts of the merges that recorded them."""
    solves: list[Solve] = []
    drifts: list[Drift] = []
    for index, entry in enumerate(report.merges):
        rows = trace_rows(entry.merge)
        ended = find(find(entry.merge, "trace"), "ended")
        if rows or ended:
            solves.append(_solve(index, entry.label, rows, ended if isinstance(ended, str) else ""))
        for key, name in DRIFTS:
            found = find(entry.drift, key) or find(entry.merge, key)
            if found is not None:
                drifts += [Drift(entry.label, name, part, text) for part, text in _parts(found)]
    return View(tuple(solves), tuple(drifts))


SECTION = Section("method", "How the method got there", "method.html.j2", view, has_merges)
