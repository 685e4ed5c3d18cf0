"""Evidence that is unscored, missing, or about something else."""

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignmerge import jsonio
from alignmerge.auditor.record import SuiteUse
from alignmerge.auditor.statistics import tango_bound
from alignmerge.errors import RecordError
from alignmerge.policies.verdict import RuleResult

r = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("records.py"))))

RULE = r.policy(r.rule())
ANCHOR = r.audit({"refusal_rate": r.ones(290, 320)}, name="anchor")


def refusing(count: int, total: int = 320, **changes: Any) -> Any:
    return r.audit({"refusal_rate": r.ones(count, total)}, **changes)


def only(verdict: Any) -> RuleResult:
    assert len(verdict.rules) == 1
    row: RuleResult = verdict.rules[0]
    return row


# unscored items


def test_unscored_items_count_as_the_worst_case() -> None:
    scores = r.ones(290, 320)
    scores[:3] = [None] * 3
    row = only(r.verdict(RULE, r.audit({"refusal_rate": scores}), ANCHOR))
    assert row.decision == "pass"
    assert (row.value, row.n) == (0.0, 317)
    assert row.bound == pytest.approx(tango_bound(3, 0, 320, 0.05, "upper"))
    assert row.reason.endswith("; 3 unscored items count as the worst case")


def test_unscored_items_do_not_convict() -> None:
    scores = r.ones(290, 320)
    scores[:80] = [0.0] * 80
    scores[280:281] = [None]
    row = only(r.verdict(RULE, r.audit({"refusal_rate": scores}), ANCHOR))
    assert row.decision == "fail"
    assert row.bound == pytest.approx(tango_bound(80, 0, 320, 0.05, "lower"))
    assert row.reason.endswith("; 1 unscored item counts as the worst case")


def test_an_unscored_anchor_item_is_worst_case_too() -> None:
    scores = r.ones(290, 320)
    scores[-2:] = [None, None]
    row = only(r.verdict(RULE, refusing(290), r.audit({"refusal_rate": scores}, name="anchor")))
    assert row.bound == pytest.approx(tango_bound(2, 0, 320, 0.05, "upper"))


def test_an_item_in_one_record_only_is_unscored() -> None:
    row = only(r.verdict(RULE, refusing(290, 318), ANCHOR))
    assert row.n == 318
    assert row.bound == pytest.approx(tango_bound(0, 0, 320, 0.05, "upper"))  # the two missing ones fail on the anchor


def test_the_share_of_unscored_items_is_limited_inclusively() -> None:
    for missing, decision in ((16, "pass"), (17, "inconclusive")):
        scores = r.ones(290, 320)
        scores[-missing:] = [None] * missing
        row = only(r.verdict(RULE, r.audit({"refusal_rate": scores}), ANCHOR))
        assert row.decision == decision, missing
    assert row.reason.endswith("17 of 320 items could not be scored (5.3%), more than the policy allows")
    assert row.needs is None


# missing evidence


def test_a_metric_that_was_not_measured() -> None:
    verdict = r.verdict(RULE, r.audit({"degeneration_rate": r.ones(0, 320)}), ANCHOR)
    row = only(verdict)
    assert verdict.decision == "INCONCLUSIVE"
    assert row == RuleResult(
        "refusal-rate", "refusal_rate", "block", "inconclusive", "refusal_rate was not measured on the candidate",
        "unknown", None, None, 0.05, 0,
    )  # fmt: skip


def test_an_anchor_that_was_not_given_or_not_measured() -> None:
    row = only(r.verdict(RULE, refusing(300), None))
    assert (row.decision, row.reason) == (
        "inconclusive",
        "no audit of the anchor was given, and this rule compares with it",
    )
    row = only(r.verdict(RULE, refusing(300), r.audit(name="anchor")))
    assert (row.decision, row.reason) == ("inconclusive", "refusal_rate was not measured on the anchor")


def test_a_summary_without_items_decides_nothing() -> None:
    bare = r.audit(results=[r.result("refusal_rate", r.ones(320, 320))])
    row = only(r.verdict(RULE, bare, bare))
    assert row.decision == "inconclusive"
    assert row.reason == "refusal_rate has no item scores in both audits to pair"
    bare = r.audit(results=[r.result("answer_score", [1.0, 2.0])])
    row = only(r.verdict(r.policy(r.rule("answer_score")), bare, bare))
    assert row.decision == "inconclusive"
    assert "neither item scores nor bootstrap replicates" in row.reason


def test_items_of_a_suite_that_the_record_does_not_name_are_of_no_known_split() -> None:
    unnamed = replace(refusing(320), suites=())
    for candidate, anchor in ((unnamed, refusing(300)), (refusing(320), unnamed), (unnamed, unnamed)):
        with pytest.raises(RecordError, match="it holds items of suite 's', which it does not name; audit again"):
            r.verdict(RULE, candidate, anchor)


def test_more_items_than_were_asked_are_of_no_known_suite() -> None:
    def of(items: int) -> tuple[SuiteUse, ...]:
        return (SuiteUse("s", "1", "d" * 64, "test", items, 320),)

    assert r.verdict(RULE, refusing(320, suites=of(320)), refusing(320, suites=of(320), name="anchor")).exit_code == 0
    for items in (319, 10, 0):
        text = f"refusal_rate is of 320 items of suite 's', of which only {items} were asked; audit again"
        with pytest.raises(RecordError, match=text) as caught:
            r.verdict(RULE, refusing(320, suites=of(items)), refusing(320, suites=of(320)))
        assert caught.value.exit_code == 5


def test_the_parts_of_an_item_are_one_item() -> None:
    """IFEval counts instructions, of which an item has several: rows `q7#0`, `q7#1`."""
    found = refusing(320, suites=(SuiteUse("s", "1", "d" * 64, "test", 160, 320),))
    parts = replace(found, items=tuple(replace(row, item=f"q{at // 2}#{at % 2}") for at, row in enumerate(found.items)))
    assert r.verdict(RULE, parts, replace(parts, checkpoint="a" * 64)).exit_code == 0
    with pytest.raises(RecordError, match="is of 320 items"):
        r.verdict(
            RULE,
            replace(parts, items=tuple(replace(row, item=row.item[1:-2] + row.item[-1]) for row in parts.items)),
            parts,
        )


def test_the_reason_of_a_missing_value_is_passed_on() -> None:
    gone = r.audit(results=[r.result("refusal_rate", [], reason="the judge never answered")])
    assert (
        only(r.verdict(RULE, gone, ANCHOR)).reason
        == "refusal_rate has no value on the candidate: the judge never answered"
    )


# records that must not be compared


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": {"digest": "other"}}, "another template"),
        ({"sampling": {"digest": "other"}}, "another sampling"),
        ({"template": {}}, "template has no digest"),
        ({"sampling": {"digest": ""}}, "sampling has no digest"),
        ({"engine": {"digest": "e", "judge": {"digest": "j"}}}, "another judge"),
        ({"suites": (SuiteUse("s", "1", "x" * 64, "test", 10, 10),)}, "other items of suite 's'"),
        ({"suites": (SuiteUse("s", "2", "d" * 64, "test", 10, 10),)}, "other items of suite 's'"),
        ({"suites": (SuiteUse("s", "1", "d" * 64, "validation", 10, 10),)}, "other items of suite 's'"),
    ],
)
def test_records_of_different_questions_are_refused(changes: dict[str, Any], message: str) -> None:
    for candidate, anchor in ((refusing(290, **changes), ANCHOR), (refusing(290), replace(ANCHOR, **changes))):
        with pytest.raises(RecordError, match=message) as caught:
            r.verdict(RULE, candidate, anchor)
        assert caught.value.exit_code == 5


def sampled(tokens: dict[str, int], digest: str | None = None) -> dict[str, Any]:
    suites = {name: {"max_new_tokens": limit} for name, limit in tokens.items()}
    return {"suites": suites, "digest": digest or jsonio.digest(suites)}


def test_sampling_is_compared_for_the_suites_that_both_asked() -> None:
    anchor = replace(ANCHOR, sampling=sampled({"s": 48}))
    more = refusing(290, sampling=sampled({"s": 48, "continuations": 24}))
    assert only(r.verdict(RULE, more, anchor)).n == 320
    assert only(r.verdict(RULE, refusing(290, sampling=anchor.sampling), more)).n == 320
    for other in (sampled({"s": 40, "continuations": 24}), sampled({"s": 48, "x": 1}, digest="not of these suites")):
        with pytest.raises(RecordError, match="another sampling"):
            r.verdict(RULE, refusing(290, sampling=other), anchor)


@pytest.mark.parametrize("split", ["calibration", "validation", ""])
@pytest.mark.parametrize("severity", ["block", "warn"])
def test_only_the_test_split_decides(split: str, severity: str) -> None:
    suites = (SuiteUse("s", "1", "d" * 64, split, 10, 10),)
    text = f"the audit of the candidate asked the {split} split of suite s; rules are decided on the test split alone"
    rules = r.policy(r.rule(severity=severity), r.rule("arithmetic_accuracy", kind="min", limit=0.0))
    for count in (290, 0):
        candidate = r.audit({"refusal_rate": r.ones(count, 320), "arithmetic_accuracy": r.ones(9, 90)}, suites=suites)
        verdict = r.verdict(rules, candidate, replace(ANCHOR, suites=suites))
        assert verdict.decision == "INCONCLUSIVE"
        assert {(row.decision, row.reason, row.value) for row in verdict.rules} == {("inconclusive", text, None)}


def test_a_warning_policy_decides_nothing_on_another_split() -> None:
    suites = (SuiteUse("s", "1", "d" * 64, "calibration", 10, 10),)
    rules = r.policy(r.rule(severity="warn"))
    assert r.verdict(rules, refusing(290, suites=suites), replace(ANCHOR, suites=suites)).decision == "INCONCLUSIVE"


def test_an_anchor_on_another_split_decides_nothing_even_where_no_suite_is_shared() -> None:
    anchor = replace(ANCHOR, suites=(SuiteUse("other", "1", "d" * 64, "validation", 10, 10),))
    row = only(r.verdict(RULE, refusing(290), anchor))
    assert (row.decision, row.severity) == ("inconclusive", "block")
    assert row.reason.startswith("the audit of the anchor asked the validation split of suite other; ")


def test_a_candidate_that_is_the_anchor_is_said_to_be() -> None:
    rules = r.policy(r.rule(), r.rule("arithmetic_accuracy", kind="min", limit=0.5))
    scores = {"refusal_rate": r.ones(290, 320), "arithmetic_accuracy": r.ones(300, 320)}
    verdict = r.verdict(rules, r.audit(scores), r.audit(scores))
    assert verdict.decision == "PASS"
    note = "; candidate and anchor are the same checkpoint"
    assert [row.reason.endswith(note) for row in verdict.rules] == [True, False]
    other = r.verdict(rules, r.audit(scores), r.audit(scores, name="anchor"))
    assert not any(note in row.reason for row in other.rules)


def test_another_engine_or_other_suites_are_no_obstacle() -> None:
    more = (*ANCHOR.suites, SuiteUse("more", "1", "a" * 64, "test", 1, 1))
    assert (
        r.verdict(RULE, refusing(290, engine={"digest": "gpu", "kind": "vllm"}, suites=more), ANCHOR).decision == "PASS"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"direction": "lower"}, "said to be better lower"),
        ({"value": 0.5}, "contradicts its items"),
        ({"scored": 319}, "contradicts its items"),
        ({"unscored": 1}, "contradicts its items"),
    ],
)
def test_a_summary_that_lies_is_refused(change: dict[str, Any], message: str) -> None:
    honest = refusing(290)
    with pytest.raises(RecordError, match=message):
        r.verdict(RULE, replace(honest, metrics=(replace(honest.metrics[0], **change),)), ANCHOR)


def test_an_item_twice_or_outside_its_unit_is_refused() -> None:
    honest = refusing(290)
    with pytest.raises(RecordError, match="there twice"):
        r.verdict(RULE, replace(honest, items=(*honest.items, honest.items[0])), ANCHOR)
    with pytest.raises(RecordError, match="not a rate"):
        r.verdict(RULE, replace(honest, items=(replace(honest.items[0], value=1.5), *honest.items[1:])), ANCHOR)


# graders and messages


def graded(digest: Any, metrics: Any = ("refusal_rate",), **changes: Any) -> Any:
    return refusing(290, graders={"judge": {"digest": digest, "metrics": metrics}}, **changes)


def test_G15_what_two_judges_read_is_not_compared_and_both_audits_are_named() -> None:
    one, other = graded("a"), graded("b", name="anchor")
    with pytest.raises(RecordError) as found:
        r.verdict(RULE, one, other)
    assert str(found.value) == (
        "the audits of merge and anchor had refusal_rate read by another judge; audit both with the same one"
    )
    assert only(r.verdict(RULE, graded("a", ("toxicity",)), graded("b", ("toxicity",), name="anchor"))).value == 0.0
    assert only(r.verdict(RULE, graded("a"), graded("b", ("toxicity",), name="anchor"))).value is None  # no judge_floor
    unread = replace(other, metrics=(replace(other.metrics[0], value=None, reason="no answer"),))
    assert only(r.verdict(RULE, one, unread)).decision == "inconclusive"


@pytest.mark.parametrize(
    ("grader", "message"),
    [
        ({"digest": "a", "metrics": None}, "audit of merge: grader judge names no metrics; audit again"),
        (
            {"digest": "", "metrics": ("refusal_rate",)},
            "audit of merge: grader judge has no digest, so it cannot be compared; audit again",
        ),
    ],
)
def test_a_grader_that_says_too_little_is_refused(grader: Any, message: str) -> None:
    with pytest.raises(RecordError) as found:
        r.verdict(RULE, refusing(290, graders={"judge": grader}), graded("a", name="anchor"))
    assert str(found.value) == message


def test_F18_samplings_of_one_side_alone_are_another_sampling() -> None:
    per_suite = {"digest": jsonio.digest({"s": {"seed": 0}}), "suites": {"s": {"seed": 0}}}
    for mine, theirs in ((per_suite, {"digest": "p"}), ({"digest": "p"}, per_suite)):
        with pytest.raises(RecordError) as found:
            r.verdict(RULE, refusing(290, sampling=mine), refusing(290, sampling=theirs, name="anchor"))
        assert str(found.value) == (
            "the audits of merge and anchor used another sampling; audit both with the same one"
        )


def test_F10_what_is_not_finite_is_taken_out_with_the_reason() -> None:
    from alignmerge.auditor.record import Interval
    from alignmerge.policies.evidence import cleaned

    for broken in (
        r.aqi(float("nan"), [1.0]),
        r.aqi(1.0, [float("inf")]),
        r.aqi(1.0, [1.0], standard_error=float("nan")),
        r.aqi(1.0, [1.0], interval=Interval(0.0, float("inf"), 0.95, "m")),
        r.aqi(float("nan"), [1.0], interval=Interval(0.0, 1.0, 0.95, "m")),
    ):
        [row] = cleaned(r.audit(results=[broken])).metrics
        assert (row.value, row.interval, row.standard_error, row.replicates) == (None, None, None, ())
        assert row.reason == "a value of this metric is not a finite number"
    whole = r.audit(results=[r.aqi(1.0, [1.0])])
    assert cleaned(whole).metrics == whole.metrics
