"""The report for machines: one JSON object with every number the page prints, and one CSV row per item and metric."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from alignmerge.auditor.record import MetricResult, record_digest
from alignmerge.policies.verdict import RuleResult, Verdict
from alignmerge.reports.account import find
from alignmerge.reports.advice import cause, margin, next_step
from alignmerge.reports.losses import experts_alone, unwatched
from alignmerge.reports.model import REFUSAL, Entry, ReportInput
from alignmerge.reports.ranking import Estimate, gain, held_as, mean_skill, rank, skills_of
from alignmerge.reports.scope import excess, must
from alignmerge.reports.sections import answers, aqi, comparison, degeneration, method, readings
from alignmerge.reports.text import clean, digest_of

SCHEMA = "alignmerge.report/2"
# Whole-width signs are formulas to spreadsheets of East Asian settings.
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
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
    """Everything the page says in numbers, as JSON values; texts of items are in the audits alone.

    What speaks of checkpoints is a list in the order of the run, for nothing keeps two of them from having one label.
    """
    compared = comparison.view(report)
    return {
        "schema": SCHEMA,
        "title": report.title,
        "created": report.created,
        "version": report.version,
        "policy": report.policy_name,
        "rules": [asdict(row) for row in report.policy_summary],
        "skills": list(skills_of(report)),
        "refusal": held_as(report, REFUSAL),
        "ranking": [row.entry.label for row in rank(report, REFUSAL)],
        "suites_that_differ": list(compared.different),
        "suites_not_asked": list(compared.lacking),
        "entries": [_entry(report, entry) for entry in report.entries],
        "changed": [_sheet(sheet.label, sheet.groups) for sheet in answers.counted(report)],
        "counted": [_sheet(sheet.label, sheet.groups) for sheet in _alone(report)],
        "degenerate": [_degenerate(line) for line in degeneration.view(report)],
        "drifts": [asdict(row) for row in method.view(report).drifts],
        "notes": list(report.notes),
    }


def _alone(report: ReportInput) -> tuple[readings.Sheet, ...]:
    return readings.counted(report) if readings.shown(report) else ()


def _entry(report: ReportInput, entry: Entry) -> dict[str, Any]:
    anchor, skills, audit = report.anchor, skills_of(report), entry.audit
    gained = None
    if anchor is not None and entry.role == "merge":
        gained = gain(audit, anchor.audit, skills)
    return {
        "label": entry.label,
        "role": entry.role,
        "name": audit.name,
        "checkpoint": audit.checkpoint,
        "audit": record_digest(audit),
        "created": audit.created,
        "seed": audit.seed,
        "suites": [asdict(suite) for suite in audit.suites],
        "settings": {name: dict(getattr(audit, name)) for name in ("engine", "sampling", "template", "software")},
        "notes": list(audit.notes),
        "metrics": [_metric(row) for row in audit.metrics],
        "aqi_weights": list(aqi.weights_of(audit.aqi_reference)),
        "graders": {name: dict(described) for name, described in audit.graders.items()},
        "mean_skill": _estimate(mean_skill(audit, skills)),
        "skill_gained": _estimate(gained),
        "verdict": None if entry.verdict is None else _verdict(entry.verdict),
        "further": [_verdict(verdict) for _, verdict in entry.also],
        "drift": None if entry.drift is None else dict(entry.drift),
        "blame": None if entry.blame is None else entry.blame.model_dump(mode="json", by_alias=True),
        "merge": None if entry.merge is None else dict(entry.merge),
        "trace": find(entry.merge, "trace"),
        "cause": cause(entry) or None,
        "next_step": next_step(entry) or None,
        "losses": list(unwatched(entry, anchor)),
        "experts_alone": experts_alone(entry, report.experts) or None,
    }


def _metric(row: MetricResult) -> dict[str, Any]:
    """All of a metric but its replicates and the points of its picture."""
    found = {name: value for name, value in asdict(row).items() if name not in ("replicates", "detail")}
    detail = None if row.detail is None else {key: row.detail[key] for key in row.detail if key != "projection"}
    return {**found, "detail": detail}


def _estimate(found: Estimate | None) -> dict[str, float | None] | None:
    return None if found is None else {"value": found.value, "low": found.low, "high": found.high}


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "policy": verdict.policy_name,
        "policy_digest": verdict.policy,
        "decision": verdict.decision,
        "created": verdict.created,
        "rules": [_rule(rule) for rule in verdict.rules],
        "waivers": [asdict(use) for use in verdict.waivers],
        "approvals": [asdict(one) for one in verdict.approvals],
        "notes": list(verdict.notes),
        "lineage": None if verdict.lineage is None else asdict(verdict.lineage),
    }


def _rule(rule: RuleResult) -> dict[str, Any]:
    """The rule; its margins are positive inside the limit, and `must` is for a rule on the value itself."""
    margins = {
        name: None if number is None else -excess(rule, number)
        for name, number in (("measured", rule.value), ("bound", rule.bound))
    }
    return {**asdict(rule), "margin": margins, "margin_in_words": margin(rule) or None, "must": must(rule) or None}


def _sheet(label: str, groups: Sequence[answers.Group] | Sequence[readings.Group]) -> dict[str, Any]:
    return {"label": label, "groups": [{"what": one.title, "items": one.total, "of": one.of} for one in groups]}


def _degenerate(line: degeneration.Line) -> dict[str, Any]:
    kept = ("label", "metric", "value", "interval", "count", "scored", "finishes")
    return {name: getattr(line, name) for name in kept}


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
    blank = shown.startswith(("\t", "\n"))  # which some spreadsheets take for the beginning of one
    return f"'{shown}" if blank or shown.lstrip().startswith(FORMULA) else shown
