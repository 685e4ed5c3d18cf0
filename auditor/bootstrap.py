"""Bootstrap bounds: BCa for paired continuous scores, and paired replicates for metrics of a whole set.

numpy is imported when called: deciding on rates alone must not pay for it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from alignmerge.auditor.record import Interval
from alignmerge.auditor.statistics import normal_quantile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 9999
MIN_REPLICATES = 100


@dataclass(frozen=True)
class Bootstrap:
    """A mean's bootstrap distribution (sorted) with BCa's bias `z0` and acceleration `a`."""

    estimate: float
    means: "NDArray[np.float64]"  # (resamples,)
    bias: float
    acceleration: float

    def bound(self, alpha: float, upper: bool) -> float:
        """One-sided BCa bound at confidence 1 - alpha."""
        import numpy as np

        z = normal_quantile(1.0 - alpha if upper else alpha)
        shifted = self.bias + z
        level = NormalDist().cdf(self.bias + shifted / (1.0 - self.acceleration * shifted))
        return float(np.quantile(self.means, level))

    def p_value(self, limit: float) -> float:
        """One-sided p-value of "the mean is at most `limit`": the alpha whose lower bound is `limit`."""
        count = len(self.means)
        below = float((self.means < limit).sum() + 0.5 * (self.means == limit).sum())
        w = NormalDist().inv_cdf(min(max(below, 0.5), count - 0.5) / count) - self.bias
        return NormalDist().cdf(w / (1.0 + self.acceleration * w) - self.bias)


def bca(values: Sequence[float], seed: int = 0, resamples: int = RESAMPLES) -> Bootstrap:
    """The bias-corrected accelerated bootstrap of the mean of `values` (paired differences, one per item).

    Raises:
        ValueError: fewer than two values, values that are not finite, or all equal (no spread to resample).

    Source: Efron, J. Am. Stat. Assoc. 82 (1987) 171-185.
    """
    import numpy as np

    data = np.asarray(values, dtype=np.float64)  # (n,)
    if data.size < 2 or not np.isfinite(data).all() or (data == data[0]).all():
        raise ValueError("BCa needs at least two finite values that are not all equal")
    generator = np.random.default_rng(seed)
    means = np.array([data[generator.integers(0, data.size, data.size)].mean() for _ in range(resamples)])
    means.sort()
    estimate = float(data.mean())
    share = (float((means < estimate).sum()) + 0.5 * float((means == estimate).sum())) / resamples
    bias = NormalDist().inv_cdf(min(max(share, 0.5 / resamples), 1 - 0.5 / resamples))
    centred = data - estimate  # jackknife means differ from the mean by -centred / (n - 1)
    acceleration = float((centred**3).sum() / (6.0 * (centred**2).sum() ** 1.5))
    return Bootstrap(estimate, means, bias, acceleration)


def bca_interval(values: Sequence[float], level: float = 0.95, seed: int = 0) -> Interval:
    """Two-sided BCa interval of the mean of `values`."""
    boot = bca(values, seed)
    alpha = (1.0 - level) / 2.0
    return Interval(boot.bound(alpha, upper=False), boot.bound(alpha, upper=True), level, "bca")


def paired_replicates(anchor: Sequence[float], candidate: Sequence[float]) -> list[float]:
    """Sorted differences anchor - candidate of bootstrap replicates; replicate i of both is the same resample.

    Raises:
        ValueError: different or too few (< 100) replicates, or a replicate that is not finite.
    """
    if len(anchor) != len(candidate):
        raise ValueError(f"{len(anchor)} and {len(candidate)} bootstrap replicates cannot be paired")
    if len(anchor) < MIN_REPLICATES:
        raise ValueError(f"{len(anchor)} bootstrap replicates are too few; {MIN_REPLICATES} are needed")
    differences = sorted(a - c for a, c in zip(anchor, candidate, strict=True))
    if not all(math.isfinite(value) for value in differences):
        raise ValueError("a bootstrap replicate is not a finite number")
    return differences


def replicate_bound(ordered: Sequence[float], alpha: float, upper: bool) -> float:
    """One-sided percentile bound at confidence 1 - alpha: an order statistic of sorted replicates, rounded outwards."""
    rank = math.ceil((1.0 - alpha) * len(ordered) - 1e-9)
    index = rank - 1 if upper else len(ordered) - rank
    return ordered[min(max(index, 0), len(ordered) - 1)]


def replicate_p_value(ordered: Sequence[float], limit: float) -> float:
    """One-sided p-value of "the difference is at most `limit`" from sorted replicates; never 0."""
    return (1 + sum(1 for value in ordered if value <= limit)) / (len(ordered) + 1)
