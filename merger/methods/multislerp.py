"""Multi-SLERP: the normalised mean of the directions, at the mean of the lengths."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alignmerge.merger.methods import barycentre
from alignmerge.merger.methods.barycentre import ANCHOR_WEIGHT, Mean
from alignmerge.merger.methods.base import Knobs, MergeMethod, Tile, Tiles
from alignmerge.merger.methods.coefficients import as_mean
from alignmerge.merger.methods.sphere import Gram

if TYPE_CHECKING:
    from torch import Tensor


def check(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError for weights that make no mean."""
    barycentre.check("multislerp", weights, knobs)


def _as_it_is(units: Gram, shares: Sequence[float], start: Sequence[float]) -> tuple[Sequence[float], int]:
    return start, 0


def survey(tiles: Tiles, prepared: Any, knobs: Knobs) -> Mean:
    """The mean's coefficients in this tensor."""
    check(tiles.weights, knobs)
    return barycentre.survey(tiles, knobs, _as_it_is)


def merge(tile: Tile, stats: Mean, knobs: Knobs) -> "Tensor":
    """theta_a + (sum_i w_i |v_i|) m / |m|, m = sum_i w_i v_i / |v_i|, weights normalised to sum 1, per tensor.

    `of: task_vectors`: v_i = tau_i, the sphere is about the anchor (mergekit with a base model). `of: models`: v_i are
    the anchor, with anchor_weight, and the experts, about zero; the sum then replaces theta_a. Where m is zero
    (opposite vectors) it is the plain weighted mean of the v_i.
    mergekit's description averages once more in the tangent space at m / |m|; projected there, the weighted mean of the
    vectors is zero by construction, so the closed form above is all of it. It is karcher without its iterations.
    Source: Goddard, "Multi-SLERP" (2025), goddard.blog; mergekit 0.1.5 with normalize_weights, read from its behaviour
    and reimplemented (there more than two vectors that cancel are an error).
    """
    return barycentre.merge(tile, stats, knobs)


MULTISLERP = MergeMethod(
    name="multislerp",
    summary="The mean direction of the task vectors (or models), at the mean of their lengths.",
    reference="Goddard 2025, goddard.blog/posts/multislerp-wow-what-a-cool-idea; mergekit 0.1.5",
    parameters=(barycentre.of("task_vectors"), ANCHOR_WEIGHT),
    merge=merge,
    coefficients=as_mean,
    survey=survey,
    remark=barycentre.remark,
    check=check,
)
