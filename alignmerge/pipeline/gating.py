"""The decision alone, from audit files, and how a verdict is shown. Loads no model and no tensor library."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from alignmerge import __version__, jsonio
from alignmerge.auditor import record
from alignmerge.auditor.item_rows import without_cycles
from alignmerge.errors import Inconclusive, RecordError
from alignmerge.merger import record as merge_record
from alignmerge.pipeline.lineage import lineage_of
from alignmerge.pipeline.runfolder import RECORDS
from alignmerge.pipeline.witness import Witness
from alignmerge.policies.decide import decide
from alignmerge.policies.explain import verdict_lines
from alignmerge.policies.fixes import blamed, spenders
from alignmerge.policies.reasons import figure
from alignmerge.policies.references import needs_experts
from alignmerge.policies.schema import Policy, load_policy
from alignmerge.policies.signoff import Approval
from alignmerge.policies.verdict import RuleResult, Verdict, to_statement
from alignmerge.policies.waivers import load_waivers
from alignmerge.provenance import manifest as manifests
from alignmerge.reports.model import Role, RunRow, inside, read_run
from alignmerge.terminal import printable

BLAME, BLAMES = "blame.json", "blames"
_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "inconclusive": "magenta", "pending": "cyan"}


def load_audit(path: Path, role: Role | None = None) -> record.AuditRecord:
    """The audit at `path`: an audit.json, its folder, or the folder of one merge, of which `role` is taken.

    Raises:
        Inconclusive: a folder that holds no audit, such as a merge that was never gated.
        RecordError: a folder that holds several merges.
    """
    if path.is_dir() and not (path / "audit.json").is_file():
        run = _run_in(path)
        if run is None:
            raise Inconclusive(f"{path}: holds no audit.json, so nothing can be decided; run `alignmerge audit` first")
        return record.load(inside(run, _row(run, role or "merge").audit, "audit"))
    return record.load(path)


def _run_in(path: Path) -> Path | None:
    """The folder of the run that `path` names, with its run.json; None when there is no run."""
    if not path.is_dir() or (path / "audit.json").is_file():
        return None
    return next((place for place in (path / RECORDS, path) if (place / "run.json").is_file()), None)


def _row(run: Path, role: Role) -> RunRow:
    """The one row of run.json with this role."""
    rows = [row for row in read_run(run).entries if row.role == role]
    if len(rows) != 1:
        raise RecordError(f"{run / 'run.json'}: holds {len(rows)} audits of a {role}; name one folder in its audits/")
    return rows[0]


@dataclass(frozen=True)
class _Made:
    """What the records of one merge say of it: the checkpoints that its audits must be of, by manifest digest.

    manifest: digest of the checkpoint that lies beside the records, None where there is none.
    """

    run: Path
    label: str
    output: str
    anchor: str | None
    experts: frozenset[str]
    manifest: str | None

    @staticmethod
    def of(audit: Path) -> "_Made | None":
        """That of the merge whose folder `audit` names; None where it names an audit alone."""
        run = _run_in(audit)
        if run is None:
            return None
        row = _row(run, "merge")
        if row.merge is None:
            raise RecordError(f"{run / 'run.json'}: {row.label} has no merge record, so its anchor is not known")
        made = merge_record.read_file(inside(run, row.merge, "merge"))
        experts = frozenset(one.digest for one in made.inputs if one.role == "expert")
        manifest = manifests.read(audit).digest if (audit / manifests.FILE_NAME).is_file() else None
        return _Made(run, row.label, made.output_digest, made.anchor, experts, manifest)


def _candidate_of(audit: Path, made: _Made | None) -> record.AuditRecord:
    """The candidate's audit.

    Raises:
        RecordError: it is of another checkpoint than the merge made, or than the one that lies beside it.
    """
    found = load_audit(audit)
    own = {made.output, made.manifest or made.output} if made is not None else set()
    if made is not None and (others := sorted(own - {found.checkpoint})):
        raise RecordError(
            f"{audit}: the audit is of {found.checkpoint[:12]}, not {others[0][:12]}, which {made.label} is; audit it"
        )
    return found


def _anchor_of(audit: Path, anchor: Path | None, made: _Made | None) -> record.AuditRecord | None:
    """The anchor's audit: the one named, else the one that the merge's own records hold.

    Raises:
        RecordError: the merge was made from another anchor.
    """
    if made is None:
        return None if anchor is None else load_audit(anchor, "anchor")
    found = load_audit(anchor or audit, "anchor")
    if found.checkpoint != made.anchor:
        raise RecordError(
            f"{anchor or made.run}: the audit is of {found.checkpoint[:12]}, not {str(made.anchor)[:12]}; {made.label} "
            "was made from the anchor with that digest, so audit that one"
        )
    return found


def _experts_of(given: Sequence[Path], policy: Policy, made: _Made | None) -> list[record.AuditRecord]:
    """The experts' audits: those named, else those that the merge's own records hold, where the policy wants them.

    Raises:
        RecordError: one is of a checkpoint that the merge was not made from.
        Inconclusive: the policy compares with the best of them, and not all are there.
    """
    if made is None:
        return [load_audit(path) for path in given]
    kept = [row for row in read_run(made.run).entries if row.role == "expert"] if needs_experts(policy) else []
    found = {str(path): load_audit(path) for path in given} or {
        row.label: record.load(inside(made.run, row.audit, "audit")) for row in kept
    }
    for where, one in found.items():
        if one.checkpoint not in made.experts:
            theirs = ", ".join(sorted(digest[:12] for digest in made.experts))
            raise RecordError(
                f"{where}: the audit is of {one.checkpoint[:12]}, not of an expert of {made.label} ({theirs})"
            )
    absent = sorted(made.experts - {one.checkpoint for one in found.values()})
    if found and absent and needs_experts(policy):
        raise Inconclusive(
            f"{made.run}: no audit of the expert {absent[0][:12]}, and the policy compares with the best of all that "
            f"{made.label} was made from; give it with --expert"
        )
    return list(found.values())


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


def spends_most(audit: Path) -> str:
    """Who spends most of the drift, from the blame (of `alignmerge blame --json`, as `blame.json`, or of `blame --run`)
    beside the records of the one merge that `audit` names; empty without one.
    """
    run = _run_in(audit)
    return _blamed_in(audit / BLAME) if run is None else spender_of(run, _row(run, "merge").label)


def spender_of(run: Path, label: str) -> str:
    """Who spends most of the drift of the merge `label` in the run folder `run`; empty where no blame is there."""
    alone = sum(row.role == "merge" for row in read_run(run).entries) == 1
    kept = _blamed_in(run / BLAMES / f"{label}.json")
    return kept or (_blamed_in(run / BLAME) if alone else "")


def _blamed_in(path: Path) -> str:
    return blamed(spenders(jsonio.read(path))) if path.is_file() else ""


def show(verdict: Verdict, who: str = "") -> None:
    """Print the table, the decision and the reasons on standard output. who: see `spends_most`."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 120
    console.print(verdict_table(verdict))
    console.print()
    for line in verdict_lines(verdict, who):
        console.print(line, soft_wrap=True)


@without_cycles()
def gate(
    audit: Path,
    policy: str,
    anchor: Path | None = None,
    experts: Sequence[Path] = (),
    output: Path | None = None,
    *,
    approvals: Sequence[Approval] = (),
    waivers: Path | None = None,
    root: Path | None = None,
    witness: Witness | None = None,
) -> Verdict:
    """The verdict on audit files, written to `output` when given; `witness` signs it and writes it down.

    waivers: a file of them. root: the audit of the anchor that the ledger's lineage begins with.
    """
    rules, made = load_policy(policy), _Made.of(audit)
    candidate, measured_from = _candidate_of(audit, made), _anchor_of(audit, anchor, made)
    ledger = witness.ledger if witness is not None else None
    verdict = decide(
        rules,
        candidate,
        measured_from,
        _experts_of(experts, rules, made),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        approvals=approvals,
        waivers=load_waivers(waivers) if waivers is not None else (),
        root=load_audit(root) if root is not None else None,
        lineage=lineage_of(ledger, measured_from.checkpoint) if measured_from is not None else None,
    )
    if output is not None:
        jsonio.write(output, to_statement(verdict))
    if witness is not None:
        witness.gated(verdict, measured_from.checkpoint if measured_from is not None else None, output)
    return verdict
