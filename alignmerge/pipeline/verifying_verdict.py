"""A verdict under check: decided again from its policy and from every record that it names.

Waivers, approvals and the lineage are in the verdict in full; audits are named by digest, and looked for by digest
among the run's records and those that the reader gives. One that is nowhere is said to be absent: then it was not
decided again, which is neither agreement nor tampering.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from alignmerge.auditor.record import AuditRecord, record_digest
from alignmerge.errors import AlignMergeError, InputRejected
from alignmerge.pipeline.approvals import read_unverified, verify_approval
from alignmerge.pipeline.signing import APPROVALS
from alignmerge.pipeline.verifying_model import Finding
from alignmerge.policies.decide import decide
from alignmerge.policies.schema import Policy
from alignmerge.policies.signoff import Approval
from alignmerge.policies.verdict import Verdict
from alignmerge.provenance.keys import PublicKey

LEDGERS_WORD = "what earlier merges spent is taken from the verdict; `alignmerge ledger verify` checks the ledger"
UNCHECKED_APPROVALS = "signatures of its approvals were not checked; --approver-key FILE checks whose they are"


@dataclass(frozen=True)
class Evidence:
    """What the verdicts of one run are decided again from.

    policies, experts, given: by digest; `experts` are the run's own, `given` the reader's. approvals: signed files.
    approvers: keys that approvals may be by; empty leaves their signatures unchecked.
    """

    policies: Mapping[str, Policy]
    experts: Mapping[str, AuditRecord]
    given: Mapping[str, AuditRecord]
    approvals: tuple[Path, ...] = ()
    approvers: Sequence[PublicKey] = ()

    @staticmethod
    def of(
        run_folder: Path,
        policies: Mapping[str, Policy],
        experts: Iterable[AuditRecord],
        given: Iterable[AuditRecord],
        approvers: Sequence[PublicKey],
    ) -> "Evidence":
        """That of the run in `run_folder`."""
        signed = tuple(sorted((run_folder / APPROVALS).glob("*")))
        return Evidence(policies, _by_digest(experts), _by_digest(given), signed, approvers)


@dataclass
class CheckedVerdict:
    """What was seen of one verdict. absent: what it names and nobody gave; it was then not decided again."""

    findings: list[Finding] = field(default_factory=list)
    absent: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _by_digest(audits: Iterable[AuditRecord]) -> dict[str, AuditRecord]:
    return {record_digest(one): one for one in audits}


def check_verdict(
    name: str, place: str, verdict: Verdict, audits: tuple[AuditRecord, AuditRecord | None], evidence: Evidence
) -> CheckedVerdict:
    """What is wrong with the verdict in file `name`: decided on other audits, or not what its policy says.

    audits: the candidate's, which lies at `place`, and the anchor's.
    """
    out, (audit, anchor) = CheckedVerdict(), audits
    if verdict.subject != audit.checkpoint:
        text = f"speaks of {verdict.subject[:12]}, the audit is of {audit.checkpoint[:12]}"
        out.findings.append(Finding(name, text))
    for role, one, where in (("candidate", audit, place), ("anchor", anchor, "the anchor's audit")):
        stated = verdict.audits.get(role)
        if stated is not None and (one is None or record_digest(one) != stated):
            out.findings.append(
                Finding(name, f"was decided on another audit of the {role} than {where} in this folder")
            )
    _check_approvals(out, name, verdict, evidence)
    policy = evidence.policies.get(verdict.policy)
    if policy is None:
        text = f"its policy {verdict.policy_name} ({verdict.policy[:12]}) is not in this folder"
        out.findings.append(Finding(name, text))
        return out
    found = _named(out, name, verdict, evidence)
    if found is not None:
        _decide_again(out, name, verdict, (policy, audit, anchor), found)
    if verdict.lineage is not None and verdict.lineage.merges:
        out.notes.append(f"{name}: {LEDGERS_WORD}")
    return out


def _named(out: CheckedVerdict, name: str, verdict: Verdict, evidence: Evidence) -> dict[str, AuditRecord] | None:
    """The experts' and the root's audits that the verdict names, by role; None when one is not at hand."""
    found = {}
    known = {**evidence.given, **evidence.experts}
    wanted = {role: digest for role, digest in verdict.audits.items() if role not in ("candidate", "anchor")}
    for role, digest in wanted.items():
        if digest in known:
            found[role] = known[digest]
        elif role.startswith("expert-") and evidence.experts:
            text = f"was decided on another audit of {role} than those of the experts in this folder"
            out.findings.append(Finding(name, text))
        else:
            text = f"rests on an audit of {role} ({digest[:12]}) that is not here; give it with --audit"
            out.absent.append(Finding(name, text))
    return found if len(found) == len(wanted) else None


def _decide_again(
    out: CheckedVerdict,
    name: str,
    verdict: Verdict,
    basis: tuple[Policy, AuditRecord, AuditRecord | None],
    named: Mapping[str, AuditRecord],
) -> None:
    experts = [named[role] for role in (f"expert-{n}" for n in range(1, len(named) + 1)) if role in named]
    try:
        again = decide(
            *basis,
            experts,
            created=verdict.created,
            version=verdict.version,
            waivers=[use.waiver() for use in verdict.waivers],
            approvals=verdict.approvals,
            lineage=verdict.lineage,
            root=named.get("root"),
        )
    except AlignMergeError as error:
        out.findings.append(Finding(name, f"cannot be decided again: {error}"))
        return
    if not verdict.notes:  # one of before there were any
        again = replace(again, notes=())
    if again != verdict:
        text = f"says {verdict.decision}; its audits and policy give {again.decision}"
        out.findings.append(Finding(name, f"{text}{_first_other(verdict, again)}"))


def _first_other(verdict: Verdict, again: Verdict) -> str:
    """The first rule that two verdicts of the same decision tell differently, as the end of a sentence."""
    if verdict.decision != again.decision:
        return ""
    known = {rule.rule: rule for rule in again.rules}
    other = next((rule.rule for rule in verdict.rules if known.get(rule.rule) != rule), None)
    return f", with another row for rule {other}" if other is not None else ", with something else beside its rules"


def _check_approvals(out: CheckedVerdict, name: str, verdict: Verdict, evidence: Evidence) -> None:
    """Every approval that the verdict rests on against the signed files, where the reader says whose keys count."""
    if not verdict.approvals:
        return
    if not evidence.approvers:
        out.notes.append(f"{name}: {UNCHECKED_APPROVALS}")
        return
    held, refused = [], {}
    for path in evidence.approvals:
        try:
            held.append(verify_approval(path, evidence.approvers))
        except InputRejected as error:
            refused[path] = str(error)
    for one in verdict.approvals:
        if one in held:
            continue
        who = f"{one.rule} by {one.approver}"
        problem = next((text for path, text in refused.items() if _says(path, one)), None)
        if problem is not None:
            out.findings.append(Finding(name, f"rests on the approval of {who}, which does not hold: {problem}"))
        else:
            text = f"rests on the approval of {who}, whose signed file is not in {APPROVALS}/ or beside the verdict"
            out.absent.append(Finding(name, text))


def _says(path: Path, approval: Approval) -> bool:
    """Whether the file at `path` speaks of the same thing as the approval, whoever signed it."""
    try:
        said = read_unverified(path)
    except InputRejected:
        return False
    return (said.subject, said.rule, said.created) == (approval.subject, approval.rule, approval.created)
