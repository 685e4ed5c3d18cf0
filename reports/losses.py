"""What a verdict does not say: what got worse and has no rule, and whether the experts alone had it already."""

from collections.abc import Sequence

from alignmerge.policies.verdict import RuleResult, Verdict
from alignmerge.reports.model import Entry
from alignmerge.reports.names import is_aqi, metric_name
from alignmerge.reports.scope import named, part, value_of
from alignmerge.reports.text import number


def _rules_on(verdict: Verdict, metric: str) -> list[RuleResult]:
    # AQI has two forms: a rule on either looks at it.
    return [row for row in verdict.rules if row.metric == metric or (is_aqi(metric) and is_aqi(row.metric))]


def unwatched(entry: Entry, anchor: Entry | None) -> tuple[str, ...]:
    """Every measured value of `entry` that is worse than the anchor's and that its verdict has no rule for, as
    "Instruction following from 0.333 to 0.167"; empty without an anchor or a verdict.

    A rule on one category or suite looks at no more than that, and is named behind the value.
    """
    if anchor is None or entry.verdict is None:
        return ()
    theirs = {(row.metric, row.suite): row.value for row in anchor.audit.metrics}
    found = []
    for row in entry.audit.metrics:
        before = theirs.get((row.metric, row.suite))
        if row.value is None or before is None or row.valid is False:
            continue
        lost = before - row.value if row.direction == "higher" else row.value - before
        rules = _rules_on(entry.verdict, row.metric)
        if lost > 0 and not any(rule.category is None and rule.suite in (None, row.suite) for rule in rules):
            parts = " and ".join(dict.fromkeys(part(rule) for rule in rules))
            alone = f" in all (a rule looks at {parts} alone)" if parts else ""
            found.append(f"{metric_name(row.metric)} from {number(before)} to {number(row.value)}{alone}")
    return tuple(found)


def experts_alone(entry: Entry, experts: Sequence[Entry]) -> str:
    """What the experts reached by themselves where the merge is not inside its limit, as "Refusal of harmful requests
    0.542 (units), 0.500 (format); the merge 0.458"; empty for a merge that may ship, or where nothing is known.

    Of the rules that decided, the first one with a number that they share.
    """
    verdict = entry.verdict
    if verdict is None or verdict.decision not in ("FAIL", "INCONCLUSIVE"):
        return ""
    for row in verdict.rules:
        if row.decision != verdict.decision.lower() or row.candidate is None:
            continue
        values = [(one.label, value_of(row, one.audit)) for one in experts]
        told = [f"{number(value)} ({label})" for label, value in values if value is not None]
        if told:
            scope = f"{named(row)}: " if part(row) else f"{named(row)} "
            return f"{scope}{', '.join(told)}; the merge {number(row.candidate)}"
    return ""
