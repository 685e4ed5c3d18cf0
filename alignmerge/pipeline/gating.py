"""The decision alone, from audit files, and how a verdict is shown. Loads no model and no tensor library."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from alignmerge import __version__, jsonio
from alignmerge.auditor import record
from alignmerge.errors import Inconclusive
from alignmerge.policies.decide import decide
from alignmerge.policies.explain import verdict_lines
from alignmerge.policies.reasons import figure
from alignmerge.policies.schema import load_policy
from alignmerge.policies.verdict import RuleResult, Verdict, to_statement
from alignmerge.terminal import printable

_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "inconclusive": "magenta"}


def load_audit(path: Path) -> record.AuditRecord:
    """The audit at `path` (a folder or its audit.json).

    Raises:
        Inconclusive: a folder that holds no audit, such as a merge that was never gated.
    """
    if path.is_dir() and not (path / "audit.json").is_file():
        raise Inconclusive(f"{path}: holds no audit.json, so nothing can be decided; run `alignmerge audit` first")
    return record.load(path)


def verdict_table(verdict: Verdict) -> Table:
    """A table with one row per rule; numbers keep their order against the limit however they are rounded."""
    table = Table(show_edge=False, pad_edge=False)
    for heading in ("rule", "value", "bound", "limit", "n", "decision"):
        table.add_column(heading, justify="left" if heading in ("rule", "decision") else "right", overflow="fold")
    for rule in verdict.rules:
        decision = rule.decision if rule.severity == "block" else f"{rule.decision} (does not block)"
        cells = [rule.rule, *_numbers(rule)]
        table.add_row(*(Text(printable(cell)) for cell in cells), Text(decision, style=_STYLES[rule.decision]))
    return table


def _numbers(rule: RuleResult) -> tuple[str, str, str, str]:
    value = "-" if rule.value is None else figure(rule.value, (rule.limit,))
    bound = "-" if rule.bound is None else figure(rule.bound, (rule.limit,))
    return value, bound, f"{rule.limit:.4g}", str(rule.n)


def show(verdict: Verdict) -> None:
    """Print the table, the decision and the reasons on standard output."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 120
    console.print(verdict_table(verdict))
    console.print()
    for line in verdict_lines(verdict):
        console.print(line, soft_wrap=True)


def gate(
    audit: Path, policy: str, anchor: Path | None = None, experts: Sequence[Path] = (), output: Path | None = None
) -> Verdict:
    """The verdict on audit files, written to `output` when given."""
    verdict = decide(
        load_policy(policy),
        load_audit(audit),
        None if anchor is None else load_audit(anchor),
        [load_audit(path) for path in experts],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
    )
    if output is not None:
        jsonio.write(output, to_statement(verdict))
    return verdict
