"""Decided rules as lines of a report: printed numbers that keep their order, and which rule decided."""

import re
from dataclasses import dataclass, replace

from alignmerge.policies.verdict import RuleResult, Verdict
from alignmerge.policies.waivers import WaiverUse
from alignmerge.reports.advice import allowed, change, margin, remark, side, sure
from alignmerge.reports.charts import BudgetBar
from alignmerge.reports.names import SIGNS
from alignmerge.reports.scope import must, named, share_used
from alignmerge.reports.text import UNMEASURED, against_limit


@dataclass(frozen=True)
class RuleLine:
    """One rule as printed. Numbers are text with one number of decimals; `severity` is "block" or "warn".

    `change` and `margin` say in words which way it went, and how far it is from its limit. `side`
    is "at least" or "at most", for the bound; `remark` is what there is to know of the rule besides; `allowed` is the
    rate that its limit still allows. `must` is what the value itself has to be, "at least" or "at most" the limit;
    empty for a rule on a change. `waiver` is who let the failed rule through.
    """

    rule: str
    metric: str
    severity: str
    decision: str
    sign: str
    value: str
    bound: str
    limit: str
    unit: str
    n: str
    needs: str
    candidate: str
    anchor: str
    reason: str
    change: str
    sure: str
    margin: str
    side: str
    remark: str
    allowed: str
    must: str
    waiver: str = ""

    @property
    def measured(self) -> bool:
        """Whether there is a value."""
        return self.value != UNMEASURED

    @property
    def sides(self) -> str:
        """Both absolute values, or the candidate's alone where there is no anchor's; a dash without any."""
        if self.anchor == UNMEASURED:
            return "–" if self.candidate == UNMEASURED else self.candidate
        return f"{self.anchor} → {self.candidate}"

    @property
    def bounded(self) -> str:
        """The bound with the side on which the true number lies."""
        return f"{self.side} {self.bound}".lstrip()

    @property
    def limited(self) -> str:
        """The limit with the side on which a value has to be."""
        return f"{self.must} {self.limit}".lstrip()

    @property
    def numbers(self) -> str:
        """Value, bound and limit in one phrase."""
        return f"{self.value}, bound {self.bounded}, limit {self.limited}"

    @property
    def wanted(self) -> str:
        """How many items would decide, where the reason does not say it; else empty."""
        plain = self.needs.replace(",", "")
        said = not plain or re.search(rf"\b(about|at least) {plain}\b", self.reason)
        return "" if said else f"about {self.needs} items would decide"


def rule_line(row: RuleResult) -> RuleLine:
    """`row` as text."""
    limit, value, bound = against_limit(row.limit, row.value, row.bound)
    candidate, anchor = against_limit(row.limit, row.candidate, row.anchor)[1:]
    return RuleLine(
        rule=row.rule,
        metric=named(row),
        severity=row.severity,
        decision=row.decision,
        sign=SIGNS.get(row.decision.upper(), "?"),
        value=value,
        bound=bound,
        limit=limit,
        unit=row.unit,
        n=f"{row.n:,}",
        needs="" if row.needs is None else f"{row.needs:,}",
        candidate=candidate,
        anchor=anchor,
        reason=row.reason,
        change=change(row),
        sure=sure(row),
        margin=margin(row),
        side=side(row),
        remark=remark(row),
        allowed=allowed(row),
        must=must(row),
    )


def budget_bar(row: RuleResult) -> BudgetBar:
    """`row` as a bar of the budget chart.

    Text without a bar where nothing was measured, the limit is not above 0, or the rule is not about a change.
    """
    line = rule_line(row)
    label = f"{row.rule} ({row.decision})"
    if row.value is None:
        return BudgetBar(label, row.decision, None, None, f"not measured: {row.reason}")
    if row.limit <= 0 or row.anchor is None:
        return BudgetBar(label, row.decision, None, None, line.numbers)
    bound = None if row.bound is None else row.bound / row.limit
    return BudgetBar(label, row.decision, row.value / row.limit, bound, line.numbers)


def deciding(verdict: Verdict) -> tuple[RuleLine, ...]:
    """The rules that made the decision, the furthest over its limit first; for a PASS the one closest to its limit.

    A WARN is made by everything that did not pass; failures that were waived come first there, and last where a
    sign-off is awaited.
    """
    decision = verdict.decision
    if decision == "WARN":
        rows = [row for row in verdict.rules if row.decision != "pass"]
    else:
        rows = [row for row in verdict.rules if row.decision == decision.lower()]
    if decision == "Pending":
        rows += [row for row in verdict.rules if row.waived]
    if decision == "PASS":  # evidence that is there has no limit to be close to
        rows = [row for row in rows if row.value is not None]
    if decision in ("PASS", "FAIL", "INCONCLUSIVE"):
        rows = [row for row in rows if row.severity == "block"] or rows
    rows.sort(key=lambda row: (row.waived and decision == "WARN", share_used(row)), reverse=True)
    told = {use.rule: _waiver(use) for use in verdict.waivers if use.applied}
    lines = (replace(rule_line(row), waiver=told.get(row.rule, "") if row.waived else "") for row in rows)
    return tuple(lines)[:1] if decision == "PASS" else tuple(lines)


def _waiver(use: WaiverUse) -> str:
    """Who let a failed rule through, until when and why; the name is text in a file that nobody signed."""
    return f"waived by {use.approver} (not verified) until {use.expires}: {use.reason.rstrip('.')}"
