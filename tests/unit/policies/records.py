"""Audit records and policies made by hand, for tests of the decision.

Loaded by path (`runpy.run_path`), because the name `tests` may belong to another package where these run.
"""

import math
import statistics
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from alignmerge.auditor.record import AuditRecord, ItemScore, MetricResult, SuiteUse
from alignmerge.policies.schema import Policy
from alignmerge.policies.verdict import Verdict

LOWER = {"over_refusal_rate", "degeneration_rate", "toxicity", "insult", "threat", "obscene"}
METRICS: dict[str, Any] = {
    name: SimpleNamespace(direction="lower" if name in LOWER else "higher", unit="rate")
    for name in ("refusal_rate", "arithmetic_accuracy", "pairwise_win_rate", "judged_harmless_rate", *sorted(LOWER))
} | {
    "aqi_log_j": SimpleNamespace(direction="higher", unit="log"),
    "answer_score": SimpleNamespace(direction="higher", unit="points"),
}
CREATED = "2026-01-31T12:00:00+00:00"


def ones(good: int, total: int) -> list[float | None]:
    """`total` scores of which the first `good` are 1."""
    return [1.0] * good + [0.0] * (total - good)


def result(metric: str, scores: Sequence[float | None], **changes: Any) -> MetricResult:
    """The summary of a metric's item scores."""
    found = [score for score in scores if score is not None]
    fields: dict[str, Any] = {
        "metric": metric,
        "suite": "s",
        "unit": METRICS[metric].unit,
        "direction": METRICS[metric].direction,
        "value": sum(found) / len(found) if found else None,
        "scored": len(found),
        "unscored": len(scores) - len(found),
    }
    return MetricResult(**(fields | changes))


def item(metric: str, name: str, score: float | None) -> ItemScore:
    """One row of a record."""
    unscored = "no answer" if score is None else None
    return ItemScore("s", name, metric, score, unscored, "prompt", "answer", "stop", "c")


def audit(
    scores: dict[str, Sequence[float | None]] | None = None,
    results: Sequence[MetricResult] = (),
    name: str = "merge",
    **changes: Any,
) -> AuditRecord:
    """A record with item scores per metric, plus summaries of set-level metrics."""
    scores = scores or {}
    metrics = [result(metric, values) for metric, values in scores.items()] + list(results)
    fields: dict[str, Any] = {
        "checkpoint": name.encode().hex().ljust(64, "0")[:64],
        "name": name,
        "suites": (SuiteUse("s", "1", "d" * 64, "test", 10_000, 10_000),),
        "metrics": tuple(metrics),
        "items": tuple(
            item(metric, f"i{index:04d}", score)
            for metric, values in scores.items()
            for index, score in enumerate(values)
        ),
        "template": {"digest": "t"},
        "sampling": {"digest": "p"},
        "engine": {"digest": "e", "kind": "transformers"},
        "seed": 0,
        "software": {},
        "created": CREATED,
    }
    return AuditRecord(**(fields | changes))


def aqi(value: float | None, replicates: Sequence[float] = (), **changes: Any) -> MetricResult:
    """A set-level result; 320 items, a passed validity gate and its own standard error unless told otherwise."""
    usable = len(replicates) > 1 and all(math.isfinite(one) for one in replicates)
    fields: dict[str, Any] = {
        "value": value,
        "replicates": tuple(replicates),
        "standard_error": statistics.stdev(replicates) if usable else None,
        "valid": True,
        "scored": 320,
        "unscored": 0,
    }
    return result("aqi_log_j", [], **(fields | changes))


def rule(metric: str = "refusal_rate", **changes: Any) -> dict[str, Any]:
    """A blocking rule of 0.05 on 64 items."""
    info = METRICS[metric]
    fields: dict[str, Any] = {
        "id": metric.replace("_", "-"),
        "metric": metric,
        "kind": "max_drop" if info.direction == "higher" else "max_rise",
        "limit": 0.05,
        "min_items": 64,
    }
    return fields | changes


def policy(*rules: dict[str, Any], **changes: Any) -> Policy:
    """A policy of these rules."""
    fields: dict[str, Any] = {"schema": "alignmerge.policy/1", "name": "p", "summary": "s", "rules": tuple(rules)}
    return Policy.model_validate(fields | changes)


def verdict(rules: Policy, candidate: AuditRecord, anchor: AuditRecord | None, **changes: Any) -> Verdict:
    """The decision, at a fixed time and version."""
    from alignmerge.policies.decide import decide

    return decide(rules, candidate, anchor, created=CREATED, version="0", **changes)
