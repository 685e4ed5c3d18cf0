"""What other policies would say of the same audits, and what they would still need."""

from dataclasses import dataclass

from alignmerge.policies.verdict import Verdict
from alignmerge.reports.model import ReportInput
from alignmerge.reports.names import HEADLINES, SIGNS
from alignmerge.reports.rules import RuleLine, rule_line
from alignmerge.reports.sections.section import Section, is_gated


@dataclass(frozen=True)
class Further:
    """One merge under one further policy; `open` are the rules that do not pass."""

    label: str
    policy: str
    decision: str
    sign: str
    headline: str
    open: tuple[RuleLine, ...]


def _further(label: str, policy: str, verdict: Verdict) -> Further:
    lines = tuple(rule_line(row) for row in verdict.rules if row.decision != "pass")
    return Further(label, policy, verdict.decision, SIGNS[verdict.decision], HEADLINES[verdict.decision], lines)


def view(report: ReportInput) -> tuple[Further, ...]:
    """Every further verdict, by merge in the order of the run."""
    return tuple(_further(entry.label, policy, verdict) for entry in report.merges for policy, verdict in entry.also)


SECTION = Section("further", "What other policies would still need", "further.html.j2", view, is_gated)
