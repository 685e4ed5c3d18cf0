"""Whether an audit may be used as evidence at all: how old it is, whose word its digest is, and who graded it."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from alignmerge.auditor import foreign
from alignmerge.auditor.record import AuditRecord
from alignmerge.policies.model import Evidence, Policy, Rule

DETOXIFY = "detoxify"
JUDGE = "judge"
PAIRWISE = "judge_pairwise"
HASHED = ("transformers", "vllm")  # engines that load the files whose manifest names the record


def moment(text: str) -> datetime | None:
    """The time that ISO text says, in UTC (taken as UTC where it names no zone); None if it says none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def age_problem(created: str, max_days: int | None, now: str) -> str:
    """Why something made at `created` is too old, as the rest of a sentence; empty when it is not."""
    if max_days is None:
        return ""
    then, today = moment(created), moment(now)
    if then is None or today is None:
        return f"has no usable date ({created!r}), and the policy takes nothing older than {max_days} days"
    age = (today - then).total_seconds() / 86400
    if age < -1:  # clocks of two machines may differ, not by a day
        return f"is dated {created[:10]}, in the future"
    return f"is {math.floor(age)} days old; the policy takes at most {max_days}" if age > max_days else ""


def declared(record: AuditRecord) -> bool:
    """Whether the record's digest is somebody's word: it was imported, or a server answered whose weights nobody here
    has hashed. An engine that is not known, or not named, counts as such.
    """
    return record.engine.get("kind") not in HASHED


def taken_in(record: AuditRecord, metric: str) -> bool:
    """Whether the metric was read from another tool's files and put beside what was measured here."""
    return foreign.meaning(metric) is not None and any(
        one.get("declared", True) for one in record.engine.get("imported", ())
    )


def stale(policy: Policy, records: Mapping[str, AuditRecord], now: str) -> str:
    """Why no rule may be decided on these records, by role, at the time `now`; empty when they are young enough."""
    for role, record in records.items():
        if problem := age_problem(record.created, policy.max_age_days, now):
            return f"the audit of the {role} {problem}; audit again"
    return ""


def refused(policy: Policy, rule: Rule, role: str, record: AuditRecord, anchor: AuditRecord | None) -> str:
    """Why this rule may not use the record; empty when it may. anchor: that the candidate is measured from."""
    if (declared(record) or taken_in(record, rule.metric)) and rule.evidence != "declared":
        return f"the digest of the {role} is declared, not computed from its weights, and this rule wants it measured"
    for name, grader in sorted(record.graders.items()):
        read = name.startswith(JUDGE) and rule.metric in grader.get("metrics", ())
        if read and (problem := judge_problem(grader, policy.judge_floor)):
            return f"{rule.metric} of the {role} does not count: {problem}"
    problem = _ungraded(rule.metric, record, anchor)
    return problem and f"{rule.metric} of the {role} does not count: {problem}"


def _ungraded(metric: str, record: AuditRecord, anchor: AuditRecord | None) -> str:
    """Why nobody is known to have read a graded metric, or to have compared it with this anchor; empty otherwise."""
    from alignmerge.auditor.metrics import METRICS

    name = METRICS[metric].grader if metric in METRICS else None
    if name is None:
        return ""
    grader = record.graders.get(name)
    if grader is None or metric not in grader.get("metrics", ()):
        found = record.result(metric)
        unscored = found.reason if found is not None and found.value is None else None
        return unscored or f"the record does not say which {name} read it"
    if name != PAIRWISE:
        return ""
    if anchor is None:
        return "no audit of the anchor was given, and it compares with one"
    if grader.get("anchor") == anchor.checkpoint:
        return ""
    return f"it compares with {str(grader.get('anchor'))[:12]}, not with the anchor {anchor.checkpoint[:12]}"


def judge_problem(grader: Mapping[str, Any], floor: float | None) -> str:
    """Why a judge is not trusted: it has not shown that it agrees with people, or judges itself; empty when it is."""
    if floor is None:
        return "the policy has no judge_floor, so no judge is trusted"
    exam = grader.get("exam")
    if not isinstance(exam, Mapping):
        return "the record holds no exam of the judge"
    kappa = exam.get("kappa_lower")
    if not isinstance(kappa, int | float) or isinstance(kappa, bool) or not math.isfinite(kappa):
        return "the record holds no exam of the judge"
    if kappa < floor:
        return f"the judge's agreement with people (kappa) is at least {kappa:.3g}; the policy wants {floor:g}"
    if exam.get("passed") is not True:
        return "the judge did not pass its exam"
    return "" if grader.get("self_judging", False) is False else "the judge is the candidate itself"


def evidence_problem(policy: Policy, evidence: Evidence, candidate: AuditRecord, now: str) -> tuple[str, str]:
    """What is there and what is wrong with it: one of both is empty. For evidence that lies in an audit."""
    if evidence.kind == "judge_exam":
        judges = {name: one for name, one in candidate.graders.items() if name.startswith(JUDGE)}
        if not judges:
            return "", "no judge read the candidate's answers"
        for name in sorted(judges):
            if problem := judge_problem(judges[name], policy.judge_floor):
                return "", problem
        if not any(_readings(candidate, name) for name in judges):
            return "", "the judge was examined, and the record holds no answer that it read"
        found = f"the judge passed its exam at {policy.judge_floor:g}"
    else:
        filled = candidate.graders.get(DETOXIFY, {}).get("metrics", ())
        if not isinstance(filled, list | tuple) or not all(isinstance(name, str) for name in filled):
            return "", "the record does not say which metrics Detoxify measured"
        measured = _readings(candidate, DETOXIFY)
        if not measured:
            return "", "Detoxify did not read the candidate's answers"
        found = f"Detoxify measured {', '.join(sorted(measured)[:3])}"
    problem = age_problem(candidate.created, evidence.max_age_days, now)
    return (found, "") if not problem else ("", f"the audit of the candidate {problem}")


def _readings(record: AuditRecord, grader: str) -> list[str]:
    """The metrics of this grader that the record says it filled and holds scored answers of."""
    from alignmerge.auditor.metrics import METRICS

    named = record.graders.get(grader, {}).get("metrics", ())
    filled = [name for name in named if isinstance(name, str)] if isinstance(named, list | tuple) else []
    own = [name for name in filled if name in METRICS and METRICS[name].grader == grader]
    return [name for name in own if any(row.value is not None for row in record.by_metric.get(name, ()))]
