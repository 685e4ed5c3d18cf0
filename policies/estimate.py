"""What audits of any split say of a policy's limits, for choosing among candidates. It decides nothing: see decide.py.

A choice is made on point estimates: the few items of a validation split leave no bound inside a strict limit, and what
is chosen is decided with bounds on test items afterwards.
"""

import math
from dataclasses import dataclass

from alignmerge.auditor.record import AuditRecord
from alignmerge.policies.decide import demotion, limit_of
from alignmerge.policies.evidence import check_comparable, cleaned
from alignmerge.policies.measure import Missing, Seen, measure, result_of
from alignmerge.policies.model import Policy, Rule, rule_alpha


@dataclass(frozen=True)
class Estimate:
    """One rule's harm as measured, more being worse; `limit` and `upper` (the policy's bound) are of that harm.

    blocks: whether the rule would. missing: why there is nothing to say, else empty, and `seen` and `limit` are there.
    upper: None where it is not finite.
    """

    rule: Rule
    blocks: bool
    seen: Seen | None
    limit: float | None
    upper: float | None
    missing: str = ""


def estimates(policy: Policy, candidate: AuditRecord, anchor: AuditRecord) -> tuple[Estimate, ...]:
    """One estimate for each rule of the policy, in its order. `min_items` plays no part.

    Raises:
        RecordError: the records asked different things or contradict themselves.
    """
    candidate, anchor = cleaned(candidate), cleaned(anchor)
    check_comparable(candidate, anchor)
    return tuple(_estimate(policy, rule, candidate, anchor) for rule in policy.rules)


def unmeasured(policy: Policy, anchor: AuditRecord) -> dict[str, str]:
    """Why a rule cannot be measured on items like those of the anchor's audit, by rule id."""
    out, anchor = {}, cleaned(anchor)
    for rule in policy.rules:
        try:
            _check_against(rule)
            limit_of(rule, anchor)
            found = result_of(rule, anchor, "anchor")
            if problem := _unscored(policy, found.scored, found.unscored):
                out[rule.id] = problem
        except Missing as problem_found:
            out[rule.id] = str(problem_found)
    return out


def blocks(rule: Rule, anchor: AuditRecord) -> bool:
    """Whether a rule blocks, given the validity of its metric on the anchor."""
    return rule.severity == "block" and not demotion(rule, anchor)


def _check_against(rule: Rule) -> None:
    if rule.against != "anchor":
        raise Missing(
            f"{rule.id} compares with the {rule.against.replace('_', ' ')}, which an estimate does not look at"
        )


def _unscored(policy: Policy, scored: int, unscored: int) -> str:
    total = scored + unscored
    if unscored <= policy.max_unscored_share * total:
        return ""
    return f"{unscored} of {total} items could not be scored, more than the policy allows"


def _estimate(policy: Policy, rule: Rule, candidate: AuditRecord, anchor: AuditRecord) -> Estimate:
    binding = blocks(rule, anchor)
    try:
        _check_against(rule)
        limit = limit_of(rule, anchor)
        sample = measure(rule, candidate, anchor)
        upper = sample.upper(rule_alpha(policy, rule))
    except Missing as problem:
        return Estimate(rule, binding, None, None, None, str(problem))
    except (ArithmeticError, ValueError) as problem:
        return Estimate(rule, binding, None, None, None, f"the numbers of {rule.metric} cannot be used: {problem}")
    if missing := _unscored(policy, sample.seen.n, sample.seen.unscored):
        return Estimate(rule, binding, None, None, None, missing)
    return Estimate(rule, binding, sample.seen, limit, upper if math.isfinite(upper) else None)
