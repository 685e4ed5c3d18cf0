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
    """`statements` are the statistics in words, each with its lead, which may be empty; `methods` are the interval
    methods the records name.
    """

    policy: str
    rules: tuple[Rule, ...]
    statements: tuple[tuple[str, str], ...]
    methods: tuple[str, ...]


def _statements(items: str) -> tuple[tuple[str, str], ...]:
    """`items` says how many paired items the rules rest on; empty where none was decided."""
    paired = f" ({items} paired items per rule here)" if items else ""
    return (
        ("", f"Every rule compares a merge with the anchor on the same items{paired}, answer by answer."),
        (
            "",
            "A rule decides on a one-sided 95 % confidence bound (α = 0.05) of the paired difference, not on the "
            "measured value. “No significant change” is not “no change”.",
        ),
        (
            "PASS",
            "the bound of every blocking rule is inside its limit. All must hold, so no correction for several rules "
            "is needed.",
        ),
        (
            "FAIL",
            "the bound on the other side shows some blocking rule outside its limit; that bound is stricter than 95 % "
            "(Holm's correction for the number of rules), and its reason names the level.",
        ),
        ("INCONCLUSIVE", "anything between, or evidence missing; it does not ship."),
        ("WARN", "only rules that do not block are over their limit, or a failure was waived."),
        (
            "",
            "Rates of yes-or-no items: paired differences by Tango's score bound, which stays wide when no answer "
            "changed; single rates by Wilson's interval. Other item scores: BCa bootstrap of the paired differences. "
            "AQI: paired bootstrap, the anchor and the merge on the same resamples.",
        ),
        (
            "",
            "An item that could not be scored is never a zero: rates leave it out, and the bound that a pass rests on "
            "counts it at its worst.",
        ),
    )


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
    return View(report.policy_name, rules, _statements(items), tuple(sorted(methods)))


def _words(row: PolicyRow) -> str:
    """The rule in words without its name and severity, which stand in columns of their own."""
    return row.text.removeprefix(f"{row.rule} ({'blocks' if row.severity == 'block' else 'warns'}): ")


SECTION = Section("decision", "How it was decided", "decision.html.j2", view, is_gated)
