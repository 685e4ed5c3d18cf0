"""F11: nothing asked, or nothing that could be scored, is missing evidence: exit 4, never a rate of 0 that passes."""

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

r = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "unit/policies/records.py")))
# For a lower-is-better rate an empty mean of 0 would be the best value there is.
METRIC = "degeneration_rate"
GOOD = r.audit({METRIC: r.ones(0, 320)})
EMPTY = r.audit({METRIC: []})
UNSCORED = r.audit({METRIC: [None] * 320})
RULES = {
    "rise": r.rule(METRIC),
    "ceiling": r.rule(METRIC, kind="max", limit=0.5),
    "one item is enough": r.rule(METRIC, min_items=1, limit=1.0),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("bad", [EMPTY, UNSCORED], ids=["empty", "unscored"])
@pytest.mark.parametrize("severity", ["block", "warn"])
def test_F11_no_scored_items_never_pass(rule: dict[str, Any], bad: Any, severity: str) -> None:
    policy = r.policy(rule | {"severity": severity})
    assert r.verdict(policy, GOOD, GOOD).decision == "PASS"
    verdict = r.verdict(policy, bad, GOOD)
    assert (verdict.decision, verdict.exit_code) == ("INCONCLUSIVE", 4)
    assert (verdict.rules[0].value, verdict.rules[0].n) == (None, 0)
    if rule["kind"] == "max_rise":
        assert r.verdict(policy, GOOD, bad).exit_code == 4
        assert r.verdict(policy, bad, bad).exit_code == 4


def test_F11_a_value_claimed_for_no_items_never_passes() -> None:
    claimed = replace(EMPTY.metrics[0], value=0.0)
    policy = r.policy(RULES["ceiling"])
    assert r.verdict(policy, replace(EMPTY, metrics=(claimed,)), None).exit_code == 4
    more = replace(claimed, scored=320)
    assert r.verdict(policy, replace(EMPTY, metrics=(more,)), None).exit_code == 4


def test_F11_a_set_of_no_items_never_passes() -> None:
    policy = r.policy(r.rule("aqi_log_j", limit=2.0, min_items=1))
    replicates = [0.0] * 200
    good = r.audit(results=[r.aqi(1.0, replicates)])
    assert r.verdict(policy, good, good).decision == "PASS"
    assert r.verdict(policy, r.audit(results=[r.aqi(1.0, replicates, scored=0)]), good).exit_code == 4


def test_F11_pairs_without_a_common_scored_item_never_pass() -> None:
    first = r.audit({METRIC: [0.0] * 160 + [None] * 160})
    second = r.audit({METRIC: [None] * 160 + [0.0] * 160})
    policy = r.policy(r.rule(METRIC, min_items=1, limit=1.0))
    verdict = r.verdict(policy, first, second)
    assert verdict.exit_code == 4
    assert verdict.rules[0].reason == "no item was scored in both audits"
