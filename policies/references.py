"""Whom a rule measures a change from: the anchor, the best expert, or the root that a lineage of merges began with."""

from collections.abc import Sequence
from dataclasses import dataclass

from alignmerge.auditor.record import AuditRecord
from alignmerge.errors import RecordError
from alignmerge.policies.evidence import check_comparable
from alignmerge.policies.measure import Missing, result_of
from alignmerge.policies.model import DIRECTION, PAIRED, Policy, Rule
from alignmerge.policies.verdict import Lineage, Spent

BEST_EXPERT = "best expert"
ROOT = "root anchor"


@dataclass(frozen=True)
class Reference:
    """What a rule compares with. role: its name in sentences. spent: what came before it and counts as well.

    note: what a reader of the reason must know besides.
    """

    record: AuditRecord | None
    role: str = "anchor"
    spent: Spent | None = None
    note: str = ""


@dataclass(frozen=True)
class References:
    """Every record that a candidate may be compared with."""

    candidate: AuditRecord
    anchor: AuditRecord | None
    experts: Sequence[AuditRecord]
    root: AuditRecord | None
    lineage: Lineage | None

    def roles(self) -> dict[str, AuditRecord]:
        """Every record that was handed in, by role."""
        named = {"candidate": self.candidate, "anchor": self.anchor, "root": self.root}
        found = {role: record for role, record in named.items() if record is not None}
        return found | {f"expert-{index}": expert for index, expert in enumerate(self.experts, start=1)}

    def of(self, rule: Rule) -> Reference:
        """Whom this rule compares with.

        Raises:
            Missing: that record was not given.
            RecordError: it asked something else, or is of another checkpoint than the lineage says.
        """
        if rule.kind not in PAIRED or rule.against == "anchor":
            return Reference(self.anchor)
        return self._best_expert(rule) if rule.against == "best_expert" else self._root(rule)

    def _best_expert(self, rule: Rule) -> Reference:
        if not self.experts:
            raise Missing("no audits of the experts were given, and this rule compares with the best of them")
        sign = 1 if DIRECTION[rule.kind] == "higher" else -1
        values = []
        for index, expert in enumerate(self.experts):
            check_comparable(self.candidate, expert)
            value = result_of(rule, expert, f"expert {expert.name}").value
            assert value is not None
            values.append((sign * value, expert.checkpoint, index))
        best = self.experts[max(values)[2]]
        return Reference(best, BEST_EXPERT, note=f"compared with the best expert, {best.name}")

    def _root(self, rule: Rule) -> Reference:
        lineage = self.lineage
        if lineage is None:
            return self._given_root()
        merges = f"{lineage.merges} earlier merge{'' if lineage.merges == 1 else 's'}"
        note = f"compared with the root anchor, {lineage.root[:12]}, {merges} back"
        if self.anchor is not None and self.anchor.checkpoint == lineage.root:
            return Reference(self.anchor, ROOT, note="" if lineage.merges else "the anchor is the root of its lineage")
        if self.root is not None:
            check_root(self.root, lineage)
            check_comparable(self.candidate, self.root)
            return Reference(self.root, ROOT, note=note)
        if rule.metric not in lineage.spent:
            raise Missing(f"what {merges} spent of {rule.metric} is not known; give an audit of the root anchor")
        spent = lineage.spent[rule.metric]
        return Reference(self.anchor, spent=spent, note=f"with what {merges} spent, {spent.upper:.3g} at most")

    def _given_root(self) -> Reference:
        """The root that was handed in, where no ledger knows the anchor: a person's word that it is the root."""
        if self.root is None:
            raise Missing(
                "no ledger that knows the anchor was given, so what merges before this one have spent is not known; "
                "give the ledger, or an audit of the root anchor"
            )
        check_comparable(self.candidate, self.root)
        note = f"compared with {self.root.checkpoint[:12]}, given as the root anchor; no ledger says so"
        return Reference(self.root, ROOT, note=note)


def check_root(root: AuditRecord, lineage: Lineage) -> None:
    """Nothing, when `root` is an audit of the checkpoint that the lineage began with.

    Raises:
        RecordError: it is of another.
    """
    if root.checkpoint != lineage.root:
        raise RecordError(f"the audit of the root is of {root.checkpoint[:12]}, not {lineage.root[:12]}")


def needs_experts(policy: Policy) -> bool:
    """Whether some rule compares with the best expert, so that a decision needs their audits."""
    return any(rule.against == "best_expert" for rule in policy.rules)


def needs_lineage(policy: Policy) -> bool:
    """Whether some rule measures from the root of the lineage, so that a decision needs a ledger."""
    return any(rule.against == "root" for rule in policy.rules)
