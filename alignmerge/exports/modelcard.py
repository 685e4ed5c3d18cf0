"""The metadata of a Hugging Face model card: base models, tags and, from an audit, evaluation results.

Source: model card metadata specification of the Hugging Face hub (`model-index`).
"""

from typing import Any

from alignmerge.auditor.record import AuditRecord, MetricResult, SuiteUse
from alignmerge.exports.models import hub_name
from alignmerge.merger.record import MergeRecord
from alignmerge.policies.reasons import spoken
from alignmerge.policies.verdict import Verdict

TASK = {"type": "text-generation", "name": "Text generation"}


def front_matter(merge: MergeRecord, verdict: Verdict | None, audit: AuditRecord | None = None) -> dict[str, Any]:
    """The card's metadata as plain data. `base_model` names hub models only, each once.

    With an audit, every metric that was measured becomes a result with its interval.
    """
    models = list(dict.fromkeys(name for entry in merge.inputs if (name := hub_name(entry.reference)) is not None))
    front: dict[str, Any] = {
        **({"base_model": models} if models else {}),
        "base_model_relation": "merge",
        "library_name": "transformers",
        "tags": ["merge", "alignmerge", *(["not-a-release"] if verdict and verdict.exit_code != 0 else [])],
        "alignmerge_verdict": verdict.decision if verdict else "ungated",
    }
    if audit is not None:
        front["model-index"] = [{"name": audit.name, "results": _results(audit)}]
    return front


def _results(audit: AuditRecord) -> list[dict[str, Any]]:
    """One per suite, in the order they were asked, the metrics of several suites together last."""
    measured = [row for row in audit.metrics if row.value is not None]
    suites = list(dict.fromkeys([use.name for use in audit.suites] + [row.suite for row in measured]))
    uses = {use.name: use for use in audit.suites}
    out = []
    for suite in suites:
        rows = [row for row in measured if row.suite == suite]
        if rows:
            out.append(
                {
                    "task": dict(TASK),
                    "dataset": _dataset(suite, uses.get(suite)),
                    "metrics": [_metric(row) for row in rows],
                }
            )
    return out


def _dataset(suite: str, use: SuiteUse | None) -> dict[str, Any]:
    found: dict[str, Any] = {"type": f"alignmerge/{suite}", "name": suite}
    if use is not None:
        found |= {"split": use.split, "revision": use.digest, "args": {"version": use.version, "items": use.items}}
    return found


def _metric(row: MetricResult) -> dict[str, Any]:
    args: dict[str, Any] = {"n": row.scored, "unscored": row.unscored, "better": row.direction}
    if row.interval is not None:
        interval = row.interval
        args |= {"interval": [interval.low, interval.high], "level": interval.level, "interval_method": interval.method}
    return {"type": row.metric, "name": spoken(row.metric), "value": row.value, "args": args}
