"""One verdict that `gate -o` wrote, under check: whose it is, and whether its records and policy still give it."""

from collections.abc import Sequence
from pathlib import Path

from alignmerge import jsonio
from alignmerge.auditor.record import AuditRecord, record_digest
from alignmerge.errors import InputRejected
from alignmerge.pipeline.verifying import Verified
from alignmerge.pipeline.verifying_model import Finding
from alignmerge.pipeline.verifying_verdict import CheckedVerdict, Evidence, check_verdict
from alignmerge.policies.schema import Policy, policy_digest
from alignmerge.policies.verdict import Verdict, from_statement
from alignmerge.provenance.keys import PublicKey
from alignmerge.provenance.statement import ENDING, read_bytes, read_signed

NOBODY = "nobody's signature was checked; --key FILE says whose it must be"
NOT_AGAIN = "was not decided again; give its policy (--policy) and the audits that it names (--audit)"


def verify_file(
    path: Path,
    key: PublicKey | None = None,
    *,
    policy: Policy | None = None,
    audits: Sequence[AuditRecord] = (),
    approvers: Sequence[PublicKey] = (),
) -> Verified:
    """What holds and what does not of the verdict at `path`.

    key: that the envelope beside it must be signed by. policy, audits: what it is decided again from, where any are
    given; one that it names and that is not given is absent.

    Raises:
        StorageError: it cannot be read.
    """
    name = str(path)
    try:
        verdict = from_statement(jsonio.read(path))
    except InputRejected as error:
        return Verified((name,), {}, (Finding(name, str(error)),))
    found = CheckedVerdict()
    if key is None:
        found.notes.append(f"{name}: {NOBODY}")
    elif (problem := _unsigned(path, key)) is not None:
        found.findings.append(problem)
    if policy is None and not audits:
        found.notes.append(f"{name}: {NOT_AGAIN}")
    else:
        _again(found, name, verdict, policy, {record_digest(one): one for one in audits}, approvers)
    return Verified(
        checked=(name,),
        verdicts={verdict.subject_name: verdict.decision},
        findings=tuple(found.findings),
        notes=tuple(found.notes),
        signer=key.keyid if key is not None and not found.findings else None,
        absent=tuple(found.absent),
    )


def _unsigned(path: Path, key: PublicKey) -> Finding | None:
    """What is wrong with the envelope beside a verdict; None when `key` signed these very bytes."""
    beside = path.with_suffix(ENDING)
    if not beside.is_file():
        return Finding(str(beside), "missing, so the verdict is not signed")
    try:
        same = read_signed(beside, key) == read_bytes(path)
    except InputRejected as error:
        return Finding(str(beside), str(error))
    return None if same else Finding(str(path), f"is not the verdict that was signed in {beside.name}")


def _again(
    found: CheckedVerdict,
    name: str,
    verdict: Verdict,
    policy: Policy | None,
    given: dict[str, AuditRecord],
    approvers: Sequence[PublicKey],
) -> None:
    if policy is None:
        text = f"rests on policy {verdict.policy_name} ({verdict.policy[:12]}) that is not here; give it with --policy"
        found.absent.append(Finding(name, text))
    elif policy_digest(policy) != verdict.policy:
        text = f"was decided under {verdict.policy[:12]}, not under policy {policy.name} ({policy_digest(policy)[:12]})"
        found.findings.append(Finding(name, text))
    for role in ("candidate", "anchor"):
        if role in verdict.audits and verdict.audits[role] not in given:
            text = (
                f"rests on an audit of the {role} ({verdict.audits[role][:12]}) that is not here; give it with --audit"
            )
            found.absent.append(Finding(name, text))
    if found.absent or policy is None or policy_digest(policy) != verdict.policy:
        return
    basis = given[verdict.audits["candidate"]], given.get(verdict.audits.get("anchor", ""))
    signed = tuple(sorted(Path(name).parent.glob(f"*{ENDING}")))  # approvals lie beside verdicts
    evidence = Evidence({verdict.policy: policy}, {}, given, signed, approvers)
    more = check_verdict(name, name, verdict, basis, evidence)
    found.findings += more.findings
    found.absent += more.absent
    found.notes += more.notes
