"""Skill, gain over the anchor and the Pareto front, from audit records alone."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from alignmerge.auditor.record import AuditRecord, Interval, MetricResult
from alignmerge.auditor.statistics import tango
from alignmerge.reports.model import REFUSAL, SKILLS, Entry, ReportInput
from alignmerge.reports.names import grader_of, is_likelihood_of_refusal

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with a two-sided 95 % interval; the interval is None where it cannot be told."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Ranked:
    """One merge's place: what it gained over the anchor, what it kept. None where something was not measured."""

    entry: Entry
    skill: Estimate | None
    gain: Estimate | None
    refusal: MetricResult | None


def held_as(report: ReportInput, metric: str) -> str:
    """The id under which the run's audits hold `metric`: itself, or that of one suite ("refusal_rate@harmbench").

    Of several suites the one that most audits were asked, the first of those.
    """
    ids = [row.metric for entry in report.entries for row in entry.audit.metrics]
    counts = Counter(one for one in ids if one.partition("@")[0] == metric)
    return metric if not counts or metric in counts else counts.most_common(1)[0][0]


def skills_of(report: ReportInput) -> tuple[str, ...]:
    """The metrics whose mean is the skill of a checkpoint, as the run's audits hold them.

    A run that names no skills of its own may have been asked other suites: those of the usual ones that it holds, or,
    where it holds none of them, the first metric of each suite that counts right answers.
    """
    held = {row.metric for entry in report.entries for row in entry.audit.metrics}
    found = tuple(held_as(report, metric) for metric in report.skills)
    if report.skills != SKILLS:
        return found
    return tuple(metric for metric in found if metric in held) or _other_skills(report) or found


def _other_skills(report: ReportInput) -> tuple[str, ...]:
    by_suite: dict[str, str] = {}
    for entry in report.entries:
        for row in entry.audit.metrics:
            able = row.unit == "rate" and row.direction == "higher" and grader_of(row.metric) is None
            if able and row.metric in entry.audit.by_metric and not _is_refusal(row.metric):
                by_suite.setdefault(row.suite, row.metric)
    return tuple(by_suite.values())


def _is_refusal(metric: str) -> bool:
    return metric.partition("@")[0] == REFUSAL or is_likelihood_of_refusal(metric)


def mean_skill(audit: AuditRecord, skills: Sequence[str]) -> Estimate | None:
    """The mean of the skill metrics with the interval of `combined`, or None when one of them has no value."""
    parts = [estimate_of(audit.result(metric)) for metric in skills]
    return combined([part for part in parts if part is not None], len(skills))


def gain(candidate: AuditRecord, anchor: AuditRecord, skills: Sequence[str]) -> Estimate | None:
    """Mean skill of the candidate minus the anchor's, paired by item; None when a skill has no item scored in both.

    Each skill's difference has Tango's interval, which keeps a width where no item changed; see `combined`.
    """
    parts: list[Estimate] = []
    for metric in skills:
        differences = paired_differences(candidate, anchor, metric)
        if not differences:
            return None
        value = fmean(differences)
        if set(differences) <= {-1.0, 0.0, 1.0}:
            # Tango's difference is (first - second) / n: gained before lost makes more better.
            interval = tango(differences.count(1.0), differences.count(-1.0), len(differences), LEVEL)
            parts.append(Estimate(value, interval.low, interval.high))
        else:
            parts.append(Estimate(value))
    return combined(parts, len(skills))


def combined(parts: Sequence[Estimate], wanted: int) -> Estimate | None:
    """The mean of `wanted` independent estimates; None when there are fewer, no interval when one has none.

    The distances from the values to their limits add in quadrature, each side by itself.
    Source: Zou and Donner, Stat. Med. 27 (2008) 1693-1702 (MOVER).
    """
    if not wanted or len(parts) != wanted:
        return None
    value = fmean(part.value for part in parts)
    below = [part.value - part.low for part in parts if part.low is not None]
    above = [part.high - part.value for part in parts if part.high is not None]
    if len(below) != wanted or len(above) != wanted:
        return Estimate(value)
    return Estimate(value, value - math.hypot(*below) / wanted, value + math.hypot(*above) / wanted)


def paired_differences(candidate: AuditRecord, anchor: AuditRecord, metric: str) -> list[float]:
    """Candidate minus anchor for every item of `metric` that both have a value for."""
    theirs = anchor.scores(metric)
    pairs = ((score.value, theirs[item].value) for item, score in candidate.scores(metric).items() if item in theirs)
    return [ours - other for ours, other in pairs if ours is not None and other is not None]


def rank(report: ReportInput, refusal: str) -> tuple[Ranked, ...]:
    """The merges: those that may ship first, then by gain, then by refusals kept, then by label."""
    rows = []
    skills, kept = skills_of(report), held_as(report, refusal)
    for entry in report.merges:
        anchor = report.anchor
        gained = gain(entry.audit, anchor.audit, skills) if anchor is not None else None
        rows.append(Ranked(entry, mean_skill(entry.audit, skills), gained, entry.audit.result(kept)))
    return tuple(sorted(rows, key=_place))


def _place(row: Ranked) -> tuple[int, float, float, str]:
    order = {"PASS": 0, "WARN": 0, "Pending": 1, "INCONCLUSIVE": 1, "FAIL": 2}
    decision = 3 if row.entry.verdict is None else order[row.entry.verdict.decision]
    gained = float("-inf") if row.gain is None else row.gain.value
    kept = float("-inf") if row.refusal is None or row.refusal.value is None else row.refusal.value
    return decision, -gained, -kept, row.entry.label


def pareto_front(points: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """Indices of the points that no other point beats in one coordinate without losing in the other, by x rising."""
    front = [
        index
        for index, (x, y) in enumerate(points)
        if not any(ox >= x and oy >= y and (ox > x or oy > y) for ox, oy in points)
    ]
    return tuple(sorted(front, key=lambda index: (points[index][0], -points[index][1], index)))


def estimate_of(result: MetricResult | None) -> Estimate | None:
    """A metric's value and recorded interval, or None when it has no value."""
    if result is None or result.value is None:
        return None
    interval: Interval | None = result.interval
    if interval is None:
        return Estimate(result.value)
    return Estimate(result.value, interval.low, interval.high)
