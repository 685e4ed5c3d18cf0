"""What a rule looks at: floors, shares of a budget, parts of the items, and how many there are."""

from dataclasses import replace
from typing import Any

import pytest

from alignmerge.policies.verdict import RuleResult
from alignmerge.reports.model import ReportInput
from alignmerge.reports.scope import excess, floor, held, must, named, share_used, value_of


def rule(decision: Any, value: float | None, bound: float | None, **more: Any) -> RuleResult:
    row = RuleResult(
        "refusal-drop", "refusal_rate", "block", decision, "why", "rate", value, bound, 0.05, 300, 0.5, 0.6
    )
    return replace(row, **more)


@pytest.mark.parametrize(
    ("row", "word"),
    [
        (rule("pass", 0.01, 0.04), ""),
        (rule("inconclusive", None, None, anchor=None), ""),  # a drop that was not measured has no anchor either
        (rule("pass", 0.9, 0.85, anchor=None, limit=0.8), "at least"),
        (rule("inconclusive", 0.8, 0.8, anchor=None, limit=0.8), "at least"),
        (rule("pass", 0.1, 0.15, anchor=None, limit=0.2, metric="over_refusal_rate"), "at most"),
        (rule("pass", 0.9, 0.85, anchor=None, limit=0.8, metric="nobody knows it"), "at least"),
        (rule("fail", 0.5, 0.6, anchor=None, limit=0.8, metric="nobody knows it"), "at least"),
        (rule("fail", 0.9, 0.85, anchor=None, limit=0.8, metric="nobody knows it"), "at most"),
    ],
)
def test_a_floor_is_told_from_a_ceiling_and_from_a_change(row: RuleResult, word: str) -> None:
    assert must(row) == word and floor(row) == (word == "at least")


@pytest.mark.parametrize(
    ("row", "share"),
    [
        (rule("pass", 0.01, 0.04), 0.8),
        (rule("fail", 0.3, 0.2), 4.0),
        (rule("pass", 0.9, 0.8, anchor=None, limit=0.2), 0.25),  # 0.2 of the 0.8 that may be lacking
        (rule("fail", 0.2, 0.3, anchor=None, limit=0.9), 7.0),
        (rule("pass", 8.0, 5.0, anchor=None, limit=4.0, unit="score"), 0.8),
        (rule("inconclusive", None, None), float("inf")),
        (rule("pass", 0.0, 0.0, limit=0.0), 1.0),
        (rule("pass", -0.1, -0.05, limit=0.0), 0.0),
        (rule("fail", 0.9, 0.95, anchor=None, limit=1.0), float("inf")),
    ],
)
def test_the_share_of_a_budget_is_above_one_beyond_the_limit_alone(row: RuleResult, share: float) -> None:
    assert share_used(row) == pytest.approx(share)
    if row.bound is not None:
        assert (share_used(row) > 1) == (excess(row, row.bound) > 0)


def test_a_rule_on_a_part_reads_that_part_of_every_checkpoint(report: ReportInput) -> None:
    audit = report.experts[0].audit
    fraud = rule("fail", 0.3, 0.2, category="fraud", suite="refusal")
    mine = [one.value for one in audit.by_metric["refusal_rate"] if one.category == "fraud" and one.value is not None]
    assert value_of(fraud, audit) == pytest.approx(sum(mine) / len(mine))
    whole = audit.result("refusal_rate")
    assert whole is not None and value_of(rule("fail", 0.3, 0.2), audit) == whole.value != value_of(fraud, audit)
    assert value_of(rule("fail", 0.3, 0.2, suite="refusal"), audit) == whole.value
    assert value_of(replace(fraud, category="none such"), audit) is None
    assert named(fraud) == "Refusal of harmful requests, suite refusal, category fraud"


def test_what_there_is_to_ask_is_what_the_suites_hold(report: ReportInput) -> None:
    audit = report.experts[0].audit  # 300 of 480 items in every suite
    row = rule("inconclusive", 0.03, 0.09)
    assert held(row, audit) == held(replace(row, category="fraud"), audit) == 480
    whole = replace(audit, suites=tuple(replace(suite, of=suite.items) for suite in audit.suites))
    assert held(row, whole) == 300 and held(replace(row, category="fraud"), whole) == 100
    assert held(replace(row, metric="units_accuracy", suite="elsewhere"), audit) is None
    assert held(replace(row, metric="unknown"), audit) is None
    both = replace(audit, metrics=tuple(replace(one, suite="refusal/over_refusal") for one in audit.metrics))
    assert held(replace(row, metric="aqi_log_j"), both) == 480  # pairs of one item of each suite
    assert held(replace(row, metric="aqi_log_j"), audit) is None  # a suite that the audit does not count
    everywhere = replace(audit, metrics=tuple(replace(one, suite="all") for one in audit.metrics))
    assert held(row, everywhere) == 480
