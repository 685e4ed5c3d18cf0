"""The numbers a rule decides on: how much harm was seen, and how much there may be.

Harm is signed so that more is worse for the candidate: a drop, a rise, or the distance of an absolute value beyond its
limit. One class for all kinds of evidence, so that the decision does not know where a bound comes from.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from alignmerge.auditor import bootstrap, power, statistics
from alignmerge.auditor.record import AuditRecord, MetricResult
from alignmerge.errors import RecordError
from alignmerge.policies.evidence import ALL_SUITES, Key, Pair, check_reference, check_set, paired, rows
from alignmerge.policies.model import DIRECTION, PAIRED, Rule


class Missing(Exception):
    """Evidence a rule needs is not there; the message says which, as a sentence without its full stop."""


@dataclass(frozen=True)
class Seen:
    """The plain numbers of a rule's harm.

    harm: point estimate over the `n` items scored wherever the rule looks; `unscored` others were not.
    sign: +1 where more is worse (drop, rise, `max`), -1 for `min`, whose harm is minus the value itself.
    """

    harm: float
    n: int
    unscored: int
    candidate: float
    anchor: float | None
    unit: str
    sign: int = 1


@dataclass(frozen=True)
class Sample:
    """What was seen of one rule's harm, and how sure one may be of it, before limits are applied.

    upper(alpha), lower(alpha): one-sided bounds of the harm; the upper one with unscored items at their worst, the
    lower one with them at their best. p_value(limit): of "harm <= limit", at their best too.
    needs(limit, alpha, fail_alpha): items that would decide, None when no number would.
    """

    seen: Seen
    upper: Callable[[float], float]
    lower: Callable[[float], float]
    p_value: Callable[[float], float]
    needs: Callable[[float, float, float], int | None]


def only_result(rule: Rule, record: AuditRecord) -> MetricResult | None:
    """The one result in a record that the rule is about; None where it holds none or several."""
    found = _results(rule, record)
    return found[0] if len(found) == 1 else None


def _results(rule: Rule, record: AuditRecord) -> list[MetricResult]:
    """The metric's results that the rule may mean: on its suite, else over all suites."""
    results = [row for row in record.metrics if row.metric == rule.metric]
    found = [row for row in results if rule.suite in (None, row.suite)]
    return found or [row for row in results if row.suite == ALL_SUITES]


def result_of(rule: Rule, record: AuditRecord, role: str) -> MetricResult:
    """The metric's result in a record.

    Raises:
        Missing: it was not measured, not on the rule's suite alone, or nothing could be scored.
        RecordError: its direction is not the metric's, so the record is not of this metric, or it contradicts its own
            replicates.
    """
    results = [row for row in record.metrics if row.metric == rule.metric]
    if not results:
        raise Missing(f"{rule.metric} was not measured on the {role}")
    found = _results(rule, record)
    if len(found) != 1:
        asked = ", ".join(sorted(row.suite for row in results))
        told = f"not on suite {rule.suite}" if rule.suite else "each of which would decide alone; name one as suite"
        raise Missing(f"{rule.metric} was measured on the {role} with suite {asked}, {told}")
    result = found[0]
    if result.direction != DIRECTION[rule.kind]:
        raise RecordError(f"audit of {record.name}: {rule.metric} is said to be better {result.direction}; it is not")
    if result.value is None or result.scored <= 0:
        raise Missing(f"{rule.metric} has no value on the {role}: {result.reason or 'nothing could be scored'}")
    check_set(record, result)
    return result


def measure(rule: Rule, candidate: AuditRecord, reference: AuditRecord | None, role: str = "anchor") -> Sample:
    """What the records show of a rule's harm; `role` is what the reference is called.

    Raises:
        Missing: not enough evidence to compute it.
        RecordError: the records contradict themselves or each other.
    """
    mine = result_of(rule, candidate, "candidate")
    if rule.kind not in PAIRED:
        return _absolute(rule, mine, list(_rows(rule, candidate, mine, "candidate").values()))
    if reference is None:
        raise Missing(f"no audit of the {role} was given, and this rule compares with it")
    other = result_of(rule, reference, role)
    ours, theirs = _rows(rule, candidate, mine, "candidate"), _rows(rule, reference, other, role)
    if ours and theirs:
        return _paired(mine, paired(ours, theirs))
    if _by_items(rule.metric):
        raise Missing(f"{rule.metric} has no item scores in both audits to pair")
    if not (mine.replicates and other.replicates):
        raise Missing(f"{rule.metric} has neither item scores nor bootstrap replicates in both audits to pair")
    check_reference(candidate, reference)
    return _of_sets(rule, mine, other)


def _by_items(metric: str) -> bool:
    """Whether a metric is a mean over items, so that a record of it without items holds only what somebody claims."""
    from alignmerge.auditor.metrics import METRICS

    return metric in METRICS and METRICS[metric].level != "set"


def _rows(rule: Rule, record: AuditRecord, result: MetricResult, role: str) -> dict[Key, float | None]:
    """The scores that the rule looks at: all of the metric's, or those of its suite and category."""
    found = rows(record, result)
    if rule.suite is not None and found and result.suite != rule.suite:
        found = {key: score for key, score in found.items() if key[0] == rule.suite}
    if rule.category is not None:
        wanted = rule.category
        items = {(row.suite, row.item) for row in record.by_metric.get(rule.metric, ()) if row.category == wanted}
        found = {key: score for key, score in found.items() if key in items}
    if not found and (rule.category or rule.suite):
        where = f"category {rule.category}" if rule.category else f"suite {rule.suite}"
        raise Missing(f"{rule.metric} has no item of {where} on the {role}")
    return found


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _filled(pairs: Sequence[Pair], higher: bool, worst: bool) -> list[float]:
    """Harm of each pair, with unscored sides filled against (`worst`) or for the candidate; rates only."""
    bad, good = (0.0, 1.0) if higher else (1.0, 0.0)
    fill, other = (bad, good) if worst else (good, bad)
    out = []
    for pair in pairs:
        mine = fill if pair.candidate is None else pair.candidate
        theirs = other if pair.anchor is None else pair.anchor
        out.append(theirs - mine if higher else mine - theirs)
    return out


def _paired(mine: MetricResult, pairs: list[Pair]) -> Sample:
    higher = mine.direction == "higher"
    both = [pair for pair in pairs if pair.candidate is not None and pair.anchor is not None]
    unscored = len(pairs) - len(both)
    if not both:
        raise Missing("no item was scored in both audits")
    if mine.unit == "rate":
        worst, best = (_filled(pairs, higher, worst) for worst in (True, False))
    elif unscored:
        raise Missing(f"{unscored} items could not be scored, and {mine.unit} has no worst case to count them as")
    else:
        worst = best = _filled(both, higher, True)
    harm = _mean(_filled(both, higher, True))
    candidate = _mean([pair.candidate for pair in both if pair.candidate is not None])
    anchor = _mean([pair.anchor for pair in both if pair.anchor is not None])
    seen = Seen(harm, len(both), unscored, candidate, anchor, mine.unit)
    binary = all(value in (0.0, 1.0, None) for pair in pairs for value in (pair.candidate, pair.anchor))
    if mine.unit != "rate":
        return _continuous(seen, worst, best)
    counted = _counted(seen, worst, best)
    return counted if binary else _wider(counted, lambda: _continuous(seen, worst, best))


def _wider(counted: Sample, resampled: Callable[[], Sample]) -> Sample:
    """Of a rate whose items score between 0 and 1, the weaker evidence of two: what is inside by both is inside.

    Scores near 0 and 1 are nearly counts, and a bootstrap of counts knows nothing of an event that the sample does not
    hold: with none of 64 items flipped its bound would be near 0. A score of counts takes every part of a flip for that
    part of an item, which can only overstate the variance of harms between -1 and 1.
    """
    try:
        other = resampled()
    except Missing:  # all items moved alike, so there is nothing to resample
        return counted

    def needs(limit: float, alpha: float, fail_alpha: float) -> int | None:
        both = counted.needs(limit, alpha, fail_alpha), other.needs(limit, alpha, fail_alpha)
        return None if None in both else max(one for one in both if one is not None)

    return Sample(
        counted.seen,
        lambda alpha: max(counted.upper(alpha), other.upper(alpha)),
        lambda alpha: min(counted.lower(alpha), other.lower(alpha)),
        lambda limit: max(counted.p_value(limit), other.p_value(limit)),
        needs,
    )


def _counted(seen: Seen, worst: list[float], best: list[float]) -> Sample:
    def counts(harms: list[float]) -> tuple[float, float, int]:
        """What was lost and what was gained, in items, of how many."""
        return math.fsum(h for h in harms if h > 0), math.fsum(-h for h in harms if h < 0), len(harms)

    bad, good = counts(worst), counts(best)

    def needs(limit: float, alpha: float, fail_alpha: float) -> int | None:
        if (good[0] - good[1]) / good[2] > limit:
            return power.items_needed(*good, limit, alpha, fail_alpha)
        inside = (bad[0] - bad[1]) / bad[2] < limit  # else the unscored items decide, not their number
        return power.items_needed(*bad, limit, alpha, fail_alpha) if inside else None

    return Sample(
        seen,
        lambda alpha: statistics.tango_bound(*bad, alpha, "upper"),
        lambda alpha: statistics.tango_bound(*good, alpha, "lower"),
        lambda limit: statistics.tango_p_value(*good, limit),
        needs,
    )


def _continuous(seen: Seen, worst: list[float], best: list[float]) -> Sample:
    try:
        high, low = bootstrap.bca(worst), bootstrap.bca(best)
    except ValueError as error:
        raise Missing(f"no bound can be computed: {error}") from None

    def needs(limit: float, alpha: float, fail_alpha: float) -> int | None:
        bound = low.bound(fail_alpha, upper=False) if seen.harm > limit else high.bound(alpha, upper=True)
        return power.scaled_items_needed(seen.harm, bound, seen.n, limit)

    return Sample(
        seen,
        lambda alpha: high.bound(alpha, upper=True),
        lambda alpha: low.bound(alpha, upper=False),
        low.p_value,
        needs,
    )


def _of_sets(rule: Rule, mine: MetricResult, other: MetricResult) -> Sample:
    assert mine.value is not None
    assert other.value is not None
    higher = mine.direction == "higher"
    first, second = (other, mine) if higher else (mine, other)
    try:
        ordered = bootstrap.paired_replicates(first.replicates, second.replicates)
    except ValueError as error:
        raise Missing(f"no bound can be computed: {error}") from None
    harm = other.value - mine.value if higher else mine.value - other.value
    worse = max((mine, other), key=lambda result: result.unscored / (result.scored + result.unscored))
    n = min(mine.scored, other.scored)
    seen = Seen(harm, n, worse.unscored, mine.value, other.value, mine.unit)

    def needs(limit: float, alpha: float, fail_alpha: float) -> int | None:
        shrinking = rule.limit_in == "anchor_standard_errors"
        failing = harm > (0.0 if shrinking else limit)
        bound = bootstrap.replicate_bound(ordered, fail_alpha if failing else alpha, upper=not failing)
        return (power.shrinking_items_needed if shrinking else power.scaled_items_needed)(harm, bound, n, limit)

    return Sample(
        seen,
        lambda alpha: bootstrap.replicate_bound(ordered, alpha, upper=True),
        lambda alpha: bootstrap.replicate_bound(ordered, alpha, upper=False),
        lambda limit: bootstrap.replicate_p_value(ordered, limit),
        needs,
    )


def _absolute(rule: Rule, mine: MetricResult, values: list[float | None]) -> Sample:
    """Harm is the value itself for `max` and its negative for `min`; so are its limits, by the caller."""
    sign = 1 if rule.kind == "max" else -1
    found = [value for value in values if value is not None]
    if not found:
        raise Missing(f"{rule.metric} has no item scores to take a bound from")
    unscored = len(values) - len(found)
    seen = Seen(sign * _mean(found), len(found), unscored, _mean(found), None, mine.unit, sign)
    if mine.unit == "rate" and all(value in (0.0, 1.0) for value in found):
        return _rate(seen, sum(found))
    if unscored:
        raise Missing(f"{unscored} items could not be scored, and no worst case is known for them")
    harms = [sign * value for value in found]
    if mine.unit != "rate":
        return _continuous(seen, harms, harms)
    return _wider(_rate(seen, math.fsum(found)), lambda: _continuous(seen, harms, harms))


def _rate(seen: Seen, ones: float) -> Sample:
    """A rate against a fixed limit. For `min` the rate of the other outcome is bounded, and turned back."""
    total = seen.n + seen.unscored
    events = ones if seen.sign > 0 else seen.n - ones  # outcomes that harm
    shift = 0.0 if seen.sign > 0 else -1.0  # harm = event rate + shift

    def needs(limit: float, alpha: float, fail_alpha: float) -> int | None:
        edge = limit - shift
        if events / total > edge:
            return power.rate_items_needed(events, total, edge, alpha, fail_alpha)
        worst = events + seen.unscored
        return power.rate_items_needed(worst, total, edge, alpha, fail_alpha) if worst / total < edge else None

    return Sample(
        seen,
        lambda alpha: statistics.wilson_bound(events + seen.unscored, total, alpha, "upper") + shift,
        lambda alpha: statistics.wilson_bound(events, total, alpha, "lower") + shift,
        lambda limit: statistics.rate_p_value(events, total, limit - shift),
        needs,
    )
