"""The decision alone, from audit files, and how a verdict is shown. Loads no model and no tensor library."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from alignmerge import __version__, jsonio
from alignmerge.auditor import record
from alignmerge.errors import Inconclusive, RecordError
from alignmerge.policies.decide import decide
from alignmerge.policies.explain import verdict_lines
from alignmerge.policies.reasons import figure
from alignmerge.policies.schema import load_policy
from alignmerge.policies.verdict import RuleResult, Verdict, to_statement
from alignmerge.terminal import printable

_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "inconclusive": "magenta"}


def load_audit(path: Path, role: str | None = None) -> record.AuditRecord:
    """The audit at `path`: an audit.json, its folder, or the folder of one merge, of which `role` is taken.

    Raises:
        Inconclusive: a folder that holds no audit, such as a merge that was never gated.
        RecordError: a folder that holds several merges.
    """
    if path.is_dir() and not (path / "audit.json").is_file():
        found = _of_run(path, role or "merge")
        if found is None:
            raise Inconclusive(f"{path}: holds no audit.json, so nothing can be decided; run `alignmerge audit` first")
        return record.load(found)
    return record.load(path)


def _of_run(path: Path, role: str) -> Path | None:
    """Where the run in `path` keeps the audit of the one checkpoint with this role; None when there is no run."""
    run = next((place for place in (path / "records", path) if (place / "run.json").is_file()), None)
    if run is None:
        return None
    entries = [row for row in jsonio.read(run / "run.json").get("entries", ()) if row.get("role") == role]
    if len(entries) != 1:
        raise RecordError(
            f"{run / 'run.json'}: holds {len(entries)} audits of a {role}; name one folder in its audits/"
        )
    return run / str(entries[0]["audit"])


def _anchor_of(audit: Path, anchor: Path | None) -> record.AuditRecord | None:
    """The anchor's audit: the one named, else the one that the merge's own records hold."""
    if anchor is not None:
        return load_audit(anchor, "anchor")
    own = _of_run(audit, "anchor") if audit.is_dir() and not (audit / "audit.json").is_file() else None
    return None if own is None else record.load(own)


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
        _anchor_of(audit, anchor),
        [load_audit(path) for path in experts],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
    )
    if output is not None:
        jsonio.write(output, to_statement(verdict))
    return verdict
