"""How the verdicts were reached: the policy's rules and the statistics in words."""

from dataclasses import dataclass

from alignmerge.reports.model import PolicyRow, ReportInput
from alignmerge.reports.names import metric_name
from alignmerge.reports.sections.section import Section, is_gated


@dataclass(frozen=True)
class Rule:
    """One rule of the policy as printed."""

    rule: str
    metric: str
    limit: str
    severity: str
    text: str


@dataclass(frozen=True)
class View:
    """`items` says how many paired items the rules rest on; `methods` are the interval methods the records name."""

    policy: str
    rules: tuple[Rule, ...]
    items: str
    methods: tuple[str, ...]


def view(report: ReportInput) -> View:
    """The policy and what the records say of their own statistics."""
    counts = sorted({row.n for entry in report.merges if entry.verdict is not None for row in entry.verdict.rules})
    items = "" if not counts else f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    methods = {
        f"{row.interval.method}, {row.interval.level:.0%}"
        for entry in report.entries
        for row in entry.audit.metrics
        if row.interval is not None
    }
    rules = tuple(
        Rule(row.rule, metric_name(row.metric), f"{row.limit:.6g}", row.severity, _words(row))
        for row in report.policy_summary
    )
    return View(report.policy_name, rules, items, tuple(sorted(methods)))


def _words(row: PolicyRow) -> str:
    """The rule in words without its name and severity, which stand in columns of their own."""
    return row.text.removeprefix(f"{row.rule} ({'blocks' if row.severity == 'block' else 'warns'}): ")


SECTION = Section("decision", "How it was decided", "decision.html.j2", view, is_gated)
