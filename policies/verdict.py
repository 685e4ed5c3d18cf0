"""The verdict: what a policy says of one checkpoint, rule by rule, as an in-toto Statement.

Source: in-toto Attestation Framework, Statement v1; SLSA Verification Summary v1 for the predicate's field names.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Decision = Literal["PASS", "WARN", "FAIL", "INCONCLUSIVE"]
RuleDecision = Literal["pass", "warn", "fail", "inconclusive"]
EXIT_CODES: Mapping[Decision, int] = {"PASS": 0, "WARN": 0, "FAIL": 3, "INCONCLUSIVE": 4}

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/verification_summary/v1"
VERDICT_FIELD = "https://alignmerge.dev/verdict/v1"


@dataclass(frozen=True)
class RuleResult:
    """One rule, decided.

    value: the point estimate the rule looks at (a drop, a rise or an absolute rate, in `unit`); None if not measured.
    bound: the one-sided confidence bound the decision used. limit: inclusive. n: paired items the numbers rest on.
    candidate, anchor: the two absolute values, where measured. needs: items that would decide, for inconclusive rules.
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


@dataclass(frozen=True)
class Verdict:
    """What `policy` says of `subject` (a manifest digest), with everything it looked at named by digest."""

    subject: str
    subject_name: str
    decision: Decision
    rules: tuple[RuleResult, ...]
    policy: str
    policy_name: str
    audits: Mapping[str, str]
    created: str
    version: str

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
            "policy": {"uri": verdict.policy_name, "digest": {"sha256": verdict.policy}},
            "inputAttestations": [
                {"uri": role, "digest": {"sha256": value}} for role, value in sorted(verdict.audits.items())
            ],
            "verificationResult": "PASSED" if passed else "FAILED",
            VERDICT_FIELD: asdict(verdict),
        },
    }
