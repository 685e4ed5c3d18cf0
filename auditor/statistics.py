"""Intervals, bounds and tests for rates: single (Wilson) and paired (Tango), and Holm's correction.

Notable decisions:
- A paired difference is written as `losses - gains` over all pairs: positive is worse for the candidate.
- Score methods, because they keep a width when no pair changes: a bootstrap would call 0 of 64 certain.
- Counts may be fractions: `power.py` asks what a larger sample with the same rates would show.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Literal, TypeVar

from alignmerge.auditor.record import Interval

Key = TypeVar("Key")
Side = Literal["lower", "upper"]
_STEPS = 60


def normal_quantile(probability: float) -> float:
    """The standard normal's quantile. Raises ValueError outside (0, 1)."""
    if not 0.0 < probability < 1.0:
        raise ValueError(f"a probability inside (0, 1) is needed, not {probability}")
    return NormalDist().inv_cdf(probability)


def upper_tail(z: float) -> float:
    """P(Z >= z) of a standard normal, accurate far out."""
    return 0.5 * math.erfc(z / math.sqrt(2.0))


def _check_counts(n: float, *parts: float) -> None:
    if not (math.isfinite(n) and n > 0):
        raise ValueError(f"at least one item is needed, not {n}")
    if not all(math.isfinite(part) and part >= 0 for part in parts) or sum(parts) > n * (1 + 1e-12):
        raise ValueError(f"counts {parts} do not fit into {n} items")


def wilson_bound(successes: float, n: float, alpha: float, side: Side) -> float:
    """One-sided score bound at confidence 1 - alpha of a rate in [0, 1].

    Source: Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212.
    """
    _check_counts(n, successes)
    z = normal_quantile(1.0 - alpha)
    rate = successes / n
    centre = rate + z * z / (2 * n)
    half = z * math.sqrt(max(rate * (1 - rate), 0.0) / n + (z / (2 * n)) ** 2)
    if side == "upper":
        return 1.0 if successes >= n else min((centre + half) / (1 + z * z / n), 1.0)
    return 0.0 if successes <= 0 else max((centre - half) / (1 + z * z / n), 0.0)


def wilson(successes: float, n: float, level: float = 0.95) -> Interval:
    """Two-sided score interval of a rate in [0, 1]."""
    alpha = (1.0 - level) / 2.0
    low, high = (wilson_bound(successes, n, alpha, side) for side in ("lower", "upper"))
    return Interval(low, high, level, "wilson")


def rate_p_value(successes: float, n: float, limit: float) -> float:
    """One-sided p-value of "the rate is at most `limit`" (score test, the inverse of `wilson_bound`)."""
    _check_counts(n, successes)
    excess = successes / n - limit
    variance = limit * (1.0 - limit) / n
    if variance <= 0.0:
        return 0.0 if excess > 0 else 1.0
    return upper_tail(excess / math.sqrt(variance))


def tango_statistic(losses: float, gains: float, n: float, difference: float) -> float:
    """Score statistic of "the paired difference is `difference`"; falls as `difference` rises.

    losses, gains: discordant pairs against and for the candidate, out of `n` pairs; estimate (losses - gains) / n.
    The nuisance P(gain) is its maximum-likelihood value under the hypothesis, the larger root of a quadratic.
    Infinite where the hypothesis leaves no variance and does not match.

    Source: Tango, Stat. Med. 17 (1998) 891-908, equations 12-14.
    """
    _check_counts(n, losses, gains)
    linear = -losses - gains + (2 * n - losses + gains) * difference
    constant = -gains * difference * (1.0 - difference)
    # Squaring a tiny `linear` would underflow; it is tiny only without discordant pairs, where the root is itself.
    root = math.sqrt(max(linear * linear - 8 * n * constant, 0.0)) if constant else abs(linear)
    # The same root written two ways; this choice never subtracts nearly equal numbers.
    gain_rate = (root - linear) / (4 * n) if linear <= 0 else -2 * constant / (root + linear)
    variance = n * (2 * gain_rate + difference * (1.0 - difference))
    excess = losses - gains - n * difference
    if variance <= 0.0:
        return 0.0 if excess == 0 else math.copysign(math.inf, excess)
    return excess / math.sqrt(variance)


def _last_above(statistic: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Where the falling `statistic` crosses `target` in [low, high], by bisection."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if statistic(middle) > target:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def tango_bound(losses: float, gains: float, n: float, alpha: float, side: Side) -> float:
    """One-sided bound at confidence 1 - alpha of the paired difference (losses - gains) / n, in [-1, 1].

    With no discordant pair the upper bound is z^2 / (n + z^2), not 0.
    """
    z = normal_quantile(1.0 - alpha)
    target = z if side == "lower" else -z
    estimate = (losses - gains) / n
    low, high = (-1.0, estimate) if side == "lower" else (estimate, 1.0)
    return _last_above(lambda value: tango_statistic(losses, gains, n, value), target, low, high)


def tango(losses: float, gains: float, n: float, level: float = 0.95) -> Interval:
    """Two-sided score interval of the paired difference (losses - gains) / n."""
    alpha = (1.0 - level) / 2.0
    low, high = (tango_bound(losses, gains, n, alpha, side) for side in ("lower", "upper"))
    return Interval(low, high, level, "tango")


def tango_p_value(losses: float, gains: float, n: float, limit: float) -> float:
    """One-sided p-value of "the paired difference is at most `limit`"; small is evidence that it is larger."""
    return upper_tail(tango_statistic(losses, gains, n, limit))


def holm(p_values: Mapping[Key, float], alpha: float) -> frozenset[Key]:
    """The hypotheses rejected at family-wise error `alpha`; NaN is never rejected. Order does not matter.

    Source: Holm, Scand. J. Stat. 6 (1979) 65-70.
    """
    ordered: Sequence[tuple[Key, float]] = sorted(
        ((key, 1.0 if math.isnan(p) else p) for key, p in p_values.items()), key=lambda row: row[1]
    )
    rejected: set[Key] = set()
    for rank, (key, p) in enumerate(ordered):
        if not p <= alpha / (len(ordered) - rank):
            break
        rejected.add(key)
    return frozenset(rejected)
