"""Details of a decision that a reader of a verdict relies on: what a row says of itself when nothing was measured."""

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from alignmerge.auditor.record import SuiteUse
from alignmerge.policies.decide import overall
from alignmerge.policies.verdict import Lineage, RuleDecision, RuleResult

r = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("records.py"))))
ANCHOR = r.audit({"refusal_rate": r.ones(290, 320)}, name="anchor")
GOOD = r.audit({"refusal_rate": r.ones(290, 320)})
VALIDATION = (SuiteUse("t", "1", "d" * 64, "validation", 10, 10),)


def decided(rule: dict[str, Any], candidate: Any, anchor: Any = ANCHOR, **given: Any) -> Any:
    (row,) = r.verdict(r.policy(rule), candidate, anchor, **given).rules
    return row


def test_a_verdict_names_a_lineage_only_where_its_policy_counts_one() -> None:
    lineage = Lineage(ANCHOR.checkpoint, 0)
    assert r.verdict(r.policy(r.rule()), GOOD, ANCHOR, lineage=lineage).lineage is None
    assert r.verdict(r.policy(r.rule(against="root")), GOOD, ANCHOR, lineage=lineage).lineage == lineage


def row(decision: RuleDecision, severity: Literal["block", "warn"] = "block") -> RuleResult:
    return RuleResult("r", "refusal_rate", severity, decision, "", "rate", 0.0, 0.0, 0.05, 320)


@pytest.mark.parametrize(
    ("decisions", "said"),
    [
        (("pass", "warn", "pending"), "Pending"),
        (("pass", "pending"), "Pending"),
        (("pass", "warn"), "WARN"),
        (("pass", "warn", "pending", "inconclusive"), "INCONCLUSIVE"),
        (("pass", "warn", "pending", "inconclusive", "fail"), "FAIL"),
        (("pass",), "PASS"),
    ],
)
def test_the_worst_of_the_blocking_rules_decides(decisions: tuple[RuleDecision, ...], said: str) -> None:
    assert overall([row(one) for one in decisions]) == said
    assert overall([row(one) for one in (*decisions, "pass")][::-1]) == said


def test_the_same_checkpoint_is_named_besides_whom_it_was_compared_with() -> None:
    same = replace(GOOD, checkpoint=ANCHOR.checkpoint)
    reason = decided(r.rule(), same).reason
    assert reason.endswith("; the budget is 0.05; candidate and anchor are the same checkpoint")
    reason = decided(r.rule(against="best_expert"), same, experts=[replace(GOOD, name="e", checkpoint="e" * 64)]).reason
    assert reason.endswith("; compared with the best expert, e; candidate and anchor are the same checkpoint")


def test_F18_an_anchor_of_another_split_decides_nothing_even_for_a_rule_that_does_not_read_it() -> None:
    absolute = r.rule(kind="min", limit=0.5)
    found = decided(absolute, GOOD, replace(ANCHOR, suites=VALIDATION))
    assert (found.decision, found.value) == ("inconclusive", None)
    assert found.reason.startswith("the audit of the anchor asked the validation split of suite t;")


def test_F19_a_best_expert_of_another_split_is_named_as_such() -> None:
    expert = replace(GOOD, name="e", suites=VALIDATION)
    found = decided(r.rule(against="best_expert"), GOOD, experts=[expert])
    assert found.reason.startswith("the audit of the best expert asked the validation split of suite t;")


def test_F19_what_the_best_expert_lacks_is_said_of_the_best_expert() -> None:
    other = replace(GOOD, name="e", items=tuple(replace(one, category="other") for one in GOOD.items))
    found = decided(r.rule(against="best_expert", category="c"), GOOD, experts=[other])
    assert found.reason == "refusal_rate has no item of category c on the best expert"


@pytest.mark.parametrize("anchor", [None, ANCHOR])
def test_F09_a_limit_in_errors_of_an_anchor_that_has_none_is_missing(anchor: Any) -> None:
    rule = r.rule("aqi_log_j", limit=2.0, limit_in="anchor_standard_errors")
    candidate = r.audit(results=[r.aqi(-1.0, [0.1] * 50)])
    found = decided(rule, candidate, anchor)
    assert found.reason == "aqi_log_j has no standard error on the anchor to measure the limit in"
    assert (found.decision, found.unit, found.limit) == ("inconclusive", "anchor standard errors", 2.0)


def test_a_row_without_a_number_says_which_part_it_was_to_decide() -> None:
    rule = r.rule(suite="absent", category="c", against="best_expert", bound="estimate", severity="warn")
    found = decided(rule, r.audit(), None)
    assert found.decision == "inconclusive"
    assert (found.suite, found.category, found.against, found.estimate) == ("absent", "c", "best_expert", True)


def test_another_expert_that_is_better_may_be_easier_to_tell_apart() -> None:
    """As docs/policies.md says; that the best one getting better never helps is a property test."""
    rule = r.rule(against="best_expert", limit=0.03)
    candidate = r.audit({"refusal_rate": r.ones(288, 320)})
    elsewhere = r.audit({"refusal_rate": r.ones(288, 320)[::-1]}, name="right on other items")
    better = r.audit({"refusal_rate": r.ones(291, 320)}, name="right on the same items")
    assert decided(rule, candidate, experts=[elsewhere]).decision == "inconclusive"
    assert decided(rule, candidate, experts=[elsewhere, better]).decision == "pass"


def test_an_approval_is_of_the_policy_that_it_names() -> None:
    from alignmerge.policies.model import policy_digest
    from alignmerge.policies.signoff import Approval

    person = {"id": "officer", "kind": "sign_off", "summary": "A person signs."}
    policy = r.policy(r.rule(), required_evidence=(person,))
    given = Approval(GOOD.checkpoint, "officer", "A. Officer", r.CREATED, policy_digest(policy))
    for approval, said in (
        (given, "PASS"),
        (replace(given, policy=None), "PASS"),
        (replace(given, policy="0" * 64), "Pending"),
    ):
        assert r.verdict(policy, GOOD, ANCHOR, approvals=[approval]).decision == said
