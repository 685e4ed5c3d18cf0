"""How many items would decide: what a larger sample with the rates seen so far would show."""

import math
from collections.abc import Callable

from alignmerge.auditor.statistics import normal_quantile, tango_bound, wilson_bound

MOST_ITEMS = 1_000_000


def _smallest(decides: Callable[[int], bool], start: int) -> int | None:
    """The smallest n in [start, MOST_ITEMS] for which `decides`, once true, stays true; None if there is none."""
    if not decides(MOST_ITEMS):
        return None
    low, high = start - 1, MOST_ITEMS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high


def items_needed(losses: float, gains: float, n: int, limit: float, alpha: float, fail_alpha: float) -> int | None:
    """Pairs that would decide a paired rule if losses and gains kept their present rates; None if no number would.

    Passing needs the upper bound at `alpha` inside `limit`; failing the lower bound at `fail_alpha` outside it.
    """
    estimate = (losses - gains) / n

    def decides(size: int) -> bool:
        scaled = losses * size / n, gains * size / n, float(size)
        if estimate < limit:
            return tango_bound(*scaled, alpha, "upper") <= limit
        return tango_bound(*scaled, fail_alpha, "lower") > limit

    return None if estimate == limit else _smallest(decides, 1)


def rate_items_needed(successes: float, n: int, limit: float, alpha: float, fail_alpha: float) -> int | None:
    """Items that would decide "the rate is at most `limit`" if the rate stayed what it is; None if none would."""
    rate = successes / n

    def decides(size: int) -> bool:
        if rate < limit:
            return wilson_bound(rate * size, size, alpha, "upper") <= limit
        return wilson_bound(rate * size, size, fail_alpha, "lower") > limit

    return None if rate == limit else _smallest(decides, 1)


def scaled_items_needed(value: float, bound: float, n: int, limit: float) -> int | None:
    """Items that would bring `bound` to `limit` if its distance to `value` shrinks as 1 / sqrt(n); None if none would.

    `bound` is the one on the side of `limit` seen from `value`.
    """
    gap, width = abs(limit - value), abs(bound - value)
    if gap == 0 or not math.isfinite(width / gap):
        return None
    needed = math.ceil(n * (width / gap) ** 2)
    return needed if needed <= MOST_ITEMS else None


def shrinking_items_needed(value: float, bound: float, n: int, limit: float) -> int | None:
    """Items that would decide against a limit of so many standard errors, which shrinks as 1 / sqrt(n) like the bound.

    A `value` that stays above 0 fails in the end (`bound` is its lower one), one below 0 passes (its upper one).
    """
    if value == 0:
        return None
    width = abs(bound - value)
    stretch = (width + limit) / value if value > 0 else (width - limit) / -value
    needed = math.ceil(n * max(stretch, 0.0) ** 2) if math.isfinite(stretch) else MOST_ITEMS + 1
    return needed if needed <= MOST_ITEMS else None


def largest_passing_loss(n: int, limit: float, alpha: float) -> int | None:
    """The most lost pairs of `n`, none gained, whose upper bound is inside `limit`; None if even 0 is not."""
    passing = [losses for losses in range(math.floor(n * max(limit, 0.0)) + 1) if losses <= n]
    inside = [losses for losses in passing if tango_bound(losses, 0, n, alpha, "upper") <= limit]
    return max(inside, default=None)


def smallest_failing_loss(n: int, limit: float, alpha: float) -> int | None:
    """The fewest lost pairs of `n`, none gained, whose lower bound is outside `limit`; None if not even all."""
    for losses in range(n + 1):
        if tango_bound(losses, 0, n, alpha, "lower") > limit:
            return losses
    return None


def pairs_for_power(limit: float, discordance: float, alpha: float, power: float = 0.8) -> int:
    """Pairs for which a candidate that is truly equal passes `limit` with probability `power`.

    discordance: share of pairs whose outcome changes, half of them each way. Normal approximation.
    """
    z: float = normal_quantile(1 - alpha) + normal_quantile(power)
    return math.ceil(z * z * discordance / (limit * limit))
