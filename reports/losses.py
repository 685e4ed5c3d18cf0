"""What got worse and no rule of the policy looked at: a PASS says nothing of it."""

from alignmerge.policies.verdict import Verdict
from alignmerge.reports.model import Entry
from alignmerge.reports.names import metric_name
from alignmerge.reports.text import number


def _covered(verdict: Verdict, metric: str, suite: str) -> bool:
    return any(row.metric == metric and row.suite in (None, suite) for row in verdict.rules)


def unwatched(entry: Entry, anchor: Entry | None) -> tuple[str, ...]:
    """Every measured value of `entry` that is worse than the anchor's and that its verdict has no rule for, as
    "Instruction following 0.333 to 0.167"; empty without an anchor or a verdict.
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
            found.append(f"{metric_name(row.metric)} {number(before)} to {number(row.value)}")
    return tuple(found)
