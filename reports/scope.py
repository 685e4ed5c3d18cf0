"""What a rule looks at, and which way its numbers count.

A rule on a change counts harm: more is worse, and its limit is a most. A rule on the value itself has a limit that the
value must be at least (a floor, of what is better higher) or at most. A rule may look at one suite or category alone.
"""

from statistics import fmean

from alignmerge.auditor.record import AuditRecord
from alignmerge.policies.evidence import ALL_SUITES
from alignmerge.policies.model import DIRECTION
from alignmerge.policies.registered import REGISTERED
from alignmerge.policies.verdict import RuleResult
from alignmerge.reports.names import metric_name


def absolute(row: RuleResult) -> bool:
    """Whether the rule is known to look at the value itself and not at a change."""
    return row.value is not None and row.anchor is None


def floor(row: RuleResult) -> bool:
    """Whether the value must be at least the limit; for a metric that nobody knows, as the decision says."""
    if not absolute(row):
        return False
    info = REGISTERED.get(row.metric)
    if info is not None:
        return info.direction == DIRECTION["min"]
    shown = row.value if row.bound is None else row.bound
    assert shown is not None
    return (shown < row.limit) == (row.decision in ("fail", "warn"))


def must(row: RuleResult) -> str:
    """What a value has to be, "at least" or "at most" its limit; empty for a rule on a change."""
    return "" if not absolute(row) else "at least" if floor(row) else "at most"


def excess(row: RuleResult, number: float) -> float:
    """How far `number` (a value or bound of the rule) is beyond the limit, in its unit; negative inside it."""
    return row.limit - number if floor(row) else number - row.limit


def share_used(row: RuleResult) -> float:
    """How much of its budget the rule used, at the bound where there is one: 1 at the limit; infinite if unmeasured.

    A floor of a rate is a budget of what may be lacking to 1.
    """
    used, limit = row.value if row.bound is None else row.bound, row.limit
    if used is None:
        return float("inf")
    if floor(row):
        used, limit = (1 - used, 1 - limit) if row.unit == "rate" else (limit, used)
    if limit <= 0:
        return float("inf") if used > limit else float(used == limit)
    return used / limit


def part(row: RuleResult) -> str:
    """The part of the items that the rule looks at alone, as "category fraud"; empty for all."""
    parts = [f"suite {row.suite}"] if row.suite else []
    return ", ".join([*parts, *([f"category {row.category}"] if row.category else [])])


def named(row: RuleResult) -> str:
    """What the rule's metric is called, and the part of the items it looks at."""
    return ", ".join(filter(None, (metric_name(row.metric), part(row))))


def value_of(row: RuleResult, audit: AuditRecord) -> float | None:
    """The value of the rule's metric on a checkpoint, on the items that the rule looks at; None if unknown."""
    if not part(row):
        found = audit.result(row.metric)
        return None if found is None else found.value
    if not row.category:
        for result in audit.metrics:
            if (result.metric, result.suite) == (row.metric, row.suite):
                return result.value
    values = [
        item.value
        for item in audit.by_metric.get(row.metric, ())
        if row.category in (None, item.category) and row.suite in (None, item.suite)
    ]
    scored = [value for value in values if value is not None]
    return fmean(scored) if scored else None


def held(row: RuleResult, audit: AuditRecord) -> int | None:
    """The most items that the rule could be asked on: all that its suites hold; None where the audit does not say.

    Where a suite was asked whole, a category has the items it had; else it may have any of the others.
    """
    items, found = audit.by_metric.get(row.metric, ()), audit.result(row.metric)
    if found is None:
        return None
    paired = not items and "/" in found.suite  # AQI's pairs are of two suites
    names = set(found.suite.split("/")) if paired else {row.suite or found.suite}
    if ALL_SUITES in names:
        names = {item.suite for item in items}
    uses = [use for use in audit.suites if use.name in names]
    if not uses or len(uses) < len(names):
        return None
    if row.category and all(use.items == use.of for use in uses):
        return sum(item.category == row.category and item.suite in names for item in items)
    return min(use.of for use in uses) if paired else sum(use.of for use in uses)
