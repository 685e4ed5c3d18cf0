"""Waivers and sign-off: what they change in a verdict, and everything they do not."""

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignmerge import yamlio
from alignmerge.errors import PolicyError
from alignmerge.policies.explain import verdict_lines
from alignmerge.policies.signoff import Approval
from alignmerge.policies.verdict import from_statement, to_statement
from alignmerge.policies.waivers import Waiver, load_waivers, parse_waivers

r = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("records.py"))))
ANCHOR = r.audit({"refusal_rate": r.ones(290, 320)}, name="anchor")
BAD = r.audit({"refusal_rate": r.ones(190, 320)})
RULE = r.policy(r.rule())


def waiver(**changes: Any) -> Waiver:
    fields: dict[str, Any] = {
        "rule": "refusal-rate",
        "subject": BAD.checkpoint,
        "reason": "A demonstration.",
        "approver": "R. Meyer",
        "created": "2026-01-20",
        "expires": "2026-02-10",
    }
    return Waiver(**(fields | changes))


def test_a_waived_failure_is_a_warning_and_says_so() -> None:
    failed = r.verdict(RULE, BAD, ANCHOR)
    verdict = r.verdict(RULE, BAD, ANCHOR, waivers=[waiver()])
    assert (failed.decision, verdict.decision, verdict.exit_code) == ("FAIL", "WARN", 0)
    (row,) = verdict.rules
    reason = f"waived by R. Meyer (not verified) until 2026-02-10 (A demonstration); {failed.rules[0].reason}"
    assert row == replace(failed.rules[0], decision="warn", waived=True, reason=reason)
    assert [(use.applied, use.outcome) for use in verdict.waivers] == [(True, "applied: its failure is a warning")]
    assert [use.waiver() for use in verdict.waivers] == [waiver()]
    lines = verdict_lines(verdict)
    assert lines[-2:] == [
        "  1 rule: 1 warn, 1 waived",
        "  waiver of refusal-rate by R. Meyer until 2026-02-10: applied: its failure is a warning",
    ]
    assert from_statement(to_statement(verdict)) == verdict
    assert to_statement(verdict)["predicate"]["verificationResult"] == "PASSED"


@pytest.mark.parametrize(
    ("changes", "why", "in_reason"),
    [
        ({"expires": "2026-01-30"}, "it expired on 2026-01-30", True),
        ({"created": "2026-02-01"}, "it holds from 2026-02-01 on", True),
        ({"created": "2026-01-01", "expires": "2026-02-01"},
         "it is for 31 days, and the policy allows waivers of at most 30 days", True),
        ({"subject": "a" * 64}, "it is for aaaaaaaaaaaa, another checkpoint", False),
        ({"rule": "other"}, "the policy has no such rule", False),
    ],
)  # fmt: skip
def test_a_waiver_that_does_not_hold_changes_nothing(changes: dict[str, Any], why: str, in_reason: bool) -> None:
    verdict = r.verdict(RULE, BAD, ANCHOR, waivers=[waiver(**changes)])
    assert (verdict.decision, verdict.rules[0].decision) == ("FAIL", "fail")
    assert [(use.applied, use.outcome) for use in verdict.waivers] == [(False, why)]
    assert (f"the waiver of R. Meyer does not hold: {why}" in verdict.rules[0].reason) == in_reason
    assert verdict_lines(verdict)[-1].startswith("  warning: waiver of ")


@pytest.mark.parametrize("day", ["2026-01-31T23:59:59+00:00", "2026-02-01T01:00:00+02:00"])
def test_a_waiver_holds_to_the_end_of_its_last_day(day: str) -> None:
    from alignmerge.policies.decide import decide

    last = waiver(expires="2026-01-31")
    assert decide(RULE, BAD, ANCHOR, created=day, version="0", waivers=[last]).decision == "WARN"
    late = decide(RULE, BAD, ANCHOR, created="2026-02-01T00:00:00+00:00", version="0", waivers=[last])
    assert late.decision == "FAIL"
    assert (
        decide(RULE, BAD, ANCHOR, created="2026-01-20T00:00:00+00:00", version="0", waivers=[last]).decision == "WARN"
    )


def test_a_policy_may_take_no_waivers() -> None:
    verdict = r.verdict(r.policy(r.rule(), max_waiver_days=0), BAD, ANCHOR, waivers=[waiver()])
    assert verdict.decision == "FAIL"
    assert verdict.waivers[0].outcome == "it is for 21 days, and the policy allows no waivers"


def test_a_waiver_never_stands_in_for_evidence() -> None:
    gone = r.audit({"degeneration_rate": r.ones(0, 320)})
    undecided = r.audit({"refusal_rate": r.ones(278, 320)})
    for record in (gone, undecided):
        verdict = r.verdict(RULE, record, ANCHOR, waivers=[waiver(subject=record.checkpoint)])
        assert (verdict.decision, verdict.exit_code) == ("INCONCLUSIVE", 4)
        assert verdict.waivers[0].outcome == "the rule is not decided, and no waiver stands in for evidence"


def test_an_unused_waiver_is_a_warning() -> None:
    good = r.audit({"refusal_rate": r.ones(290, 320)})
    verdict = r.verdict(RULE, good, ANCHOR, waivers=[waiver(subject=good.checkpoint)])
    assert verdict.decision == "PASS"
    assert verdict_lines(verdict)[-1].endswith("unused: the rule did not fail")
    soft = r.verdict(r.policy(r.rule(severity="warn")), BAD, ANCHOR, waivers=[waiver()])
    assert (soft.decision, soft.waivers[0].applied) == ("WARN", False)


def test_a_waiver_of_one_rule_leaves_the_others_failing() -> None:
    names = ("refusal_rate", "arithmetic_accuracy")
    low, high = ({name: r.ones(count, 320) for name in names} for count in (190, 290))
    rules = r.policy(*(r.rule(name) for name in names))
    bad, anchor = r.audit(low), r.audit(high, name="anchor")
    verdict = r.verdict(rules, bad, anchor, waivers=[waiver()])
    assert [row.decision for row in verdict.rules] == ["warn", "fail"]
    assert verdict.decision == "FAIL"
    both = [waiver(), waiver(rule="arithmetic-accuracy")]
    assert r.verdict(rules, bad, anchor, waivers=both).decision == "WARN"
    assert r.verdict(rules, bad, anchor, waivers=both) == r.verdict(rules, bad, anchor, waivers=both[::-1])
    stale = waiver(expires="2026-01-30")
    assert r.verdict(rules, bad, anchor, waivers=[stale, *both]).decision == "WARN"


# the file

GOOD = f"""\
schema: alignmerge.waivers/1
waivers:
  - rule: refusal-rate
    subject: {"a" * 64}
    reason: Because.
    approver: R. Meyer
    created: 2026-01-20
    expires: 2026-02-10
"""


def parse(text: str) -> Any:
    return parse_waivers(yamlio.parse(text.encode(), Path("w.yaml"), PolicyError))


def test_a_waivers_file_is_read(tmp_path: Path) -> None:
    assert parse(GOOD) == (waiver(subject="a" * 64, reason="Because."),)
    (tmp_path / "w.yaml").write_text(GOOD)
    assert load_waivers(tmp_path / "w.yaml") == parse(GOOD)
    assert parse("schema: alignmerge.waivers/1\nwaivers: []\n") == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("reason:", "reson:", r"w\.yaml:5: unknown key 'waivers\.0\.reson'; did you mean 'reason'\?"),
        ("    reason: Because.\n", "", r"w\.yaml:3: waivers\.0\.reason: Field required"),
        ("2026-02-10", "2026-02-30", r"w\.yaml:8: 2026-02-30 is no day"),
        ("2026-02-10", "2026-01-01", r"w\.yaml:8: it expires before it was created"),
        ("2026-02-10", "never", r"w\.yaml:8: waivers\.0\.expires: "),
        ("    expires: 2026-02-10\n", "", r"waivers\.0\.expires: Field required"),
        ("a" * 64, "a" * 12, r"w\.yaml:4: waivers\.0\.subject: "),
        ("    approver: R. Meyer\n", "    approver: ''\n", r"w\.yaml:6: waivers\.0\.approver: "),
        ("waivers:\n", "waiver:\n", r"w\.yaml:2: unknown key 'waiver'; did you mean 'waivers'\?"),
        ("waivers/1", "waivers/2", r"w\.yaml:1: schema: "),
    ],
)
def test_a_malformed_waiver_is_refused_with_its_line(old: str, new: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        parse(GOOD.replace(old, new, 1))


def test_two_waivers_of_one_rule_are_refused() -> None:
    with pytest.raises(PolicyError, match=r"w\.yaml:9: a second waiver of 'refusal-rate' for aaaaaaaaaaaa; keep one"):
        parse(GOOD + GOOD[GOOD.index("  - rule") :])
    with pytest.raises(PolicyError, match="waivers are a mapping"):
        parse("- a\n")


# sign-off

SIGNED = ({"id": "sign-off", "kind": "sign_off", "summary": "A person signs.", "max_age_days": 10},)
GATED = r.policy(r.rule(), required_evidence=SIGNED)
FINE = r.audit({"refusal_rate": r.ones(290, 320)})


def approval(**changes: Any) -> Approval:
    fields: dict[str, Any] = {
        "subject": FINE.checkpoint, "rule": "sign-off", "approver": "Ada", "created": "2026-01-30T10:00:00+00:00",
    }  # fmt: skip
    return Approval(**(fields | changes))


def test_pending_until_a_signed_approval_arrives() -> None:
    waiting = r.verdict(GATED, FINE, ANCHOR)
    assert (waiting.decision, waiting.exit_code, waiting.rules[1].decision) == ("Pending", 4, "pending")
    assert to_statement(waiting)["predicate"]["verificationResult"] == "FAILED"
    assert verdict_lines(waiting)[1].endswith("no signed approval was given; it waits for `alignmerge approve`")
    done = r.verdict(GATED, FINE, ANCHOR, approvals=[approval()])
    assert (done.decision, done.rules[1].reason) == ("PASS", "A person signs; signed off by Ada on 2026-01-30")
    assert from_statement(to_statement(done)) == done
    assert done.approvals == (approval(),)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"subject": "b" * 64}, "is for bbbbbbbbbbbb, not 6d6572676500"),
        ({"policy": "c" * 64}, "is for another policy, or for this one before it was changed"),
        ({"created": "2026-01-20T10:00:00+00:00"}, "is 11 days old; the policy takes at most 10"),
        ({"created": "2026-03-20T10:00:00+00:00"}, "is dated 2026-03-20, in the future"),
    ],
)
def test_an_approval_of_something_else_does_not_count(changes: dict[str, Any], why: str) -> None:
    verdict = r.verdict(GATED, FINE, ANCHOR, approvals=[approval(**changes)])
    assert verdict.decision == "Pending"
    assert verdict.rules[1].reason == f"A person signs; the approval of Ada {why}"
    assert r.verdict(GATED, FINE, ANCHOR, approvals=[approval(**changes), approval()]).decision == "PASS"


def test_a_signature_outweighs_nothing() -> None:
    assert r.verdict(GATED, BAD, ANCHOR, approvals=[approval(subject=BAD.checkpoint)]).decision == "FAIL"
    assert r.verdict(GATED, r.audit(), ANCHOR, approvals=[approval()]).decision == "INCONCLUSIVE"
    assert r.verdict(GATED, FINE, ANCHOR, approvals=[approval(rule="other")]).decision == "Pending"
    soft = r.policy(r.rule(severity="warn"), required_evidence=SIGNED)
    assert r.verdict(soft, BAD, ANCHOR, approvals=[approval(subject=BAD.checkpoint)]).decision == "WARN"
    assert r.verdict(soft, BAD, ANCHOR).decision == "Pending"
    assert (
        r.verdict(r.policy(r.rule(), required_evidence=SIGNED), BAD, ANCHOR, waivers=[waiver()]).decision == "Pending"
    )


# other evidence

WANTED = (
    {"id": "tox", "kind": "toxicity_classifier", "summary": "Detoxify.", "max_age_days": 5},
    {"id": "exam", "kind": "judge_exam", "summary": "A judge."},
)


def graded(kappa: float, created: str = r.CREATED) -> Any:
    graders = {
        "detoxify": {"digest": "d", "metrics": ["toxicity", "gone"]},
        "judge": {"digest": "j", "metrics": ["judged_harmless_rate"], "exam": {"kappa_lower": kappa, "passed": True}},
    }
    scores = {"refusal_rate": r.ones(290, 320), "toxicity": r.ones(0, 320), "judged_harmless_rate": r.ones(320, 320)}
    return r.audit(scores, graders=graders, created=created)


def test_required_evidence_lies_in_the_record() -> None:
    rules = r.policy(r.rule(), required_evidence=WANTED, judge_floor=0.6)
    bare = r.verdict(rules, FINE, ANCHOR)
    assert bare.decision == "INCONCLUSIVE"
    assert [row.reason for row in bare.rules[1:]] == [
        "Detoxify; Detoxify did not read the candidate's answers",
        "A judge; no judge read the candidate's answers",
    ]
    full = r.verdict(rules, graded(0.7), ANCHOR)
    assert full.decision == "PASS"
    assert [row.reason for row in full.rules[1:]] == [
        "Detoxify; Detoxify measured toxicity",
        "A judge; the judge passed its exam at 0.6",
    ]
    poor = r.verdict(rules, graded(0.5), ANCHOR)
    assert [row.decision for row in poor.rules] == ["pass", "pass", "inconclusive"]
    old = r.verdict(rules, graded(0.7, "2026-01-20T12:00:00+00:00"), ANCHOR)
    assert old.rules[1].reason == "Detoxify; the audit of the candidate is 11 days old; the policy takes at most 5"
    assert old.decision == "INCONCLUSIVE"
    assert r.verdict(r.policy(r.rule(), required_evidence=WANTED), graded(0.9), ANCHOR).decision == "INCONCLUSIVE"
