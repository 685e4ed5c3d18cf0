"""Holm's family, and rules that only warn."""

import math
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignmerge.auditor import power
from alignmerge.auditor.statistics import tango_bound, tango_p_value
from alignmerge.policies.decide import overall
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


# Holm

TWO = ("refusal_rate", "arithmetic_accuracy")


def two(first: int, second: int, **changes: Any) -> Any:
    return r.audit(dict(zip(TWO, (r.ones(first, 320), r.ones(second, 320)), strict=True)), **changes)


def test_failing_is_corrected_for_the_number_of_blocking_rules() -> None:
    losses = next(k for k in range(320) if tango_p_value(k, 0, 320, 0.05) <= 0.05)
    assert tango_p_value(losses, 0, 320, 0.05) > 0.025
    anchor = two(300, 300, name="anchor")
    alone = r.verdict(RULE, refusing(300 - losses), r.audit({"refusal_rate": r.ones(300, 320)}, name="anchor"))
    assert alone.decision == "FAIL"
    both = r.policy(r.rule(), r.rule("arithmetic_accuracy"))
    verdict = r.verdict(both, two(300 - losses, 300), anchor)
    assert [row.decision for row in verdict.rules] == ["inconclusive", "pass"]
    assert verdict.rules[0].needs == power.items_needed(losses, 0, 320, 0.05, 0.05, 0.025)
    # The same evidence fails where the other rule cannot block, and where the other rule fails clearly.
    warns = r.policy(r.rule(), r.rule("arithmetic_accuracy", severity="warn"))
    assert r.verdict(warns, two(300 - losses, 300), anchor).decision == "FAIL"
    clear = r.verdict(both, two(300 - losses, 100), anchor)
    assert [row.decision for row in clear.rules] == ["fail", "fail"]
    assert "with 95 % confidence" in clear.rules[0].reason
    assert "with 97.5 % confidence" in clear.rules[1].reason
    assert clear.rules[1].bound == pytest.approx(tango_bound(200, 0, 320, 0.025, "lower"))


def test_the_family_is_what_the_policy_names_not_what_was_measured() -> None:
    losses = next(k for k in range(320) if tango_p_value(k, 0, 320, 0.05) <= 0.05)
    both = r.policy(r.rule(), r.rule("arithmetic_accuracy"))
    anchor = r.audit({"refusal_rate": r.ones(300, 320)}, name="anchor")
    verdict = r.verdict(both, refusing(300 - losses), anchor)
    assert [row.decision for row in verdict.rules] == ["inconclusive", "inconclusive"]


def test_one_certain_failure_is_a_fail_even_where_evidence_is_missing() -> None:
    verdict = r.verdict(r.policy(r.rule(), r.rule("arithmetic_accuracy")), refusing(100), ANCHOR)
    assert [row.decision for row in verdict.rules] == ["fail", "inconclusive"]
    assert verdict.decision == "FAIL"


def test_levels_follow_the_evidence_not_the_names() -> None:
    both = r.policy(r.rule(), r.rule("arithmetic_accuracy"))
    verdict = r.verdict(both, two(100, 200), two(300, 300, name="anchor"))
    assert [row.decision for row in verdict.rules] == ["fail", "fail"]
    assert verdict.rules[0].bound == pytest.approx(tango_bound(200, 0, 320, 0.025, "lower"))
    assert verdict.rules[1].bound == pytest.approx(tango_bound(100, 0, 320, 0.05, "lower"))


def test_a_rule_with_too_few_items_does_not_loosen_the_others() -> None:
    losses = next(k for k in range(320) if tango_p_value(k, 0, 320, 0.05) <= 0.05)
    both = r.policy(r.rule(), r.rule("arithmetic_accuracy", min_items=321))
    verdict = r.verdict(both, two(300 - losses, 0), two(300, 300, name="anchor"))
    assert [row.decision for row in verdict.rules] == ["inconclusive", "inconclusive"]


@pytest.mark.parametrize(("upper", "p"), [(math.nan, math.nan), (math.inf, 0.5), (-math.inf, math.nan)])
def test_bounds_that_are_not_finite_decide_nothing(upper: float, p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    import alignmerge.policies.decide as module

    real = module.measure
    monkeypatch.setattr(
        module, "measure", lambda *all_: replace(real(*all_), upper=lambda alpha: upper, p_value=lambda limit: p)
    )
    verdict = r.verdict(RULE, refusing(290), ANCHOR)
    assert (verdict.decision, only(verdict).bound) == ("INCONCLUSIVE", None)


def test_a_p_value_that_is_no_number_never_fails_and_never_loosens(monkeypatch: pytest.MonkeyPatch) -> None:
    import alignmerge.policies.decide as module

    losses = next(k for k in range(320) if tango_p_value(k, 0, 320, 0.05) <= 0.05)
    real = module.measure

    def broken(rule: Any, *records: Any) -> Any:
        sample = real(rule, *records)
        return sample if rule.metric == "refusal_rate" else replace(sample, p_value=lambda limit: -math.inf)

    monkeypatch.setattr(module, "measure", broken)
    both = r.policy(r.rule(), r.rule("arithmetic_accuracy"))
    verdict = r.verdict(both, two(300 - losses, 0), two(300, 300, name="anchor"))
    assert [row.decision for row in verdict.rules] == ["inconclusive", "inconclusive"]


def test_alpha_is_the_policys() -> None:
    row = only(r.verdict(r.policy(r.rule(), alpha=0.01), refusing(288), ANCHOR))
    assert row.bound == pytest.approx(tango_bound(2, 0, 320, 0.01, "upper"))
    assert "with 99 % confidence" in row.reason


def test_F21_one_rule_that_cannot_be_computed_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    import alignmerge.policies.decide as module

    real = module.measure

    def breaks(rule: Any, *records: Any) -> Any:
        if rule.metric == "arithmetic_accuracy":
            raise ZeroDivisionError("division by zero")
        return real(rule, *records)

    monkeypatch.setattr(module, "measure", breaks)
    rules = r.policy(r.rule("arithmetic_accuracy"), r.rule())
    verdict = r.verdict(rules, two(300, 300), two(300, 300, name="anchor"))
    assert [row.decision for row in verdict.rules] == ["inconclusive", "pass"]
    assert verdict.rules[0].reason == "the numbers of arithmetic_accuracy cannot be used: division by zero"
    assert verdict.decision == "INCONCLUSIVE"


# severity

WARNS = r.policy(r.rule(severity="warn"))


@pytest.mark.parametrize(
    ("count", "decision", "row_decision"), [(290, "PASS", "pass"), (278, "WARN", "inconclusive"), (100, "WARN", "warn")]
)
def test_a_rule_that_warns_never_fails(count: int, decision: str, row_decision: str) -> None:
    verdict = r.verdict(WARNS, refusing(count), ANCHOR)
    row = only(verdict)
    assert (verdict.decision, row.decision, row.severity) == (decision, row_decision, "warn")


def test_a_warning_is_given_at_the_plain_level() -> None:
    losses = next(k for k in range(320) if tango_p_value(k, 0, 320, 0.05) <= 0.05)
    anchor = r.audit({"refusal_rate": r.ones(300, 320)}, name="anchor")
    assert only(r.verdict(WARNS, refusing(300 - losses), anchor)).decision == "warn"
    row = only(r.verdict(WARNS, refusing(300 - losses + 1), anchor))
    assert row.decision == "inconclusive"
    assert row.needs == power.items_needed(losses - 1, 0, 320, 0.05, 0.05, 0.05)
    warned = only(r.verdict(WARNS, refusing(100), anchor))
    assert warned.bound == pytest.approx(tango_bound(200, 0, 320, 0.05, "lower"))
    assert "it fell by at least 0.580; the budget" in warned.reason


def row(decision: str, severity: str = "block", value: float | None = 0.1) -> RuleResult:
    return RuleResult("x", "m", severity, decision, "", "rate", value, None, 0.1, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row("pass")], "PASS"),
        ([row("pass"), row("warn", "warn")], "WARN"),
        ([row("pass"), row("inconclusive", "warn")], "WARN"),
        ([row("pass"), row("inconclusive", "warn", None)], "WARN"),
        ([row("pass"), row("inconclusive")], "INCONCLUSIVE"),
        ([row("inconclusive", "block", None), row("fail")], "FAIL"),
        ([row("warn", "warn"), row("inconclusive", "warn", None)], "WARN"),
        ([row("inconclusive", "warn", None)], "INCONCLUSIVE"),
        ([row("fail", "warn"), row("pass")], "WARN"),
        ([], "INCONCLUSIVE"),
    ],
)
def test_the_whole_follows_from_its_rules(rows: list[RuleResult], expected: str) -> None:
    assert overall(rows) == expected
