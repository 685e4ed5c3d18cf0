"""F10: a metric that is NaN, None or infinite is missing evidence: exit 4 (5 at a file's edge), never a pass."""

import json
import math
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignmerge.auditor.record import save
from alignmerge.cli import main
from alignmerge.policies.schema import load_policy

r = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "unit/policies/records.py")))
POLICY = r.policy(r.rule())
GOOD = r.audit({"refusal_rate": r.ones(320, 320)})


def spoilt(record: Any, value: float | None) -> Any:
    return replace(record, metrics=(replace(record.metrics[0], value=value),))


@pytest.mark.parametrize("value", [math.nan, None, math.inf, -math.inf])
@pytest.mark.parametrize("severity", ["block", "warn"])
def test_F10_not_a_number_never_passes(value: float | None, severity: str) -> None:
    policy = r.policy(r.rule(severity=severity))
    assert r.verdict(policy, GOOD, GOOD).decision == "PASS"
    for candidate, anchor in ((spoilt(GOOD, value), GOOD), (GOOD, spoilt(GOOD, value))):
        verdict = r.verdict(policy, candidate, anchor)
        assert (verdict.decision, verdict.exit_code) == ("INCONCLUSIVE", 4)
        assert verdict.rules[0].decision == "inconclusive"
        assert verdict.rules[0].bound is None


@pytest.mark.parametrize("spoil", [math.nan, math.inf, -math.inf])
def test_F10_one_replicate_that_is_not_a_number_never_passes(spoil: float) -> None:
    policy = r.policy(r.rule("aqi_log_j", limit=2.0, limit_in="anchor_standard_errors"))
    good = [0.001 * index for index in range(200)]
    record = r.audit(results=[r.aqi(1.0, good)])
    assert r.verdict(policy, record, record).decision == "PASS"
    assert r.verdict(policy, r.audit(results=[r.aqi(1.0, [spoil, *good[1:]])]), record).exit_code == 4
    assert r.verdict(policy, record, r.audit(results=[r.aqi(1.0, good, standard_error=spoil)])).exit_code == 4


def gate(folder: Path, *extra: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["gate", str(folder), "--policy", "demo", "--anchor", str(folder), *extra])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def complete_audit() -> Any:
    metrics = {rule.metric for rule in load_policy("demo").rules} - {"aqi_log_j"}
    scores = {metric: r.ones(64, 64) for metric in sorted(metrics & set(r.METRICS))}
    record = r.audit(scores, [r.aqi(1.0, [0.001 * index for index in range(200)])])
    following = [
        replace(row, metric="instruction_following_rate") for row in record.items if row.metric == "refusal_rate"
    ]
    summary = replace(next(row for row in record.metrics if row.metric == "refusal_rate"), metric=following[0].metric)
    return replace(record, items=(*record.items, *following), metrics=(*record.metrics, summary))


@pytest.mark.parametrize(("written", "code"), [("1.0", 0), ("null", 4), ("NaN", 5), ("Infinity", 5), ("1e999", 5)])
def test_F10_from_files(tmp_path: Path, written: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(complete_audit(), tmp_path)
    value = json.loads(path.read_text())
    (row,) = (row for row in value["metrics"] if row["metric"] == "refusal_rate")
    row["value"] = "HERE"
    path.write_text(json.dumps(value).replace('"HERE"', written))
    assert gate(tmp_path) == code
    if code != 0:
        assert "PASS:" not in capsys.readouterr().out
