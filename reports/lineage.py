"""Which checkpoint was made from which, what was decided of each, and what a branch of merges has spent.

Known from runs and from a ledger, by digest. A checkpoint that several of them hold has one place, below the first
anchor that is named for it, and every verdict of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from alignmerge.policies.verdict import Verdict
from alignmerge.provenance.ledger import Entry as LedgerEntry
from alignmerge.reports.model import ReportInput
from alignmerge.reports.names import SIGNS
from alignmerge.reports.text import against_limit, short_digest

DEEPEST = 40
LEDGER = "the ledger"


@dataclass(frozen=True)
class Told:
    """One verdict of a checkpoint as printed. `policy` is empty without one; `source` names the runs that hold it.

    spent: what each rule measured of its limit, against the anchor. so_far: the same added up from the first anchor of
    the branch on; empty where that is the own anchor, or where a step between has no verdict. aside: the anchor, where
    that is another than the one the checkpoint stands below.
    """

    decision: str
    sign: str
    policy: str
    source: str
    spent: str
    so_far: str = ""
    aside: str = ""


@dataclass(frozen=True)
class Node:
    """One checkpoint of the lineage, its verdicts, and the merges made from it."""

    name: str
    checkpoint: str
    verdicts: tuple[Told, ...]
    below: tuple["Node", ...]


@dataclass(frozen=True)
class _Spent:
    """What a rule measured against the checkpoint's own anchor, and its limit; both in the metric's unit."""

    value: float
    limit: float


Rule = tuple[str, str, str | None, str | None]  # its name, metric, suite and category
Spending = Mapping[Rule, _Spent]


@dataclass(frozen=True)
class _Verdict:
    """A decision, and what it rests on. sources: the runs that hold it."""

    decision: str
    policy: str
    anchor: str | None
    spent: Spending = field(default_factory=dict)
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Known:
    """What is known of a checkpoint: its name, the anchor it was merged from and how it was decided."""

    name: str
    anchor: str | None = None
    verdicts: tuple[_Verdict, ...] = ()

    def spending(self) -> Spending:
        """What its verdicts against the anchor measured; the most, where two of one rule differ."""
        out: dict[Rule, _Spent] = {}
        for verdict in self.verdicts:
            for rule, one in verdict.spent.items() if verdict.anchor == self.anchor else ():
                if rule not in out or one.value > out[rule].value:
                    out[rule] = one
        return out


def lineage(runs: Sequence[ReportInput], ledger: Sequence[LedgerEntry] = ()) -> tuple[Node, ...]:
    """Every anchor that is no merge, with the merges below it."""
    found: dict[str, list[_Known]] = {}
    for digest, one in [*(found for run in runs for found in _run(run)), *_ledger(ledger)]:
        found.setdefault(digest, []).append(one)
    known = {digest: _joined(rows) for digest, rows in found.items()}
    below: dict[str, list[str]] = {}
    for digest, one in known.items():
        if one.anchor is not None:
            below.setdefault(one.anchor, []).append(digest)
    roots = [digest for digest in below if digest not in known or known[digest].anchor is None]
    return tuple(_node(digest, known, below, DEEPEST, None) for digest in roots)


def _joined(rows: Sequence[_Known]) -> _Known:
    """One checkpoint from all that is known of it: every verdict once, and that it is ungated only if nothing is."""
    first = next((one for one in rows if one.anchor is not None), rows[0])
    verdicts: list[_Verdict] = []
    for one in (verdict for row in rows for verdict in row.verdicts):
        at = next((at for at, other in enumerate(verdicts) if _same(one, other)), None)
        if at is None:
            verdicts.append(one)
        else:
            kept = verdicts[at]
            sources = dict.fromkeys((*kept.sources, *(() if one.sources == (LEDGER,) else one.sources)))
            verdicts[at] = _Verdict(kept.decision, kept.policy, kept.anchor, kept.spent, tuple(sources))
    gated = [one for one in verdicts if one.decision.upper() != "UNGATED"]
    return _Known(first.name, first.anchor, tuple(gated or verdicts[:1]))


def _same(one: _Verdict, other: _Verdict) -> bool:
    """Whether two say the same. The ledger names a policy without its digest, and says of a verdict no more."""
    if LEDGER in one.sources:
        same = not one.policy or other.policy == one.policy or other.policy.startswith(f"{one.policy} (")
        return one.decision == other.decision and same
    return (one.decision, one.policy, one.anchor, one.spent) == (
        other.decision,
        other.policy,
        other.anchor,
        other.spent,
    )


def _node(
    digest: str, known: Mapping[str, _Known], below: Mapping[str, Sequence[str]], deep: int, before: Spending | None
) -> Node:
    """The node of a checkpoint. A chain of more than DEEPEST merges is cut there, and says so.

    before: what the branch spent down to this checkpoint's anchor; None where that is the branch's first.
    """
    one = known.get(digest, _Known("checkpoint of no run"))
    children = below.get(digest, ())
    nodes: tuple[Node, ...] = (Node("more merges below, not shown", "", (), ()),)
    if deep or not children:
        through = one.spending() if before is None else _added(before, one.spending())
        handed = None if one.anchor is None else through
        nodes = tuple(_node(child, known, below, deep - 1, handed) for child in children)
    return Node(one.name, digest, tuple(_told(verdict, one, before) for verdict in one.verdicts), nodes)


def _told(verdict: _Verdict, one: _Known, before: Spending | None) -> Told:
    own = verdict.anchor == one.anchor
    return Told(
        decision=verdict.decision,
        sign=SIGNS.get(verdict.decision, "–"),
        policy=verdict.policy,
        source=" and ".join(verdict.sources),
        spent=_spending(verdict.spent),
        so_far="" if before is None or not own else _spending(_added(before, verdict.spent)),
        aside="" if own or verdict.anchor is None else short_digest(verdict.anchor),
    )


def _added(before: Spending, now: Spending) -> Spending:
    """The sums of the rules that both have; changes between neighbours add up to the change over both."""
    both = {rule: one for rule, one in now.items() if rule in before}
    return {rule: _Spent(before[rule].value + one.value, one.limit) for rule, one in both.items()}


def _ledger(ledger: Sequence[LedgerEntry]) -> Iterable[tuple[str, _Known]]:
    anchors = {entry.subject: anchor for entry in ledger if (anchor := entry.parents.get("anchor")) is not None}
    for entry in ledger:
        anchor = _other(anchors.get(entry.subject), entry.subject)
        verdict = _Verdict(entry.decision, entry.policy or "", anchor, sources=(LEDGER,))
        yield entry.subject, _Known(entry.name, anchor, (verdict,))


def _other(anchor: str | None, digest: str) -> str | None:
    """An anchor that is not the checkpoint itself."""
    return None if anchor == digest else anchor


def _run(run: ReportInput) -> Iterable[tuple[str, _Known]]:
    for entry in run.entries:
        digest, verdict = entry.audit.checkpoint, entry.verdict
        if entry.role == "anchor":
            yield digest, _Known(entry.audit.name)
        elif entry.role == "merge":
            anchor = None if run.anchor is None else _other(run.anchor.audit.checkpoint, digest)
            policy = "" if verdict is None else f"{verdict.policy_name} ({short_digest(verdict.policy)})"
            decision = "UNGATED" if verdict is None else verdict.decision
            yield (
                digest,
                _Known(entry.label, anchor, (_Verdict(decision, policy, anchor, _spent(verdict), (run.title,)),)),
            )


def _spent(verdict: Verdict | None) -> Spending:
    """The change against the own anchor that each rule measured, of its limit."""
    rows = () if verdict is None else verdict.rules
    return {
        (row.rule, row.metric, row.suite, row.category): _Spent(row.value, row.limit)
        for row in rows
        if row.anchor is not None and row.value is not None and row.against is None
    }


def _spending(spent: Spending) -> str:
    told = [(rule, against_limit(one.limit, one.value)) for (rule, *_), one in spent.items()]
    return "; ".join(f"{rule} {value} of {limit}" for rule, (limit, value) in told)
