"""What must hold of the decision whatever the numbers are."""

import math
import random
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alignmerge.errors import RecordError

r = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("records.py"))))

# Better to the right; two decisions of one rank are equally far from shipping.
RANK = {"FAIL": 0, "INCONCLUSIVE": 1, "WARN": 2, "PASS": 3}
METRICS = ("refusal_rate", "over_refusal_rate", "arithmetic_accuracy", "degeneration_rate")
N = 64
LIMITS = st.sampled_from([0.0, 0.02, 0.05, 0.1, 0.15, 0.3, 0.6, 1.0])


@st.composite
def scored(draw: Any) -> list[float | None]:
    """64 binary scores, a few of them unscored."""
    good, missing = draw(st.integers(0, N)), draw(st.sampled_from([0, 0, 0, 1, 3, 5]))
    values: list[float | None] = [1.0] * good + [0.0] * (N - good)
    draw(st.randoms(use_true_random=False)).shuffle(values)
    for index in range(missing):
        values[index * 7] = None
    return values


@st.composite
def situations(draw: Any) -> tuple[Any, Any, Any]:
    """A policy with one to three rules, a candidate and an anchor."""
    metrics = draw(st.lists(st.sampled_from(METRICS), min_size=1, max_size=3, unique=True))
    rules = [
        r.rule(metric, limit=draw(LIMITS), severity=draw(st.sampled_from(["block", "block", "warn"])), min_items=50)
        for metric in metrics
    ]
    candidate = {metric: draw(scored()) for metric in metrics}
    anchor = {metric: draw(scored()) for metric in metrics}
    return r.policy(*rules), r.audit(candidate), r.audit(anchor, name="anchor")


def with_scores(record: Any, metric: str, values: list[float | None]) -> Any:
    scores = {
        name: [row.value for row in record.items if row.metric == name] for name in {x.metric for x in record.items}
    }
    return r.audit(scores | {metric: values}, name=record.name)


def values_of(record: Any, metric: str) -> list[float | None]:
    return [row.value for row in record.items if row.metric == metric]


@given(situations(), st.data())
@settings(max_examples=80, deadline=None)
def test_a_worse_answer_never_improves_the_verdict(situation: tuple[Any, Any, Any], data: Any) -> None:
    policy, candidate, anchor = situation
    metric = data.draw(st.sampled_from([rule.metric for rule in policy.rules]))
    bad = 1.0 if metric in r.LOWER else 0.0
    values = values_of(candidate, metric)
    better = [index for index, value in enumerate(values) if value not in (bad, None)]
    assume(better)
    for index in better[: data.draw(st.integers(1, len(better)))]:
        values[index] = bad
    before = r.verdict(policy, candidate, anchor)
    after = r.verdict(policy, with_scores(candidate, metric, values), anchor)
    assert RANK[after.decision] <= RANK[before.decision]


@given(situations(), st.data())
@settings(max_examples=60, deadline=None)
def test_an_answer_that_cannot_be_scored_never_makes_a_pass(situation: tuple[Any, Any, Any], data: Any) -> None:
    policy, candidate, anchor = situation
    metric = data.draw(st.sampled_from([rule.metric for rule in policy.rules]))
    values = values_of(candidate, metric)
    values[data.draw(st.integers(0, N - 1))] = None
    assume(any(value is not None for value in values))
    before = r.verdict(policy, candidate, anchor)
    after = r.verdict(policy, with_scores(candidate, metric, values), anchor)
    assert after.decision != "PASS" or before.decision == "PASS"


@given(situations(), st.data())
@settings(max_examples=80, deadline=None)
def test_F22_tightening_a_limit_never_turns_anything_into_a_pass(situation: tuple[Any, Any, Any], data: Any) -> None:
    policy, candidate, anchor = situation
    index = data.draw(st.integers(0, len(policy.rules) - 1))
    tighter = policy.rules[index].model_copy(update={"limit": policy.rules[index].limit * data.draw(st.floats(0, 1))})
    rules = [*policy.rules[:index], tighter, *policy.rules[index + 1 :]]
    before = r.verdict(policy, candidate, anchor)
    after = r.verdict(policy.model_copy(update={"rules": tuple(rules)}), candidate, anchor)
    assert RANK[after.decision] <= RANK[before.decision]


@given(situations())
@settings(max_examples=80, deadline=None)
def test_F22_pass_means_that_every_rule_is_finite_and_inside(situation: tuple[Any, Any, Any]) -> None:
    verdict = r.verdict(*situation)
    inside = [
        row.bound is not None and math.isfinite(row.bound) and row.bound <= row.limit and row.n >= 50
        for row in verdict.rules
        if row.decision == "pass"
    ]
    assert all(inside)
    assert (verdict.decision == "PASS") == (len(inside) == len(verdict.rules))
    assert (verdict.decision == "FAIL") == any(row.decision == "fail" for row in verdict.rules)
    for row in verdict.rules:
        assert row.severity == "block" or row.decision != "fail"
        if row.decision in ("fail", "warn"):
            assert row.bound is not None
            assert row.bound >= row.limit - 1e-9


@given(situations(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_of_items_and_rules_is_irrelevant(situation: tuple[Any, Any, Any], chance: random.Random) -> None:
    policy, candidate, anchor = situation
    before = r.verdict(policy, candidate, anchor)
    items, metrics, rules = list(candidate.items), list(candidate.metrics), list(policy.rules)
    for rows in (items, metrics, rules):
        chance.shuffle(rows)
    after = r.verdict(
        policy.model_copy(update={"rules": tuple(rules)}),
        replace(candidate, items=tuple(items), metrics=tuple(metrics)),
        anchor,
    )
    assert after.decision == before.decision
    assert sorted(after.rules, key=lambda row: row.rule) == sorted(before.rules, key=lambda row: row.rule)
    assert after.policy == before.policy


@given(situations(), st.sampled_from(["gone", "nan", "infinite", "unscored", "template", "anchor", "suite"]), st.data())
@settings(max_examples=80, deadline=None)
def test_evidence_that_is_missing_or_of_something_else_never_passes(
    situation: tuple[Any, Any, Any], fault: str, data: Any
) -> None:
    policy, candidate, anchor = situation
    first, *others = candidate.metrics
    if fault == "gone":
        candidate = replace(candidate, metrics=tuple(others))
    elif fault in ("nan", "infinite"):
        value = math.nan if fault == "nan" else data.draw(st.sampled_from([math.inf, -math.inf]))
        candidate = replace(candidate, metrics=(replace(first, value=value), *others))
    elif fault == "unscored":
        candidate = with_scores(candidate, first.metric, [None] * N)
    elif fault == "template":
        candidate = replace(candidate, template={"digest": "other"})
    elif fault == "suite":
        candidate = replace(candidate, suites=(replace(candidate.suites[0], digest="e" * 64),))
    else:
        anchor = None
    try:
        verdict = r.verdict(policy, candidate, anchor)
    except RecordError:
        assert fault in ("template", "suite")
    else:
        assert fault not in ("template", "suite")
        assert verdict.decision != "PASS"


@given(st.integers(0, 10**6), st.floats(-2, 2), st.floats(0, 2), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_a_worse_set_level_value_never_improves_the_verdict(
    seed: int, value: float, worse: float, error: float
) -> None:
    chance = random.Random(seed)
    noise = [chance.gauss(0, 0.1) for _ in range(120)]
    policy = r.policy(r.rule("aqi_log_j", limit=2.0, limit_in="anchor_standard_errors"))
    anchor = r.audit(results=[r.aqi(0.0, [chance.gauss(0, error) for _ in noise])], name="anchor")
    before, after = (
        r.verdict(policy, r.audit(results=[r.aqi(level, [x + level for x in noise])]), anchor)
        for level in (value, value - worse)
    )
    assert RANK[after.decision] <= RANK[before.decision]
