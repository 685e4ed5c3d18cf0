"""The decision: audit records against a policy, rule by rule. Pure: no files, no clock, no chance.

- A rule passes only if the harm that was measured and its one-sided upper bound are finite and inside the limit
  (inclusive). PASS wants that of every rule, which is an intersection-union test and needs no correction.
- A blocking rule fails only if Holm's procedure over all blocking rules of the policy rejects "the harm is inside the
  limit"; the family is what the policy names, not what happened to be measured.
- Everything between, and everything missing, is inconclusive.
- A rule that does not block can only turn PASS into WARN; so can a failed rule that a waiver covers.
- Only the test split decides, and only while it is young enough: else nothing counts as measured.
- `created` is the time that ages, waivers and approvals are held against.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from alignmerge.auditor.record import AuditRecord, record_digest
from alignmerge.auditor.statistics import holm
from alignmerge.errors import AlignMergeError
from alignmerge.policies import reasons
from alignmerge.policies.demands import demanded
from alignmerge.policies.engines import engine_notes, reading_notes
from alignmerge.policies.evidence import SAME_CHECKPOINT, check_comparable, check_set, cleaned, other_split
from alignmerge.policies.excuses import waive
from alignmerge.policies.lineage import added
from alignmerge.policies.measure import Missing, Sample, measure, only_result
from alignmerge.policies.model import PAIRED, Policy, Rule, policy_digest, rule_alpha
from alignmerge.policies.references import References, needs_lineage
from alignmerge.policies.signoff import Approval
from alignmerge.policies.standing import refused, stale
from alignmerge.policies.verdict import Decision, Lineage, RuleDecision, RuleResult, Verdict
from alignmerge.policies.waivers import Waiver


@dataclass(frozen=True)
class _Case:
    """A rule with its evidence. `missing` is the reason when it cannot be decided; `sample` may be there all the same.

    limit: of the harm, in the metric's unit; None when it depends on a number that was not measured.
    alpha: of the bounds. upper: the bound that passing rests on. p: of "the harm is inside the limit"; 1 where nothing
    can be said. note: what a reader of the reason must know besides.
    """

    rule: Rule
    alpha: float
    blocks: bool
    demoted: str
    sample: Sample | None
    limit: float | None
    missing: str
    needs: int | None = None
    upper: float = math.nan
    p: float = 1.0
    note: str = ""


def decide(
    policy: Policy,
    candidate: AuditRecord,
    anchor: AuditRecord | None,
    experts: Sequence[AuditRecord] = (),
    *,
    created: str,
    version: str,
    waivers: Sequence[Waiver] = (),
    approvals: Sequence[Approval] = (),
    lineage: Lineage | None = None,
    root: AuditRecord | None = None,
) -> Verdict:
    """What `policy` says of the candidate. The experts' audits are named in the verdict; only rules that compare with
    the best expert read them. `root`: an audit of the anchor that the lineage began with.

    Raises:
        RecordError: the records asked different things or contradict themselves, so no comparison has a meaning.
    """
    candidate = cleaned(candidate)
    anchor = None if anchor is None else cleaned(anchor)
    if anchor is not None:
        check_comparable(candidate, anchor)
    references = References(
        candidate, anchor, [cleaned(one) for one in experts], None if root is None else cleaned(root), lineage
    )
    cases = [_case(policy, rule, references, created) for rule in policy.rules]
    family = {case.rule.id: case.p for case in cases if case.blocks}
    failing = holm(family, policy.alpha)
    levels = _levels(family, policy.alpha)
    measured = [_decided(policy, case, case.rule.id in failing, levels) for case in cases]
    waived = waive(policy, measured, waivers, candidate.checkpoint, created)
    demands = [demanded(policy, one, candidate, approvals, created) for one in policy.required_evidence]
    rules = [*waived.rules, *demands]
    return Verdict(
        subject=candidate.checkpoint,
        subject_name=candidate.name,
        decision=overall(rules),
        rules=tuple(rules),
        policy=policy_digest(policy),
        policy_name=policy.name,
        audits={role: record_digest(record) for role, record in references.roles().items()},
        created=created,
        version=version,
        waivers=waived.uses,
        approvals=tuple(approvals),
        lineage=lineage if needs_lineage(policy) else None,
        notes=(*engine_notes(references.roles()), *reading_notes(references.roles())),
    )


def overall(rules: Sequence[RuleResult]) -> Decision:
    """The decision of a whole verdict: the worst blocking rule's, and WARN when only other rules did not pass.

    A verdict in which nothing at all was measured is inconclusive, even where no rule blocks. One that only waits for a
    sign-off is Pending. A blocking rule that warns is one that a waiver covers.
    """
    blocking = {rule.decision for rule in rules if rule.severity == "block"}
    if "fail" in blocking:
        return "FAIL"
    if not blocking <= {"pass", "warn", "pending"} or all(rule.value is None for rule in rules):
        return "INCONCLUSIVE"
    if "pending" in blocking:
        return "Pending"
    return "PASS" if all(rule.decision == "pass" for rule in rules) else "WARN"


def inside(bound: float, limit: float) -> bool:
    """Whether a bound is a finite number no larger than `limit`."""
    return math.isfinite(bound) and bound <= limit


def _case(policy: Policy, rule: Rule, references: References, now: str) -> _Case:
    candidate, anchor = references.candidate, references.anchor
    demoted, alpha = demotion(rule, anchor), rule_alpha(policy, rule)
    blocks = rule.severity == "block" and not demoted
    try:
        limit, sample, note = _measured(policy, rule, references, now)
        upper, p = sample.upper(alpha), sample.p_value(limit)
    except Missing as problem:
        return _Case(rule, alpha, blocks, demoted, None, None, str(problem))
    except AlignMergeError:
        raise
    except Exception as problem:  # whatever is wrong with one rule's numbers, the others are still decided
        text = f"the numbers of {rule.metric} cannot be used: {str(problem) or type(problem).__name__}"
        return _Case(rule, alpha, blocks, demoted, None, None, text)
    total = sample.seen.n + sample.seen.unscored
    missing, needs = "", None
    if sample.seen.unscored > policy.max_unscored_share * total:
        share = sample.seen.unscored / total
        missing = (
            f"{sample.seen.unscored} of {total} items could not be scored ({share:.1%}), more than the policy allows"
        )
    elif sample.seen.n < rule.min_items:
        missing, needs = f"only {sample.seen.n} items; the policy wants at least {rule.min_items}", rule.min_items
    usable = not missing and math.isfinite(p)
    if sample.seen.anchor is not None and anchor is not None and anchor.checkpoint == candidate.checkpoint:
        note = f"{note}; {SAME_CHECKPOINT}" if note else SAME_CHECKPOINT
    return _Case(rule, alpha, blocks, demoted, sample, limit, missing, needs, upper, p if usable else 1.0, note)


def _measured(policy: Policy, rule: Rule, references: References, now: str) -> tuple[float, Sample, str]:
    """The rule's limit, its evidence, and a note on whom it was compared with.

    Raises:
        Missing: there is none that may be used.
    """
    candidate = references.candidate
    if problem := other_split(candidate, references.anchor):
        raise Missing(problem)
    reference = references.of(rule)
    used = {"candidate": candidate}
    if rule.kind in PAIRED and reference.record is not None:
        used[reference.role] = reference.record
        if problem := other_split(candidate, reference.record, reference.role):
            raise Missing(problem)
    if problem := stale(policy, used, now):
        raise Missing(problem)
    for role, record in used.items():
        if problem := refused(policy, rule, role, record, references.anchor):
            raise Missing(problem)
    limit = limit_of(rule, references.anchor)
    sample, note = measure(rule, candidate, reference.record, reference.role), reference.note
    other = reference.record  # of the anchor, the caller says so
    if other is not None and other is not references.anchor and other.checkpoint == candidate.checkpoint:
        note = f"{note}; candidate and {reference.role} are the same checkpoint"
    return limit, sample if reference.spent is None else added(rule, sample, reference.spent), note


def demotion(rule: Rule, anchor: AuditRecord | None) -> str:
    """Why a rule does not block although it says so; empty when it does.

    Only a value can be invalid: a rule whose metric was not measured on the anchor blocks, with its evidence missing.
    """
    if not rule.only_if_valid or anchor is None:
        return ""
    result = only_result(rule, anchor)
    if result is None or result.value is None or result.valid is True:
        return ""
    how = "did not run" if result.valid is None else "did not pass"
    return result.valid_reason or f"its validity gate {how} on the anchor"


def limit_of(rule: Rule, anchor: AuditRecord | None) -> float:
    """The limit of the harm in the metric's unit; `min` is turned round, because less is its harm.

    Raises:
        Missing: it is stated in standard errors that were not measured.
        RecordError: the standard error is not that of its replicates.
    """
    if rule.limit_in == "metric_units":
        return -rule.limit if rule.kind == "min" else rule.limit
    result = None if anchor is None else only_result(rule, anchor)
    if anchor is not None and result is not None:
        check_set(anchor, result)
    error = None if result is None else result.standard_error
    if error is None or not (math.isfinite(error) and error >= 0):
        raise Missing(f"{rule.metric} has no standard error on the anchor to measure the limit in")
    return rule.limit * error


def _levels(family: Mapping[str, float], alpha: float) -> dict[str, float]:
    """Holm's level for each rule of the family, smallest p-value first."""
    ordered = sorted(family, key=lambda name: (family[name], name))
    return {name: alpha / (len(ordered) - rank) for rank, name in enumerate(ordered)}


def _decided(policy: Policy, case: _Case, failing: bool, levels: Mapping[str, float]) -> RuleResult:
    rule, sample = case.rule, case.sample
    if sample is None or case.limit is None:
        return _result(case, "inconclusive", case.missing, None, None)
    fail_alpha = levels[rule.id] if case.blocks else case.alpha
    upper, lower = case.upper, sample.lower(fail_alpha)
    if case.missing:
        reason = f"{reasons.observed(rule, sample.seen, _shown(sample, case.limit))}; {case.missing}"
        return _result(case, "inconclusive", reason, upper, case.needs)
    held = inside(upper, case.limit)
    if held and inside(sample.seen.harm, case.limit):  # a record states a set's value beside its replicates
        return _result(case, "pass", _reason(case, sample, upper, case.alpha, True), upper, None)
    if failing:
        return _result(case, "fail", _reason(case, sample, lower, fail_alpha, False), lower, None)
    if not case.blocks and case.p <= case.alpha:
        return _result(case, "warn", _reason(case, sample, lower, fail_alpha, False), lower, None)
    needs = None if held else sample.needs(case.limit, case.alpha, policy.alpha / max(len(levels), 1))
    why = "what was measured is over the limit, wherever its bound is" if held else _wanted(needs)
    reason = f"{_reason(case, sample, upper, case.alpha, True)}; {why}"
    return _result(case, "inconclusive", reason, upper, needs)


def _wanted(needs: int | None) -> str:
    if needs is None:
        return "too close to the limit for any number of items to decide"
    return f"about {needs} items would decide if the rates stay as they are"


def _shown(sample: Sample, number: float) -> float:
    """A bound or limit of the harm as a reader knows it: `min` rules speak of the value, not of its negative."""
    return sample.seen.sign * number


def _reason(case: _Case, sample: Sample, bound: float, alpha: float, upper: bool) -> str:
    assert case.limit is not None
    limit = _shown(sample, case.limit)
    text = reasons.bounded(case.rule, _shown(sample, bound), limit, alpha, upper)
    return reasons.sentence(case.rule, sample.seen, text, limit)


def _result(case: _Case, decision: RuleDecision, reason: str, bound: float | None, needs: int | None) -> RuleResult:
    severity: Literal["block", "warn"] = "block" if case.blocks else "warn"
    if case.demoted:
        reason = f"does not block: {case.demoted}; {reason}"
    if case.note:
        reason = f"{reason}; {case.note}"
    rule, sample = case.rule, case.sample
    if sample is None or case.limit is None:
        unit = "anchor standard errors" if rule.limit_in == "anchor_standard_errors" else "unknown"
        return RuleResult(
            rule.id, rule.metric, severity, decision, reason, unit, None, None, rule.limit, 0, **_where(rule)
        )
    seen = sample.seen
    return RuleResult(
        rule=rule.id,
        metric=rule.metric,
        severity=severity,
        decision=decision,
        reason=reason,
        unit=seen.unit,
        value=_shown(sample, seen.harm),
        bound=None if bound is None or not math.isfinite(bound) else _shown(sample, bound),
        limit=_shown(sample, case.limit),
        n=seen.n,
        candidate=seen.candidate,
        anchor=seen.anchor,
        needs=needs,
        **_where(rule),
    )


def _where(rule: Rule) -> dict[str, Any]:
    against = None if rule.against == "anchor" else rule.against
    return {"against": against, "category": rule.category, "suite": rule.suite, "estimate": rule.bound == "estimate"}
