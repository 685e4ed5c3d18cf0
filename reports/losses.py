"""What a verdict does not say: what got worse and has no rule, and whether the experts alone had it already."""

from collections.abc import Sequence

from alignmerge.policies.verdict import Verdict
from alignmerge.reports.model import Entry
from alignmerge.reports.names import is_aqi, metric_name
from alignmerge.reports.text import number


def _covered(verdict: Verdict, metric: str, suite: str) -> bool:
    # AQI has two forms: a rule on either looks at it.
    same = [row for row in verdict.rules if row.metric == metric or (is_aqi(metric) and is_aqi(row.metric))]
    return any(row.suite in (None, suite) for row in same)


def unwatched(entry: Entry, anchor: Entry | None) -> tuple[str, ...]:
    """Every measured value of `entry` that is worse than the anchor's and that its verdict has no rule for, as
    "Instruction following from 0.333 to 0.167"; empty without an anchor or a verdict.
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
        if lost > 0 and not _covered(entry.verdict, row.metric, row.suite):
            found.append(f"{metric_name(row.metric)} from {number(before)} to {number(row.value)}")
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
        values = [(one.label, found.value) for one in experts if (found := one.audit.result(row.metric)) is not None]
        told = [f"{number(value)} ({label})" for label, value in values if value is not None]
        if told:
            return f"{metric_name(row.metric)} {', '.join(told)}; the merge {number(row.candidate)}"
    return ""
