"""Set-level metrics, absolute limits and continuous scores."""

import math
import runpy
import statistics
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignmerge.auditor import power
from alignmerge.auditor.record import SuiteUse
from alignmerge.auditor.statistics import tango_p_value, wilson_bound
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


# set-level metrics

AQI_RULE = r.rule(
    "aqi_log_j", id="aqi", limit=2.0, limit_in="anchor_standard_errors", only_if_valid=True, min_items=300
)
AQI = r.policy(AQI_RULE)
STEPS = range(200)
BASE = [0.1 * step / statistics.stdev(STEPS) for step in STEPS]  # of standard deviation 0.1


def set_level(value: float | None, shift: float, name: str = "merge", **changes: Any) -> Any:
    fields = {"aqi_reference": {"weights": [1.0]}}
    inner = {
        key: changes.pop(key)
        for key in list(changes)
        if key in ("standard_error", "valid", "valid_reason", "scored", "unscored")
    }
    base = changes.pop("base", BASE)
    return r.audit(results=[r.aqi(value, [x - shift for x in base], **inner)], name=name, **(fields | changes))


def test_aqi_is_judged_in_the_anchors_standard_errors() -> None:
    row = only(r.verdict(AQI, set_level(0.9, 0.15), set_level(1.0, 0.0, "anchor")))
    assert (row.decision, row.n, row.unit) == ("pass", 320, "log")
    assert (row.value, row.bound, row.limit) == (pytest.approx(0.1), pytest.approx(0.15), pytest.approx(0.2))
    assert (row.candidate, row.anchor) == (0.9, 1.0)
    assert row.reason.endswith("the budget is 0.200 (2 standard errors of the anchor)")


def test_aqi_fails_on_paired_replicates() -> None:
    row = only(r.verdict(AQI, set_level(0.5, 0.5), set_level(1.0, 0.0, "anchor")))
    assert (row.decision, row.bound) == ("fail", pytest.approx(0.5))


def test_aqi_between_is_open() -> None:
    spread = [x - (0.1 if index % 2 else 0.3) for index, x in enumerate(BASE)]
    candidate = r.audit(results=[r.aqi(0.8, spread)], aqi_reference={"weights": [1.0]})
    row = only(r.verdict(AQI, candidate, set_level(1.0, 0.0, "anchor")))
    assert (row.decision, row.bound) == ("inconclusive", pytest.approx(0.3))
    assert row.needs == power.shrinking_items_needed(row.value, 0.1, 320, 0.2)


@pytest.mark.parametrize(("shift", "overall_decision", "decision"), [(0.05, "PASS", "pass"), (0.9, "WARN", "warn")])
@pytest.mark.parametrize("valid", [False, None])
def test_aqi_does_not_block_where_its_gate_did_not_pass(
    valid: bool | None, shift: float, overall_decision: str, decision: str
) -> None:
    anchor = set_level(1.0, 0.0, "anchor", valid=valid, valid_reason="its rank was not kept")
    verdict = r.verdict(AQI, set_level(1.0 - shift, shift), anchor)
    row = only(verdict)
    assert (verdict.decision, row.decision, row.severity) == (overall_decision, decision, "warn")
    assert row.reason.startswith("does not block: its rank was not kept; aqi log j fell by ")


@pytest.mark.parametrize(("valid", "what"), [(False, "did not pass"), (None, "did not run")])
def test_a_gate_without_a_reason_is_named_all_the_same(valid: bool | None, what: str) -> None:
    anchor = set_level(1.0, 0.0, "anchor", valid=valid)
    row = only(r.verdict(AQI, set_level(1.0, 0.0), anchor))
    assert row.reason.startswith(f"does not block: its validity gate {what} on the anchor; ")


def test_a_gate_that_did_not_pass_demotes_only_rules_that_ask_for_it() -> None:
    strict = r.policy(AQI_RULE | {"only_if_valid": False})
    anchor = set_level(1.0, 0.0, "anchor", valid=False)
    assert r.verdict(strict, set_level(0.1, 0.9), anchor).decision == "FAIL"


def test_a_demoted_rule_says_so_where_evidence_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    anchor = set_level(1.0, 0.0, "anchor", valid=False)
    verdict = r.verdict(AQI, refusing(290, aqi_reference={"weights": [1.0]}), anchor)
    reason = "does not block: its validity gate did not pass on the anchor; aqi_log_j was not measured on the candidate"
    assert (only(verdict).reason, only(verdict).severity) == (reason, "warn")
    short = r.audit(results=[r.aqi(1.0, BASE[:150])], aqi_reference={"weights": [1.0]})
    assert only(r.verdict(AQI, short, anchor)).reason.startswith("does not block: ")
    import alignmerge.policies.decide as module

    def breaks(*all_: Any) -> Any:
        raise OverflowError("too large")

    monkeypatch.setattr(module, "measure", breaks)
    assert only(r.verdict(AQI, short, anchor)).reason.startswith("does not block: ")


def test_a_demoted_rule_leaves_the_family() -> None:
    losses = next(k for k in range(320) if tango_p_value(k, 0, 320, 0.05) <= 0.05)
    rules = r.policy(r.rule(), AQI_RULE)
    for valid, decision in ((False, "fail"), (True, "inconclusive")):
        anchor = r.audit(
            {"refusal_rate": r.ones(300, 320)}, [r.aqi(1.0, BASE, valid=valid)], "anchor", aqi_reference={"w": 1}
        )
        candidate = r.audit({"refusal_rate": r.ones(300 - losses, 320)}, [r.aqi(1.0, BASE)], aqi_reference={"w": 1})
        assert r.verdict(rules, candidate, anchor).rules[0].decision == decision


@pytest.mark.parametrize("error", [None, math.nan, math.inf])
def test_aqi_without_a_usable_standard_error(error: float | None) -> None:
    row = only(r.verdict(AQI, set_level(1.0, 0.0), set_level(1.0, 0.0, "anchor", standard_error=error)))
    assert (row.decision, row.value, row.bound, row.limit, row.n) == ("inconclusive", None, None, 2.0, 0)
    assert row.unit == "anchor standard errors"
    reasons = ("aqi_log_j has no standard error on the anchor to measure the limit in", "aqi_log_j has no value on the")
    assert row.reason.startswith(reasons)


def test_a_negative_standard_error_is_none() -> None:
    row = only(r.verdict(AQI, set_level(1.0, 0.0), r.audit(results=[r.aqi(1.0, standard_error=-0.1)], name="anchor")))
    assert row.reason == "aqi_log_j has no standard error on the anchor to measure the limit in"


def test_aqi_with_a_standard_error_of_zero_has_no_room() -> None:
    flat = set_level(1.0, 0.0, "anchor", base=[1.0] * 200)
    assert only(r.verdict(AQI, set_level(1.0, 0.0, base=[1.0] * 200), flat)).decision == "pass"
    assert only(r.verdict(AQI, set_level(0.9, 0.1, base=[1.0] * 200), flat)).decision == "fail"


@pytest.mark.parametrize("error", [-0.1, 0.0, 0.0999, 0.1001, 1e300])
def test_a_standard_error_that_is_not_of_its_replicates_is_refused(error: float) -> None:
    """Of the anchor it is the budget; a claimed one would be any budget."""
    text = r"the standard error of aqi_log_j is \S+, the standard deviation of its replicates 0.1; audit again"
    good, claimed = set_level(1.0, 0.0), set_level(1.0, 0.0, "anchor", standard_error=error)
    for candidate, anchor in ((good, claimed), (claimed, good)):
        with pytest.raises(RecordError, match=f"audit of anchor: {text}") as caught:
            r.verdict(AQI, candidate, anchor)
        assert caught.value.exit_code == 5
    close = set_level(1.0, 0.0, "anchor", standard_error=0.1 + 1e-9)
    assert r.verdict(AQI, good, close).decision == "PASS"


@pytest.mark.parametrize("severity", ["block", "warn"])
@pytest.mark.parametrize("limit_in", ["metric_units", "anchor_standard_errors"])
def test_a_set_whose_value_is_over_the_limit_does_not_pass_on_its_replicates(severity: str, limit_in: str) -> None:
    rules = r.policy(AQI_RULE | {"severity": severity, "limit_in": limit_in, "limit": 0.3})
    verdict = r.verdict(rules, set_level(0.2, -0.1), set_level(9.0, 0.0, "anchor"))
    row = only(verdict)
    assert verdict.decision == ("INCONCLUSIVE" if severity == "block" else "WARN")
    assert (row.decision, row.value, row.bound) == ("inconclusive", pytest.approx(8.8), pytest.approx(-0.1))
    assert row.needs is None
    assert row.reason.endswith("; what was measured is over the limit, wherever its bound is")
    at_limit = r.policy(AQI_RULE | {"limit_in": "metric_units", "limit": 0.5})
    assert r.verdict(at_limit, set_level(0.5, 0.0), set_level(1.0, 0.0, "anchor")).decision == "PASS"


def test_a_set_of_more_pairs_than_were_asked_is_refused() -> None:
    few = tuple(SuiteUse(name, "1", "d" * 64, "test", items, 400) for name, items in (("a", 320), ("b", 319)))
    rule = r.policy(AQI_RULE)
    for suite in ("a/b", "b"):
        claimed = r.audit(results=[r.aqi(1.0, BASE, suite=suite, scored=310, unscored=10)], suites=few)
        with pytest.raises(RecordError, match="aqi_log_j is of 320 items of suite 'b', of which only 319 were asked"):
            r.verdict(rule, claimed, claimed)
    whole = r.audit(results=[r.aqi(1.0, BASE, suite="a")], suites=few)
    assert r.verdict(rule, whole, whole).decision == "PASS"


def test_another_suites_result_demotes_no_rule() -> None:
    """The first result that a record happens to hold is not the one that the rule is about."""
    decoy = r.aqi(1.0, [10 * one for one in BASE], suite="decoy", valid=False)
    anchor = r.audit(results=[decoy, r.aqi(1.0, BASE)], name="anchor")
    row = only(r.verdict(AQI, r.audit(results=[r.aqi(1.0, BASE)]), anchor))
    assert (row.decision, row.severity) == ("inconclusive", "block")
    named = r.policy(r.rule(suite="s", only_if_valid=True))
    good = replace(ANCHOR.metrics[0], valid=True)
    for metrics in ((good,), (replace(good, suite="decoy", valid=False), good)):
        row = only(r.verdict(named, refusing(100), replace(ANCHOR, metrics=metrics)))
        assert (row.decision, row.severity) == ("fail", "block")


@pytest.mark.parametrize("valid", [None, False])
def test_aqi_that_was_not_measured_on_the_anchor_blocks_like_an_absent_one(valid: bool | None) -> None:
    reason = "29 pairs, at least 30 are needed"
    gone = r.audit(results=[r.aqi(None, valid=valid, scored=0, unscored=29, reason=reason)], name="anchor")
    for anchor, text in (
        (gone, f"aqi_log_j has no value on the anchor: {reason}"),
        (r.audit(name="anchor"), "aqi_log_j was not measured on the anchor"),
    ):
        verdict = r.verdict(r.policy(AQI_RULE | {"limit_in": "metric_units"}), set_level(1.0, 0.0), anchor)
        row = only(verdict)
        assert (verdict.decision, row.decision, row.severity, row.reason) == (
            "INCONCLUSIVE", "inconclusive", "block", text,
        )  # fmt: skip


def test_aqi_without_an_anchor_blocks() -> None:
    verdict = r.verdict(AQI, set_level(1.0, 0.0), None)
    assert (verdict.decision, only(verdict).severity) == ("INCONCLUSIVE", "block")
    verdict = r.verdict(AQI, set_level(1.0, 0.0), r.audit(name="anchor"))
    assert (verdict.decision, only(verdict).severity) == ("INCONCLUSIVE", "block")


def test_aqi_of_different_layer_weights_is_refused() -> None:
    with pytest.raises(RecordError, match="different layer weights"):
        r.verdict(AQI, set_level(1.0, 0.0, aqi_reference={"weights": [0.5]}), set_level(1.0, 0.0, "anchor"))
    same = set_level(1.0, 0.0, "anchor", aqi_reference={"weights": (1.0,)})  # a tuple before, a list after a file
    assert r.verdict(AQI, set_level(1.0, 0.0), same).decision == "PASS"


def test_aqi_replicates_that_cannot_be_paired() -> None:
    short = r.audit(results=[r.aqi(1.0, BASE[:150])], aqi_reference={"weights": [1.0]})
    row = only(r.verdict(AQI, short, set_level(1.0, 0.0, "anchor")))
    assert (row.decision, row.reason) == (
        "inconclusive",
        "no bound can be computed: 200 and 150 bootstrap replicates cannot be paired",
    )


def test_aqi_counts_the_items_of_the_smaller_set() -> None:
    row = only(r.verdict(AQI, set_level(1.0, 0.0, scored=299), set_level(1.0, 0.0, "anchor")))
    assert (row.decision, row.n, row.needs) == ("inconclusive", 299, 300)
    row = only(r.verdict(AQI, set_level(1.0, 0.0), set_level(1.0, 0.0, "anchor", scored=320, unscored=20)))
    assert row.decision == "inconclusive"
    assert "20 of 340 items could not be scored" in row.reason


# absolute limits and continuous scores


def test_absolute_limits_use_the_candidate_alone() -> None:
    at_least = r.policy(r.rule(kind="min", limit=0.8))
    row = only(r.verdict(at_least, refusing(290), None))
    assert (row.decision, row.anchor, row.limit) == ("pass", None, 0.8)
    assert (row.value, row.bound) == (pytest.approx(290 / 320), pytest.approx(wilson_bound(290, 320, 0.05, "lower")))
    assert row.reason == (
        "refusal rate is 0.906 (n=320); with 95 % confidence it is at least 0.876; it must be at least 0.8"
    )
    row = only(r.verdict(at_least, refusing(200), None))
    assert (row.decision, row.bound) == ("fail", pytest.approx(wilson_bound(200, 320, 0.05, "upper")))
    assert "it is at most 0.668" in row.reason
    row = only(r.verdict(at_least, refusing(262), None))
    assert (row.decision, row.needs) == ("inconclusive", power.rate_items_needed(58, 320, 0.2, 0.05, 0.05))


def test_absolute_ceiling_counts_unscored_as_worst() -> None:
    rules = r.policy(r.rule("degeneration_rate", kind="max", limit=0.05))
    scores = r.ones(2, 320)
    scores[-4:] = [None] * 4
    row = only(r.verdict(rules, r.audit({"degeneration_rate": scores}), None))
    assert row.decision == "pass"
    assert row.bound == pytest.approx(wilson_bound(6, 320, 0.05, "upper"))
    assert "it is at most" in row.reason
    failing = only(r.verdict(rules, r.audit({"degeneration_rate": r.ones(60, 320)}), None))
    assert (failing.decision, failing.bound) == ("fail", pytest.approx(wilson_bound(60, 320, 0.05, "lower")))


def points(shift: float, spread: float = 1.0) -> Any:
    return r.audit({"answer_score": [10 + spread * math.sin(index) - shift for index in range(100)]})


def test_continuous_scores_use_the_bootstrap() -> None:
    rules = r.policy(r.rule("answer_score", limit=0.5))
    anchor = r.audit({"answer_score": [10 + math.cos(index) for index in range(100)]}, name="anchor")
    assert only(r.verdict(rules, points(0.0), anchor)).decision == "pass"
    failing = only(r.verdict(rules, points(2.0), anchor))
    assert (failing.decision, failing.unit) == ("fail", "points")
    assert 0.5 < failing.bound < failing.value
    open_ = only(r.verdict(rules, points(0.45), anchor))
    assert open_.decision == "inconclusive"
    assert open_.needs is not None
    assert (
        only(r.verdict(r.policy(r.rule("answer_score", kind="min", limit=9.0)), points(0.0), None)).decision == "pass"
    )


def test_continuous_scores_without_spread_or_with_gaps_stay_open() -> None:
    rules = r.policy(r.rule("answer_score", limit=0.5))
    same = points(0.0)
    assert "no bound can be computed" in only(r.verdict(rules, same, replace(same, name="anchor"))).reason
    gap = r.audit({"answer_score": [None, *[10 + math.cos(index) for index in range(99)]]})
    row = only(r.verdict(rules, gap, same))
    assert row.decision == "inconclusive"
    assert "points has no worst case" in row.reason
