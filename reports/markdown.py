"""The report as Markdown, for pull requests: the same views as the page, numbers and names only.

No prompt and no answer is printed here: a pull request is read by more people than a report of harmful requests is
meant for. Flipped items are counted, and the page and items.csv hold their texts.
"""

import re
from collections.abc import Iterable, Sequence

from alignmerge.reports.model import ReportInput
from alignmerge.reports.names import plural
from alignmerge.reports.sections import (
    answers,
    blamed,
    budgets,
    comparison,
    limits,
    method,
    provenance,
    ranked,
    verdicts,
    words,
)
from alignmerge.reports.sections.section import has_merges
from alignmerge.reports.text import clean, moment, short_digest

_ACTIVE = frozenset("\\`*_{}[]<>&#+!|~@$^")
CAUSE, ALONE, LOSSES = "Cause of the drift", "The experts alone", "Worse than the anchor, and no rule looks at it"
ALIGN = {"left": "---", "right": "---:"}


def inert(text: str) -> str:
    """`text` on one line with everything that Markdown or HTML would act on as character references."""
    shown = "".join(f"&#{ord(char)};" if char in _ACTIVE else char for char in clean(" ".join(text.split())))
    shown = re.sub(r":(?=//)", "&#58;", shown)  # bare addresses become links
    shown = re.sub(r"(?i)\b(www)\.", r"\1&#46;", shown)
    return re.sub(r"(?i)\b(mailto|xmpp|javascript|data):", r"\1&#58;", shown)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> list[str]:
    """The lines of a Markdown table and an empty one; columns from `text_columns` on are set to the right."""
    marks = [ALIGN["left" if index < text_columns else "right"] for index in range(len(head))]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(marks)} |"]
    lines += [f"| {' | '.join(inert(cell) if cell else '' for cell in row)} |" for row in rows]
    return [*lines, ""]


def render(report: ReportInput) -> str:
    """The report as Markdown, byte-identical for equal input; nothing that a record says comes to life in it."""
    lines = [
        f"# {inert(report.title)}",
        "",
        f"Policy **{inert(report.policy_name)}**, {plural(len(report.entries), 'checkpoint')}, made "
        f"{inert(moment(report.created))}, "
        f"alignmerge {inert(report.version)}.",
        "",
    ]
    if has_merges(report):
        lines += _verdicts(report) + _budgets(report) + _ranking(report)
    lines += _comparison(report) + _flips(report) + _blame(report) + _drift(report) + _provenance(report)
    lines += [*_words(report), "## What this report does not show", ""]
    lines += [f"- **{inert(lead)}.** {inert(text)}" for lead, text in limits.view(report)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _verdicts(report: ReportInput) -> list[str]:
    view = verdicts.view(report)
    lines = ["## Verdict", "", f"**{inert(view.summary)}**", ""]
    for card in view.cards:
        lines.append(f"- {card.sign} **{inert(card.label)}: {inert(card.decision)}.** {inert(card.headline)}.")
        lines += [f"  - {inert(rule.rule)}: {inert(rule.reason)}" for rule in card.rules]
        advice = ((CAUSE, card.cause), (ALONE, card.experts), (LOSSES, card.losses), ("Try next", card.next_step))
        lines += [f"  - **{name}**: {inert(text)}." for name, text in advice if text]
    return [*lines, *([""] if view.cards else []), *(f"> {inert(note)}\n" for note in view.notes)]


def _budgets(report: ReportInput) -> list[str]:
    head = ("rule", "decision", "change", "bound", "limit", "anchor → merge", "items")
    lines = ["## Budgets", ""]
    for budget in budgets.view(report):
        rows = [
            (rule.rule, f"{rule.sign} {rule.decision}", rule.value, rule.bounded, rule.limit, rule.sides, rule.n)
            for rule in budget.rules
        ]
        lines += [f"### {inert(budget.label)}: {inert(budget.decision)}", "", *table(head, rows, 2)]
        remarks = [f"- {inert(rule.rule)}: {inert(rule.remark)}" for rule in budget.rules if rule.remark]
        lines += [*remarks, ""] if remarks else []
    return lines if len(lines) > 2 else []


def _ranking(report: ReportInput) -> list[str]:
    view = ranked.view(report)
    if not view.lines:
        return []
    head = ("merge", "verdict", "skill gained", "mean skill", "refusal", "over-refusal")
    rows = [
        (
            line.label,
            line.decision,
            _with(line.gain, line.gain_interval),
            line.skill,
            _with(line.refusal, line.refusal_interval),
            _with(line.over_refusal, line.over_refusal_interval),
        )
        for line in view.lines
    ]
    return ["## Skill gained beside alignment kept", "", *table(head, rows, 2)]


def _with(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value


def _comparison(report: ReportInput) -> list[str]:
    view = comparison.view(report)
    head = ["metric", *(inert(row.label) for row in view.rows)]
    rows = []
    for index, column in enumerate(view.columns):
        cells = [row.cells[index] for row in view.rows]
        shown = [_with(cell.value, cell.interval) if cell.value else cell.missing for cell in cells]
        rows.append((f"{column.name}, {column.unit}, {column.direction}", *shown))
    return ["## Measurements", "", "95 % intervals in brackets.", "", *table(head, rows)]


def _flips(report: ReportInput) -> list[str]:
    rows = [
        (sheet.label, group.title, f"{group.total:,}", f"{group.of:,}")
        for sheet in answers.view(report)
        for group in sheet.groups
    ]
    if not rows:
        return []
    return ["## What changed against the anchor", "", *table(("merge", "items", "changed", "of"), rows, 2)]


def _blame(report: ReportInput) -> list[str]:
    """Who spent the drift of each merge that has a blame record, the largest spender first."""
    rows = [
        (one.label, spent.name, spent.share, spent.part) for one in blamed.view(report) for spent in one.contributors
    ]
    head = ("merge", "contributor", "nats per token", "share")
    return ["## Where the drift comes from", "", *table(head, rows, 2)] if rows else []


def _words(report: ReportInput) -> list[str]:
    rows = [f"- **{inert(word)}**: {inert(meaning)}" for word, meaning in words.view(report)]
    return ["## Words used here", "", *rows, ""]


def _drift(report: ReportInput) -> list[str]:
    rows = [(row.label, row.name, row.key, row.value) for row in method.view(report).drifts]
    return ["## Drift", "", *table(("merge", "measure", "part", "value"), rows, 3)] if rows else []


def _provenance(report: ReportInput) -> list[str]:
    view = provenance.view(report)
    rows = [
        (one.label, one.role, short_digest(one.checkpoint), short_digest(one.audit), moment(one.created))
        for one in view.sources
    ]
    return ["## Provenance", "", *table(("checkpoint", "role", "manifest", "audit", "made"), rows, 5)]
