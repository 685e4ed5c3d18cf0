"""Which audit records may be compared, and the pairs of scores a rule looks at.

An item that could not be scored is not dropped: for passing it counts as the worst case against the candidate, for
failing as the best. So an answer nobody can read never helps, and never convicts either.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from alignmerge import jsonio
from alignmerge.auditor.record import AuditRecord, MetricResult, SuiteUse
from alignmerge.errors import RecordError

Key = tuple[str, str]  # suite, item
_TOLERANCE = 1e-6
_ROUNDING = 1e-9  # of a deviation of replicates that are all equal
_PART = re.compile(r"#\d+$")  # a row of a metric that scores the parts of an item: `ITEM#0`, `ITEM#1`
# Methods, budgets and readers may choose on the other splits; only here has nothing been chosen.
DECIDING_SPLIT = "test"
ALL_SUITES = "all"  # the suite of a metric whose items come from several
SAME_CHECKPOINT = "candidate and anchor are the same checkpoint"


class Pair(NamedTuple):
    """One item's harm: candidate's score and, for a paired rule, the anchor's. None: could not be scored."""

    candidate: float | None
    anchor: float | None


def cleaned(record: AuditRecord) -> AuditRecord:
    """The record with numbers that are not finite taken out, as if they had not been measured.

    Files cannot hold them; a record made in memory can.
    """
    return replace(record, metrics=tuple(_cleaned(result) for result in record.metrics))


def _cleaned(result: MetricResult) -> MetricResult:
    numbers = [result.value, result.standard_error, *result.replicates]
    if result.interval is not None:
        numbers += [result.interval.low, result.interval.high]
    if all(number is None or math.isfinite(number) for number in numbers):
        return result
    return replace(
        result,
        value=None,
        interval=None,
        standard_error=None,
        replicates=(),
        reason="a value of this metric is not a finite number",
    )


def _digest(part: Mapping[str, Any], what: str, record: AuditRecord) -> str:
    value = part.get("digest")
    if not isinstance(value, str) or not value:
        raise RecordError(f"audit of {record.name}: {what} has no digest, so it cannot be compared; audit again")
    return value


def check_comparable(candidate: AuditRecord, anchor: AuditRecord) -> None:
    """Nothing, when both records asked the same items in the same way.

    Raises:
        RecordError: the template, a shared suite or its sampling, or a grader whose metric both measured differ; the
            message names the first difference.
    """
    pairs = f"the audits of {candidate.name} and {anchor.name}"
    if _digest(candidate.template, "template", candidate) != _digest(anchor.template, "template", anchor):
        raise RecordError(f"{pairs} used another template; audit both with the same one")
    _check_sampling(pairs, candidate, anchor)
    if jsonio.digest(candidate.engine.get("judge")) != jsonio.digest(anchor.engine.get("judge")):
        raise RecordError(f"{pairs} used another judge; audit both with the same one")
    suites = {suite.name: suite for suite in anchor.suites}
    for suite in candidate.suites:
        other = suites.get(suite.name)
        if other is not None and (suite.version, suite.split, suite.digest) != (
            other.version,
            other.split,
            other.digest,
        ):
            raise RecordError(f"{pairs} asked other items of suite {suite.name!r}; audit both on the same items")
    _check_graders(pairs, candidate, anchor)


def _check_sampling(pairs: str, candidate: AuditRecord, anchor: AuditRecord) -> None:
    """A suite that one record alone asked leaves nothing to compare: its items count as unscored."""
    digests = [_digest(record.sampling, "sampling", record) for record in (candidate, anchor)]
    if digests[0] == digests[1]:
        return
    parts = [record.sampling.get("suites") for record in (candidate, anchor)]
    mine, theirs = parts
    if not isinstance(mine, Mapping) or not isinstance(theirs, Mapping) or digests != [jsonio.digest(p) for p in parts]:
        raise RecordError(f"{pairs} used another sampling; audit both with the same one")
    for name in sorted(mine.keys() & theirs.keys()):
        if jsonio.digest(mine[name]) != jsonio.digest(theirs[name]):
            raise RecordError(f"{pairs} used another sampling for suite {name!r}; audit both with the same one")


def _check_graders(pairs: str, candidate: AuditRecord, anchor: AuditRecord) -> None:
    for name in sorted(candidate.graders.keys() & anchor.graders.keys()):
        digests = {_digest(record.graders[name], f"grader {name}", record) for record in (candidate, anchor)}
        shared = [metric for metric in _measured_by(name, candidate) if metric in _measured_by(name, anchor)]
        if len(digests) > 1 and shared:
            raise RecordError(f"{pairs} had {shared[0]} read by another {name}; audit both with the same one")


def _measured_by(grader: str, record: AuditRecord) -> list[str]:
    filled = record.graders[grader].get("metrics")
    if not isinstance(filled, list | tuple):
        raise RecordError(f"audit of {record.name}: grader {grader} names no metrics; audit again")
    return [row.metric for row in record.metrics if row.metric in filled and row.value is not None]


def other_split(candidate: AuditRecord, other: AuditRecord | None, name: str = "anchor") -> str:
    """Why no rule may be decided on these records: the first that did not ask the test split; empty when both did."""
    for role, record in (("candidate", candidate), (name, other)):
        for suite in record.suites if record is not None else ():
            if suite.split != DECIDING_SPLIT:
                return (
                    f"the audit of the {role} asked the {suite.split} split of suite {suite.name}; "
                    f"rules are decided on the {DECIDING_SPLIT} split alone"
                )
    return ""


def check_reference(candidate: AuditRecord, anchor: AuditRecord) -> None:
    """Nothing, when set-level values of both rest on the same frozen reference (AQI's layer weights).

    Raises:
        RecordError: they do not, so their difference has no meaning.
    """
    if jsonio.digest(candidate.aqi_reference) != jsonio.digest(anchor.aqi_reference):
        raise RecordError(
            f"the AQI values of {candidate.name} and {anchor.name} rest on different layer weights; "
            "audit the candidate with the anchor's reference"
        )


def rows(record: AuditRecord, result: MetricResult) -> dict[Key, float | None]:
    """Score of each item of a metric on its suite, None where it could not be scored, in the order of the keys.

    Raises:
        RecordError: an item twice, of a suite that the record does not name, more items than that suite was asked, or a
            summary that contradicts its items.
    """
    scores: dict[Key, float | None] = {}
    everywhere, rate = result.suite == ALL_SUITES, result.unit == "rate"
    for row in record.by_metric.get(result.metric, ()):
        if everywhere or row.suite == result.suite:
            key = (row.suite, row.item)
            if key in scores:
                raise RecordError(f"audit of {record.name}: item {key} of {result.metric} is there twice")
            if rate and row.value is not None and not 0.0 <= row.value <= 1.0:
                raise RecordError(f"audit of {record.name}: item {key}: {row.value} is not a rate in [0, 1]")
            scores[key] = row.value
    found = [value for value in scores.values() if value is not None]
    if stray := {suite for suite, _ in scores} - {use.name for use in record.suites}:
        raise RecordError(
            f"audit of {record.name}: it holds items of suite {min(stray)!r}, which it does not name; audit again"
        )
    if scores:
        _check_asked(record, result.metric, scores)
        _check_summary(record, result, found, len(scores))
    return dict(sorted(scores.items()))


def _check_asked(record: AuditRecord, metric: str, scores: Mapping[Key, float | None]) -> None:
    counts = Counter(suite for suite, _ in scores)
    for use in record.suites:
        if counts[use.name] > use.items:
            found = len({_PART.sub("", item) for suite, item in scores if suite == use.name})
            _check_count(record, metric, use, found)


def _check_count(record: AuditRecord, metric: str, use: SuiteUse, found: int) -> None:
    if found > use.items:
        raise RecordError(
            f"audit of {record.name}: {metric} is of {found} items of suite {use.name!r}, of which only {use.items} "
            "were asked; audit again"
        )


def check_set(record: AuditRecord, result: MetricResult) -> None:
    """Nothing, when a set-level result agrees with its own replicates and with what was asked.

    Where the value lies among the replicates says nothing: resampling pairs moves a separation.

    Raises:
        RecordError: its standard error is not their standard deviation, or it counts more pairs than were asked.
    """
    values, error = result.replicates, result.standard_error
    if len(values) < 2:
        return
    if error is not None:
        mean = math.fsum(values) / len(values)
        deviation = math.dist(values, [mean] * len(values)) / math.sqrt(len(values) - 1)
        if not math.isclose(error, deviation, rel_tol=_TOLERANCE, abs_tol=_ROUNDING):
            raise RecordError(
                f"audit of {record.name}: the standard error of {result.metric} is {error:.6g}, the standard deviation "
                f"of its replicates {deviation:.6g}; audit again"
            )
    for use in record.suites:
        if use.name in (result.suite, *result.suite.split("/")):  # pairs of `SUITE/SUITE`
            _check_count(record, result.metric, use, result.scored + result.unscored)


def _check_summary(record: AuditRecord, result: MetricResult, found: list[float], total: int) -> None:
    agrees = (result.scored, result.unscored) == (len(found), total - len(found))
    if agrees and result.value is not None and found:
        agrees = abs(result.value - math.fsum(found) / len(found)) <= _TOLERANCE
    if not agrees:
        raise RecordError(f"audit of {record.name}: the summary of {result.metric} contradicts its items; audit again")


def paired(candidate: Mapping[Key, float | None], anchor: Mapping[Key, float | None]) -> list[Pair]:
    """One pair per item that either record holds, in the order of the keys."""
    keys = sorted(candidate if candidate.keys() == anchor.keys() else candidate.keys() | anchor.keys())
    return [Pair(candidate.get(key), anchor.get(key)) for key in keys]
