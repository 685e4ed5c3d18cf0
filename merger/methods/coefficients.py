"""c_k, by which an expert's task vector counts in a merge before the method does anything of its own.

Every method states one of these, or one of its own, as MergeMethod.coefficients. Where all experts are one model and
nothing is pruned, projected or solved for, the merge is theta_a + sum_k c_k tau_k. Blame takes c_k tau_k for the
expert's part and what it leaves of the merge for the method's.
"""

from collections.abc import Sequence
from math import fsum

from alignmerge.merger.methods.base import Knobs, each


def as_sum(weights: Sequence[float], knobs: Knobs, depth: float) -> tuple[float, ...]:
    """scale w_k; methods without a `scale` have 1."""
    scales = each(knobs.get("scale", 1.0), len(weights))
    return tuple(weight * scale for weight, scale in zip(weights, scales, strict=True))


def as_mean(weights: Sequence[float], knobs: Knobs, depth: float) -> tuple[float, ...]:
    """scale w_k / (w_a + sum_j w_j), w_a the anchor's weight where it is one of what is averaged."""
    anchor = knobs.get("anchor_weight", 0.0) if knobs.get("of", "models") == "models" else 0.0
    total = fsum((*weights, anchor)) or 1.0
    return tuple(value / total for value in as_sum(weights, knobs, depth))


def as_combined(weights: Sequence[float], knobs: Knobs, depth: float) -> tuple[float, ...]:
    """`as_sum` or `as_mean`, as the method's knob `combine` says."""
    return (as_sum if knobs["combine"] == "sum" else as_mean)(weights, knobs, depth)
