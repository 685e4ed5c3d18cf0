"""One page over many runs: what each came to, and which checkpoint was made from which.

Only folders inside the index's own folder are linked, by relative paths; the runs are read, never changed.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from alignmerge import __version__
from alignmerge.errors import RecordError
from alignmerge.policies.verdict import Verdict
from alignmerge.provenance.ledger import Entry as LedgerEntry
from alignmerge.reports.loaded import run_folder
from alignmerge.reports.model import REFUSAL, ReportInput, load_run
from alignmerge.reports.names import SIGNS
from alignmerge.reports.ranking import Ranked, estimate_of, rank
from alignmerge.reports.render import environment, source_hash
from alignmerge.reports.text import FIELD_CHARACTERS, UNMEASURED, against_limit, number, signed

DEEPEST = 40


@dataclass(frozen=True)
class Line:
    """One merge of one run as printed; `link` is the run's report, empty where it lies outside the page's folder."""

    title: str
    link: str
    label: str
    decision: str
    sign: str
    gain: str
    gain_interval: str
    change: str
    policy: str
    created: str
    checkpoint: str


@dataclass(frozen=True)
class Node:
    """One checkpoint of the lineage and the merges made from it.

    spent: what each rule measured of its limit, against the checkpoint's own anchor. so_far: the same added up from the
    first anchor of the branch on; empty where that is the own anchor, or where a step between has no verdict.
    """

    name: str
    checkpoint: str
    decision: str
    sign: str
    spent: str
    below: tuple["Node", ...]
    so_far: str = ""


def load_runs(folders: Sequence[Path]) -> list[tuple[Path, ReportInput]]:
    """The run folders and their runs.

    Raises:
        RecordError: a folder holds no run, or see `load_run`.
    """
    found = []
    for folder in folders:
        place = run_folder(folder)
        if place is None:
            raise RecordError(f"{folder}: no run.json here; an index is over runs")
        found.append((place, load_run(place)))
    return found


def render(runs: Sequence[tuple[Path, ReportInput]], beside: Path, ledger: Sequence[LedgerEntry] = ()) -> str:
    """The page, to be written into the folder `beside`; the same bytes for equal input."""
    env = environment()
    lines = [line for place, run in runs for line in _lines(place, run, beside)]
    return env.get_template("index.html.j2").render(
        runs=len(runs),
        lines=lines,
        nodes=lineage([run for _, run in runs], ledger),
        created=max((run.created for _, run in runs), default=""),
        version=__version__,
        style_hash=source_hash(env, "style.css"),
        script_hash=source_hash(env, "page.js"),
    )


def _lines(place: Path, run: ReportInput, beside: Path) -> list[Line]:
    link = link_to(place / "report.html", beside)
    kept = None if run.anchor is None else estimate_of(run.anchor.audit.result(REFUSAL))
    lines = []
    for row in rank(run, REFUSAL):
        verdict, refusal = row.entry.verdict, estimate_of(row.refusal)
        decision = "UNGATED" if verdict is None else verdict.decision
        lines.append(
            Line(
                title=run.title,
                link=link,
                label=row.entry.label,
                decision=decision,
                sign=SIGNS.get(decision, "–"),
                gain=UNMEASURED if row.gain is None else signed(row.gain.value),
                gain_interval=_interval(row),
                change=UNMEASURED if refusal is None or kept is None else signed(refusal.value - kept.value),
                policy=run.policy_name if verdict is None else verdict.policy_name,
                created=run.created,
                checkpoint=row.entry.audit.checkpoint,
            )
        )
    return lines


def _interval(row: Ranked) -> str:
    gain = row.gain
    if gain is None or gain.low is None or gain.high is None:
        return ""
    return f"{number(gain.low)} to {number(gain.high)}"


def link_to(target: Path, beside: Path) -> str:
    """The relative address, without "./", of a file that is there inside the folder `beside`; empty for any other."""
    real, root = target.resolve(), beside.resolve()
    if not real.is_file() or not real.is_relative_to(root):
        return ""
    address = quote(os.fsencode(real.relative_to(root).as_posix()))
    return address if len(address) < FIELD_CHARACTERS else ""


@dataclass(frozen=True)
class _Spent:
    """What a rule measured against the checkpoint's own anchor, and its limit; both in the metric's unit."""

    value: float
    limit: float


Spending = Mapping[tuple[str, str], _Spent]  # by rule and metric


@dataclass(frozen=True)
class _Known:
    """What is known of a checkpoint: its name, the anchor it was merged from and how it was decided."""

    name: str
    anchor: str | None = None
    decision: str = ""
    spent: Spending = field(default_factory=dict)


def lineage(runs: Sequence[ReportInput], ledger: Sequence[LedgerEntry] = ()) -> tuple[Node, ...]:
    """Every anchor that is no merge, with the merges below it; by digest across the runs and the ledger."""
    known: dict[str, _Known] = {}
    for digest, one in [*_ledger(ledger), *(found for run in runs for found in _run(run))]:
        if digest not in known or one.anchor is not None:
            known[digest] = one
    below: dict[str, list[str]] = {}
    for digest, one in known.items():
        if one.anchor is not None:
            below.setdefault(one.anchor, []).append(digest)
    roots = [digest for digest in below if digest not in known or known[digest].anchor is None]
    return tuple(_node(digest, known, below, DEEPEST, None) for digest in roots)


def _node(
    digest: str, known: Mapping[str, _Known], below: Mapping[str, Sequence[str]], deep: int, before: Spending | None
) -> Node:
    """The node of a checkpoint. A chain of more than DEEPEST merges is cut there, and says so.

    before: what the branch spent down to this checkpoint's anchor; None where that is the branch's first.
    """
    one = known.get(digest, _Known("checkpoint of no run"))
    children = below.get(digest, ())
    through = one.spent if before is None else _added(before, one.spent)
    nodes: tuple[Node, ...] = (Node("more merges below, not shown", "", "", "–", "", ()),)
    if deep or not children:
        handed = None if one.anchor is None else through
        nodes = tuple(_node(child, known, below, deep - 1, handed) for child in children)
    so_far = "" if before is None else _told(through)
    return Node(one.name, digest, one.decision, SIGNS.get(one.decision, "–"), _told(one.spent), nodes, so_far)


def _added(before: Spending, now: Spending) -> Spending:
    """The sums of the rules that both have; changes between neighbours add up to the change over both."""
    both = {rule: one for rule, one in now.items() if rule in before}
    return {rule: _Spent(before[rule].value + one.value, one.limit) for rule, one in both.items()}


def _ledger(ledger: Sequence[LedgerEntry]) -> list[tuple[str, _Known]]:
    anchors = {entry.subject: anchor for entry in ledger if (anchor := entry.parents.get("anchor")) is not None}
    return [
        (entry.subject, _Known(entry.name, _other(anchors.get(entry.subject), entry.subject), entry.decision))
        for entry in ledger
    ]


def _other(anchor: str | None, digest: str) -> str | None:
    """An anchor that is not the checkpoint itself."""
    return None if anchor == digest else anchor


def _run(run: ReportInput) -> list[tuple[str, _Known]]:
    found = []
    for entry in run.entries:
        digest, verdict = entry.audit.checkpoint, entry.verdict
        if entry.role == "anchor":
            found.append((digest, _Known(entry.audit.name)))
        elif entry.role == "merge":
            anchor = None if run.anchor is None else _other(run.anchor.audit.checkpoint, digest)
            decision = "UNGATED" if verdict is None else verdict.decision
            found.append((digest, _Known(entry.label, anchor, decision, _spent(verdict))))
    return found


def _spent(verdict: Verdict | None) -> Spending:
    """The change against the own anchor that each rule measured, of its limit."""
    rows = () if verdict is None else verdict.rules
    return {
        (row.rule, row.metric): _Spent(row.value, row.limit)
        for row in rows
        if row.anchor is not None and row.value is not None and row.against is None
    }


def _told(spent: Spending) -> str:
    told = [(rule, against_limit(one.limit, one.value)) for (rule, _), one in spent.items()]
    return "; ".join(f"{rule} {value} of {limit}" for rule, (limit, value) in told)
