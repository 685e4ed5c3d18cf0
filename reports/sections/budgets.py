"""Every rule of the policy for every merge: measured change, bound and limit."""

from dataclasses import dataclass

from alignmerge.reports import charts
from alignmerge.reports.drawing import Drawing
from alignmerge.reports.model import ReportInput
from alignmerge.reports.names import SIGNS
from alignmerge.reports.rules import RuleLine, budget_bar, rule_line
from alignmerge.reports.sections.section import Section, is_gated


@dataclass(frozen=True)
class Budget:
    """One merge under the policy. `notes` are the verdict's: what decides nothing and a reader must know."""

    label: str
    decision: str
    sign: str
    policy: str
    chart: Drawing
    rules: tuple[RuleLine, ...]
    notes: tuple[str, ...] = ()


def view(report: ReportInput) -> tuple[Budget, ...]:
    """One budget per merge that has a verdict."""
    rows = []
    for index, entry in enumerate(report.merges):
        verdict = entry.verdict
        if verdict is None:
            continue
        title = f"Budgets of {entry.label} under {verdict.policy_name}"
        chart = charts.budgets(f"budget-{index}", title, [budget_bar(row) for row in verdict.rules])
        lines = tuple(rule_line(row) for row in verdict.rules)
        sign = SIGNS[verdict.decision]
        rows.append(Budget(entry.label, verdict.decision, sign, verdict.policy_name, chart, lines, verdict.notes))
    return tuple(rows)


SECTION = Section("budgets", "Budgets", "budgets.html.j2", view, is_gated)
