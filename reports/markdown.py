"""The report as Markdown, for pull requests: the same views as the page, numbers and names only.

No prompt and no answer is printed here: a pull request is read by more people than a report of harmful requests is
meant for. Changed items are counted, and the page and items.csv hold their texts. Charts are left out: their numbers
stand in the tables; so are the merge records, which are files of their own.
"""

from alignmerge.reports import markdown_basis as basis
from alignmerge.reports.inert import bullets, inert, section, table
from alignmerge.reports.model import ReportInput
from alignmerge.reports.names import plural
from alignmerge.reports.rules import RuleLine
from alignmerge.reports.sections import (
    answers,
    blamed,
    budgets,
    comparison,
    further,
    limits,
    ranked,
    readings,
    verdicts,
    words,
)
from alignmerge.reports.sections.section import has_merges, is_gated
from alignmerge.reports.text import moment

CAUSE, ALONE, LOSSES = "Cause of the drift", "The experts alone", "Worse than the anchor, and no rule looks at it"
RULES_SHOWN = 3
RULE_HEAD = ("rule", "metric", "decision", "change", "bound", "limit", "anchor → merge", "items")


def render(report: ReportInput) -> str:
    """The report as Markdown, byte-identical for equal input; nothing that a record says comes to life in it."""
    policy = f"Policy **{inert(report.policy_name)}**, " if report.policy_name != "none" else ""
    lines = [
        f"# {inert(report.title)}",
        "",
        f"{policy}{plural(len(report.entries), 'checkpoint')}, made {inert(moment(report.created))}, "
        f"alignmerge {inert(report.version)}.",
        "",
    ]
    if has_merges(report):
        lines += _verdicts(report) + (_budgets(report) if is_gated(report) else [])
    lines += _comparison(report) + _ranking(report) + _flips(report) + _blame(report)
    lines += basis.aqi_lines(report) + basis.toxicity_lines(report) + basis.judge_lines(report)
    lines += basis.degeneration_lines(report) + basis.method_lines(report)
    if is_gated(report):
        lines += basis.decision_lines(report) + _further(report)
    lines += basis.provenance_lines(report)
    lines += section("Words used here", bullets(words.view(report)))
    lines += ["## What this report does not show", ""]
    lines += [f"- **{inert(lead)}.** {inert(text)}" for lead, text in limits.view(report)]
    return "\n".join(lines).rstrip("\n") + "\n"


def _verdicts(report: ReportInput) -> list[str]:
    view = verdicts.view(report)
    lines = ["## Verdict", "", f"**{inert(view.summary)}**", ""]
    for card in view.cards:
        lines.append(f"- {card.sign} **{inert(card.label)}: {inert(card.decision)}.** {inert(card.headline)}.")
        lines += [f"  - {inert(card.lead)}"] if card.rules else []
        lines += [f"    - {_told(rule)}" for rule in card.rules[:RULES_SHOWN]]
        more = len(card.rules) - RULES_SHOWN
        lines += [f"    - and {more} more, under Budgets"] if more > 0 else []
        advice = ((CAUSE, card.cause), (ALONE, card.experts), (LOSSES, card.losses), ("Try next", card.next_step))
        lines += [f"  - **{name}**: {inert(text)}." for name, text in advice if text]
    return [*lines, *([""] if view.cards else []), *(f"> {inert(note)}\n" for note in view.notes)]


def _told(rule: RuleLine) -> str:
    """A rule as a card tells it: which way it went, its limit, its margin; the reason where nothing was measured."""
    if not rule.measured:
        return f"**{inert(rule.rule)}** ({inert(rule.metric)}): {inert(rule.reason)}"
    limit = f"it must be {rule.limited}" if rule.must else f"the limit is {rule.limit}"
    parts = [", ".join(filter(None, (rule.change, rule.sure))) + f"; {limit}"]
    parts[0] += f" ({rule.allowed})" if rule.allowed else ""
    parts += [part[0].upper() + part[1:] for part in (rule.margin, rule.waiver) if part]
    return f"**{inert(rule.rule)}** ({inert(rule.metric)}): {inert('. '.join(parts))}"


def _rules(rules: tuple[RuleLine, ...]) -> list[str]:
    """A table of rules, and under it the reason of each with what there is to know besides."""
    rows = []
    reasons = []
    for rule in rules:
        decision = f"{rule.sign} {rule.decision}" + ("" if rule.severity == "block" else ", does not block")
        limit = rule.limited if rule.unit == "rate" else f"{rule.limited} ({rule.unit})"
        rows.append((rule.rule, rule.metric, decision, rule.value, rule.bounded, limit, rule.sides, rule.n))
        remark = f"Remark: {rule.remark}" if rule.remark else ""
        reason = "; ".join(filter(None, (rule.reason, rule.wanted)))
        reasons.append((rule.rule, ". ".join(filter(None, (reason, remark)))))
    return [*table(RULE_HEAD, rows, 3), *bullets(reasons)]


def _budgets(report: ReportInput) -> list[str]:
    lines: list[str] = []
    for budget in budgets.view(report):
        lines += [f"### {inert(budget.label)}: {inert(budget.decision)} under {inert(budget.policy)}", ""]
        lines += [*_rules(budget.rules), *(f"Note: {inert(note)}\n" for note in budget.notes)]
    return section("Budgets", lines)


def _further(report: ReportInput) -> list[str]:
    """What other policies say of the same audits: the rules that do not pass there."""
    lines: list[str] = []
    for row in further.view(report):
        lines += [f"### {inert(row.label)} under {inert(row.policy)}: {row.sign} {inert(row.decision)}", ""]
        lines += _rules(row.open) or [f"{inert(row.headline)}: every rule passes.", ""]
    return section("What other policies would still need", lines)


def _ranking(report: ReportInput) -> list[str]:
    if not has_merges(report):
        return []
    view = ranked.view(report)
    head = ("merge", "verdict", "skill gained", "mean skill", view.refusal, "less the anchor's", view.over_refusal)
    rows = [
        (
            line.label,
            f"{line.sign} {line.decision}",
            _with(line.gain, line.gain_interval),
            line.skill,
            _with(line.refusal, line.refusal_interval),
            line.change,
            _with(line.over_refusal, line.over_refusal_interval),
        )
        for line in view.lines
    ]
    skill = f"Skill is the mean of {', '.join(map(inert, view.skills))}." if view.skills else "The run names no skill."
    anchor = f" The anchor's mean skill is {view.anchor_skill}, its refusal {view.anchor_refusal}."
    told = skill + (anchor if view.has_anchor else "")
    found = table(head, rows, 2)
    return section("Skill gained beside alignment kept", [told, "", *found] if found else [])


def _with(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value


def _comparison(report: ReportInput) -> list[str]:
    view = comparison.view(report)
    lines = []
    if view.different:
        names = inert(", ".join(view.different))
        lines += [f"**Not all checkpoints were asked the same items of {names}: do not compare their values.**", ""]
    if view.lacking:
        lines += [f"**Not every checkpoint was asked every suite: {inert('; '.join(view.lacking))}.**", ""]
    lines += ["95 % intervals in brackets; n is the number of items scored.", ""]
    head = ["metric", "n", *(row.label for row in view.rows)]
    return section("Measurements", lines, table(head, basis.measured(view.columns, view.rows)))


def _flips(report: ReportInput) -> list[str]:
    """How many items changed, or count against a checkpoint that stands alone; no answer is told."""
    where = "No prompt and no answer is printed here: the page and items.csv hold them."
    if readings.shown(report):
        against = [(sheet.label, one.title, f"{one.total:,}", f"{one.of:,}")
                   for sheet in readings.counted(report) for one in sheet.groups]  # fmt: skip
        return section("Answers", [where, ""], table(("checkpoint", "items", "counted", "of"), against, 2))
    rows = [(sheet.label, one.title, f"{one.total:,}", f"{one.of:,}")
            for sheet in answers.counted(report) for one in sheet.groups]  # fmt: skip
    found = table(("merge", "items", "changed", "of"), rows, 2)
    return section("What changed against the anchor", [where, "", *found] if found else [])


def _blame(report: ReportInput) -> list[str]:
    """Who spent the drift of each merge that has a blame record, and where, the largest spender first."""
    lines: list[str] = []
    for one in blamed.view(report):
        who = f", {one.who}" if one.who else ""
        lines += [
            f"### {inert(one.label)}: drift {one.drift} nats per token on {one.rows} held-out answers{inert(who)}"
        ]
        doubt = ": read them as rough" if one.doubtful else ""
        lines += ["", f"The shares miss the drift by {one.error}{doubt}.", ""]
        lines += table(
            ("contributor", "nats per token", "share"), [(row.name, row.share, row.part) for row in one.contributors]
        )
        places = [(row.name, row.layer, row.module, row.share, row.part) for row in one.worst]
        lines += table(("places that spend most", "layer", "module", "nats per token", "share"), places, 3)
    return section("Where the drift comes from", lines)
