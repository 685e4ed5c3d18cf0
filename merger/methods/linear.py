"""Linear soup: the weighted mean of the anchor and the experts."""

from collections.abc import Sequence
from math import fsum
from typing import TYPE_CHECKING, Any

from alignmerge.errors import RecipeError
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, moved
from alignmerge.merger.methods.coefficients import as_combined

if TYPE_CHECKING:
    from torch import Tensor


def check(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError where the weights sum to zero, so that there is no mean."""
    if knobs["combine"] == "mean" and fsum((knobs["anchor_weight"], *weights)) == 0:
        raise RecipeError("linear: anchor_weight and the experts' weights sum to 0, so there is no mean")


def merge(tile: Tile, stats: Any, knobs: Knobs) -> "Tensor":
    """(w_a theta_a + sum_k w_k theta_k) / (w_a + sum_k w_k), written as a move from the anchor.

    So equal models give the anchor bit for bit. `trained_from` plays no part: models are averaged, not task vectors.
    `combine: sum` leaves out the division: weights that sum to s then give equal models as s times the anchor.
    Source: Wortsman et al., arXiv 2203.05482, uniform soup, with weights; the sum: mergekit 0.1.5, `normalize: false`.
    """
    import torch

    total = fsum((knobs["anchor_weight"], *tile.weights))
    if total == 0 and knobs["combine"] == "mean":
        raise RecipeError(f"linear: the weights for {tile.name} sum to 0, so there is no mean")
    divisor, rest = (total, 0.0) if knobs["combine"] == "mean" else (1.0, total - 1)
    delta = tile.anchor * rest if rest else torch.zeros_like(tile.anchor)
    for expert, weight in zip(tile.experts, tile.weights, strict=True):
        delta += (expert - tile.anchor).mul_(weight / divisor)
    return moved(tile.anchor, delta)


LINEAR = MergeMethod(
    name="linear",
    summary="Weighted mean of the anchor and the experts (model soup).",
    reference="Wortsman et al. 2022, arXiv 2203.05482",
    parameters=(
        Parameter(
            "anchor_weight", "number", 1.0, "Weight of the anchor in the mean; 0 leaves it out.", low=-100.0, high=1e6
        ),
        Parameter(
            "combine",
            "choice",
            "mean",
            "Weighted mean of the models, or their weighted sum (mergekit's `normalize: false`).",
            choices=("mean", "sum"),
        ),
    ),
    merge=merge,
    coefficients=as_combined,
    check=check,
)
