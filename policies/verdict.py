"""The verdict: what a policy says of one checkpoint, rule by rule, as an in-toto Statement.

Source: in-toto Attestation Framework, Statement v1; SLSA Verification Summary v1 for the predicate's field names.
"""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from typing import Any, Literal

from alignmerge import jsonio
from alignmerge.errors import RecordError
from alignmerge.policies.signoff import Approval
from alignmerge.policies.standing import moment
from alignmerge.policies.waivers import WaiverUse

Decision = Literal["PASS", "WARN", "FAIL", "INCONCLUSIVE", "Pending"]
RuleDecision = Literal["pass", "warn", "fail", "inconclusive", "pending"]
EXIT_CODES: Mapping[Decision, int] = {"PASS": 0, "WARN": 0, "FAIL": 3, "INCONCLUSIVE": 4, "Pending": 4}

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/verification_summary/v1"
VERDICT_FIELD = "https://alignmerge.dev/verdict/v1"


@dataclass(frozen=True)
class RuleResult:
    """One rule, decided.

    value: the point estimate the rule looks at (a drop, a rise or an absolute rate, in `unit`); None if not measured.
    bound: the one-sided confidence bound the decision used. limit: inclusive. n: paired items the numbers rest on.
    candidate, anchor: the two absolute values, where measured. needs: items that would decide, for inconclusive rules.
    against: whom `anchor` is of, where that is not the merge's own anchor. category: of the items, None for all.
    waived: the rule failed, and a waiver makes that a warning. suite: that the rule is of alone, None for all.
    estimate: the rule looks at the estimate itself, so `bound` bounds nothing.
    """

    rule: str
    metric: str
    severity: Literal["block", "warn"]
    decision: RuleDecision
    reason: str
    unit: str
    value: float | None
    bound: float | None
    limit: float
    n: int
    candidate: float | None = None
    anchor: float | None = None
    needs: int | None = None
    against: Literal["best_expert", "root"] | None = None
    category: str | None = None
    waived: bool = False
    suite: str | None = None
    estimate: bool = False


@dataclass(frozen=True)
class Spent:
    """What merges before this one lost of a metric: harm as estimated, and the sum of its upper bounds."""

    harm: float
    upper: float


@dataclass(frozen=True)
class Lineage:
    """Where the anchor comes from. root: manifest digest of the first anchor. merges: how many led from it to the
    anchor. spent: by metric, what those merges lost.
    """

    root: str
    merges: int
    spent: Mapping[str, Spent] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What `policy` says of `subject` (a manifest digest), with everything it looked at named by digest.

    waivers, approvals, lineage: what was handed in beside the audits, in full, so that deciding again needs no more.
    notes: what decides nothing and a reader must know.
    """

    subject: str
    subject_name: str
    decision: Decision
    rules: tuple[RuleResult, ...]
    policy: str
    policy_name: str
    audits: Mapping[str, str]
    created: str
    version: str
    waivers: tuple[WaiverUse, ...] = ()
    approvals: tuple[Approval, ...] = ()
    lineage: Lineage | None = None
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.decision]


def to_statement(verdict: Verdict) -> dict[str, Any]:
    """The verdict as an in-toto Statement (unsigned)."""
    passed = verdict.decision in ("PASS", "WARN")
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": verdict.subject_name, "digest": {"sha256": verdict.subject}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "verifier": {"id": "https://alignmerge.dev", "version": {"alignmerge": verdict.version}},
            "timeVerified": verdict.created,
            "resourceUri": _named_information(verdict.subject),
            "policy": {
                "uri": f"https://alignmerge.dev/policy/{verdict.policy_name}",
                "digest": {"sha256": verdict.policy},
            },
            "inputAttestations": [
                {"name": role, "uri": _named_information(value), "digest": {"sha256": value}}
                for role, value in sorted(verdict.audits.items())
            ],
            "verificationResult": "PASSED" if passed else "FAILED",
            # No SLSA level is claimed: how the weights were built is not what was verified.
            "verifiedLevels": ["SLSA_BUILD_LEVEL_UNEVALUATED" if passed else "FAILED"],
            VERDICT_FIELD: _written(verdict),
        },
    }


# Fields that came after the first verdicts were signed; at their defaults they are not written.
_LATER = {
    RuleResult: ("against", "category", "waived", "suite", "estimate"),
    Verdict: ("waivers", "approvals", "lineage", "notes"),
}


def _written(part: Verdict) -> dict[str, Any]:
    lists: dict[str, list[Any]] = {"rules": [_sparse(rule) for rule in part.rules]}
    if part.notes:
        lists["notes"] = list(part.notes)
    for name in ("waivers", "approvals"):
        if getattr(part, name):
            lists[name] = [asdict(one) for one in getattr(part, name)]
    return _sparse(part) | lists


def _sparse(part: Verdict | RuleResult) -> dict[str, Any]:
    defaults = {one.name: one.default for one in fields(part)}
    later = {name for name in _LATER[type(part)] if getattr(part, name) == defaults[name]}
    return {name: value for name, value in asdict(part).items() if name not in later}


def _named_information(sha256: str) -> str:
    """The URI of what has this SHA-256 (hex), wherever it lies (RFC 6920)."""
    return "ni:///sha-256;" + base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip("=")


def from_statement(value: Any, where: str = "verdict") -> Verdict:
    """The verdict inside an in-toto Statement; the inverse of `to_statement`.

    Raises:
        RecordError: another statement or predicate type, a malformed verdict, or a statement whose outer fields
            (subject, policy, result, attestations) say something else than the verdict inside. `where` is named.
    """
    from pydantic import TypeAdapter, ValidationError

    if not isinstance(value, dict) or value.get("_type") != STATEMENT_TYPE:
        raise RecordError(f"{where}: key '_type' is not {STATEMENT_TYPE!r}; this is not an in-toto Statement")
    if value.get("predicateType") != PREDICATE_TYPE:
        raise RecordError(f"{where}: key 'predicateType' is not {PREDICATE_TYPE!r}; this is not a verdict")
    predicate = value.get("predicate")
    if not isinstance(predicate, dict) or VERDICT_FIELD not in predicate:
        raise RecordError(f"{where}: predicate has no {VERDICT_FIELD!r}; it was not written by alignmerge")
    try:
        verdict = TypeAdapter(Verdict).validate_json(jsonio.canonical(predicate[VERDICT_FIELD]), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{where}: malformed verdict: {place}: {first['msg']}") from None
    if problem := _unusable(verdict):
        raise RecordError(f"{where}: malformed verdict: {problem}")
    try:
        written = to_statement(verdict)
    except ValueError:
        raise RecordError(f"{where}: malformed verdict: a digest is not a SHA-256 in hex") from None
    if jsonio.loads(jsonio.canonical(written)) != value:
        raise RecordError(f"{where}: the statement and the verdict inside it disagree; decide again")
    return verdict


def _unusable(verdict: Verdict) -> str:
    """Why nothing can be decided again from the verdict; empty when it could be."""
    if "candidate" not in verdict.audits:
        return "it names no audit of the candidate"
    if moment(verdict.created) is None:
        return f"created: {verdict.created!r} is no time"
    for use in verdict.waivers:
        try:
            waiver = use.waiver()
            days = date.fromisoformat(waiver.created), date.fromisoformat(waiver.expires)
        except ValueError:  # what pydantic raises is one as well
            return f"its waiver of {use.rule!r} could stand in no file of waivers"
        if days[1] < days[0]:
            return f"its waiver of {use.rule!r} expires before it was created"
    return ""
