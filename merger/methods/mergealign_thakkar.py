"""MergeAlign (Thakkar et al.): domain vectors and the alignment vector, both from the base, added with two factors."""

from collections.abc import Sequence
from math import fsum
from typing import TYPE_CHECKING, Any

from alignmerge.errors import RecipeError
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, Tiles, moved
from alignmerge.merger.methods.coefficients import as_mean

if TYPE_CHECKING:
    from torch import Tensor


def check(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError where the weights sum to zero, so that alpha cannot be shared out."""
    if fsum(weights) == 0:
        raise RecipeError("mergealign_thakkar: the experts' weights sum to 0, so alpha cannot be shared among them")


def survey(tiles: Tiles, prepared: Any, knobs: Knobs) -> bool:
    """Whether alpha + beta = 1 in this tensor, so that it is the linear soup. Reads nothing."""
    check(tiles.weights, knobs)
    return fsum((knobs["alpha"], knobs["beta"])) == 1


def merge(tile: Tile, stats: bool, knobs: Knobs) -> "Tensor":
    """theta_0 + alpha sum_k v_k (theta_k - theta_0) + beta (theta_a - theta_0), v = weights normalised to sum 1.

    theta_0 is the base; every expert is measured from it, also one that was trained from the anchor, so `trained_from`
    plays no part. Written as a move from the anchor: theta_a + (alpha + beta - 1) (theta_a - theta_0)
    + alpha sum_k v_k (theta_k - theta_a). So with alpha + beta = 1 the base cancels and this IS the linear soup of the
    experts (alpha) and the anchor (beta): in a comparison with `linear` it then counts once. Otherwise zero task
    vectors do not give the anchor but theta_0 + (alpha + beta) (theta_a - theta_0).
    Source: Thakkar et al., arXiv 2411.06824; alpha = beta = 0.5 is inferred from "interpolation" in its abstract, the
    sharing of alpha among several experts is ours.
    """
    import torch

    total = fsum(tile.weights)
    delta = torch.zeros_like(tile.anchor)
    if not stats:
        delta += (tile.anchor - tile.others["base"]).mul_(fsum((knobs["alpha"], knobs["beta"], -1.0)))
    for expert, weight in zip(tile.experts, tile.weights, strict=True):
        delta += (expert - tile.anchor).mul_(knobs["alpha"] * (weight / total))
    return moved(tile.anchor, delta)


def remark(stats: bool) -> dict[str, bool]:
    """That the tensor is the linear soup, where it is."""
    return {"linear_soup": True} if stats else {}


def coefficients(weights: Sequence[float], knobs: Knobs, depth: float) -> tuple[float, ...]:
    """alpha v_k."""
    return tuple(knobs["alpha"] * share for share in as_mean(weights, knobs, depth))


MERGEALIGN_THAKKAR = MergeMethod(
    name="mergealign_thakkar",
    summary="The base plus domain vectors and the alignment vector; with alpha + beta = 1 it is the linear soup.",
    reference="Thakkar et al. 2025, arXiv 2411.06824",
    parameters=(
        Parameter("alpha", "number", 0.5, "Factor on the experts' vectors from the base.", low=-10.0, high=10.0),
        Parameter("beta", "number", 0.5, "Factor on the anchor's vector from the base.", low=-10.0, high=10.0),
    ),
    needs=frozenset({"base"}),
    merge=merge,
    coefficients=coefficients,
    survey=survey,
    remark=remark,
    check=check,
)
