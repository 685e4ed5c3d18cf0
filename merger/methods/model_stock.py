"""Model Stock: the mean of the experts, pulled back to the anchor as far as their task vectors disagree."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import TYPE_CHECKING, Any

from alignmerge.errors import RecipeError
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, Tiles, moved
from alignmerge.merger.methods.coefficients import as_mean
from alignmerge.merger.methods.sphere import cosine_in, gram

if TYPE_CHECKING:
    from torch import Tensor

# A smaller divisor counts as the formula's pole (mergekit's value).
POLE = 1e-6


@dataclass(frozen=True)
class Share:
    """How much of the mean is taken, t, and the mean cosine of the pairs that it comes from."""

    t: float
    cosine: float


def check(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError for fewer than two experts, and for weights that a plain mean cannot honour."""
    if len(weights) < 2:
        raise RecipeError("model_stock: needs at least two experts: t comes from the angle between them")
    if len(set(weights)) > 1 or weights[0] <= 0:
        raise RecipeError("model_stock: takes the plain mean of the experts, so all weights must be equal and above 0")


def survey(tiles: Tiles, prepared: Any, knobs: Knobs) -> Share:
    """t of this tensor. A pair with a task vector that is zero counts as being at a right angle."""
    check(tiles.weights, knobs)
    count = len(tiles.weights)
    products = gram(tiles, lambda tile: [tile.task_vector(index) for index in range(count)])
    pairs = [cosine_in(products, left, right) or 0.0 for left in range(count) for right in range(left)]
    cosine = fsum(pairs) / len(pairs)
    return Share(share(count, cosine, knobs["opposed"]), cosine)


def share(count: int, cosine: float, opposed: str = "anchor") -> float:
    """N c / (1 + (N - 1) c), and 0 where c is not positive: there the formula is negative or has its pole.

    With `opposed: formula` 0 only at the pole.
    """
    divisor = 1 + (count - 1) * cosine
    if (cosine <= 0 and opposed == "anchor") or abs(divisor) < POLE:
        return 0.0
    return count * cosine / divisor


def merge(tile: Tile, stats: Share, knobs: Knobs) -> "Tensor":
    """theta_a + t mean(tau_k), t = N c / (1 + (N - 1) c), c the mean cosine over pairs of task vectors, per tensor.

    t is kept in [0, 1]: where the task vectors point away from each other (c <= 0) the anchor stays; `opposed: formula`
    takes t < 0 as it comes, away from the experts. The weights must be equal, and their size plays no part. Made for
    several runs of one task; experts of different tasks stand at right angles, t is then near 0 and the result near the
    anchor.
    Source: Jang et al., arXiv 2403.19522, the interpolation ratio; c as the mean over all pairs is the reading of
    mergekit 0.1.5, which leaves t < 0 as it is.
    """
    import torch

    delta = torch.zeros_like(tile.anchor)
    for index in range(len(tile.experts)):
        delta += tile.task_vector(index)
    return moved(tile.anchor, delta.mul_(stats.t / len(tile.experts)))


def remark(stats: Share) -> dict[str, Any]:
    """t, the mean cosine, and whether t had to be raised to 0."""
    return {"clamped": stats.cosine < 0 and stats.t == 0, "cosine": stats.cosine, "t": stats.t}


MODEL_STOCK = MergeMethod(
    name="model_stock",
    summary="The experts' mean, pulled back to the anchor as far as they disagree; for runs of one task.",
    reference="Jang et al. 2024, arXiv 2403.19522",
    parameters=(
        Parameter(
            "opposed",
            "choice",
            "anchor",
            "Where the task vectors point away from each other: the anchor, or what the formula says (mergekit).",
            choices=("anchor", "formula"),
        ),
    ),
    merge=merge,
    coefficients=as_mean,
    survey=survey,
    remark=remark,
    check=check,
)
