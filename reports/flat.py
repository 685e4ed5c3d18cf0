"""The report for machines: one JSON object with every number the page prints, and one CSV row per item and metric."""

import csv
import io
from typing import Any

from alignmerge.auditor.record import MetricResult, record_digest
from alignmerge.policies.verdict import RuleResult, Verdict
from alignmerge.reports.advice import cause, next_step
from alignmerge.reports.model import REFUSAL, Entry, ReportInput
from alignmerge.reports.ranking import Estimate, gain, mean_skill, rank
from alignmerge.reports.sections import answers
from alignmerge.reports.text import clean, digest_of

SCHEMA = "alignmerge.report/1"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
COLUMNS = (
    "checkpoint",
    "suite",
    "category",
    "item",
    "metric",
    "value",
    "unscored",
    "finish",
    "note",
    "prompt",
    "answer",
)


def data(report: ReportInput) -> dict[str, Any]:
    """Everything the page says in numbers, as JSON values; texts of items are in the audits alone."""
    order = [row.entry.label for row in rank(report, REFUSAL)]
    return {
        "schema": SCHEMA,
        "title": report.title,
        "created": report.created,
        "version": report.version,
        "policy": report.policy_name,
        "ranking": order,
        "entries": [_entry(report, entry) for entry in report.entries],
        "changed": {sheet.label: _changed(sheet) for sheet in answers.view(report)},
        "notes": list(report.notes),
    }


def _entry(report: ReportInput, entry: Entry) -> dict[str, Any]:
    anchor = report.anchor
    gained = None
    if anchor is not None and entry.role == "merge":
        gained = gain(entry.audit, anchor.audit, report.skills)
    return {
        "label": entry.label,
        "role": entry.role,
        "checkpoint": entry.audit.checkpoint,
        "audit": record_digest(entry.audit),
        "metrics": [_metric(row) for row in entry.audit.metrics],
        "mean_skill": _estimate(mean_skill(entry.audit, report.skills)),
        "skill_gained": _estimate(gained),
        "verdict": None if entry.verdict is None else _verdict(entry.verdict),
        "further": [_verdict(verdict) for _, verdict in entry.also],
        "drift": None if entry.drift is None else dict(entry.drift),
        "blame": None if entry.blame is None else entry.blame.model_dump(mode="json", by_alias=True),
        "cause": cause(entry) or None,
        "next_step": next_step(entry) or None,
    }


def _metric(row: MetricResult) -> dict[str, Any]:
    interval = None if row.interval is None else vars(row.interval)
    kept = ("metric", "suite", "unit", "direction", "value", "scored", "unscored", "reason", "valid", "valid_reason")
    return {**{name: getattr(row, name) for name in kept}, "interval": interval}


def _estimate(found: Estimate | None) -> dict[str, float | None] | None:
    return None if found is None else {"value": found.value, "low": found.low, "high": found.high}


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "policy": verdict.policy_name,
        "decision": verdict.decision,
        "rules": [_rule(rule) for rule in verdict.rules],
    }


def _rule(rule: RuleResult) -> dict[str, Any]:
    kept = ("rule", "metric", "severity", "decision", "reason", "unit", "value", "bound", "limit", "n", "needs")
    return {name: getattr(rule, name) for name in kept}


def _changed(sheet: answers.Sheet) -> list[dict[str, Any]]:
    return [{"what": one.title, "items": one.total, "of": one.of} for one in sheet.groups]


def items_csv(report: ReportInput, redact: bool = False) -> str:
    """Every item of every checkpoint as CSV with a header line; with `redact`, digests in place of texts.

    A cell that a spreadsheet would take for a formula is prefixed with an apostrophe; text is cleaned and cut as on
    the page. Rows are in the order of the run, then of the record.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in report.entries:
        for row in entry.audit.items:
            texts = [digest_of(text) if redact else text for text in (row.note or "", row.prompt, row.answer)]
            value = "" if row.value is None else f"{row.value:g}"
            plain = (entry.label, row.suite, row.category, row.item, row.metric)
            cells = [cell(text) for text in (*plain, value, row.unscored or "", row.finish, *texts)]
            cells[5] = value  # a number of ours: its minus sign is no formula
            writer.writerow(cells)
    return out.getvalue()


def cell(text: str) -> str:
    """`text` as a spreadsheet shows it: never as a formula."""
    shown = clean(text)
    return f"'{shown}" if shown.lstrip(" ").startswith(FORMULA) else shown
