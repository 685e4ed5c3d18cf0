"""SLERP: from the anchor towards one expert, along the sphere instead of the straight line."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alignmerge.errors import RecipeError
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, Tiles, moved
from alignmerge.merger.methods.sphere import THRESHOLD, Arc, arc, gram, remark

if TYPE_CHECKING:
    from torch import Tensor


def check(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError unless there is one expert, and no weight that `t` would override."""
    if len(weights) != 1:
        raise RecipeError(
            f"slerp: goes from the anchor to exactly one expert, not {len(weights)}; "
            "for two experts take slerp_task, for more karcher or multislerp"
        )
    if weights[0] != 1:
        raise RecipeError("slerp: the expert's weight plays no part; set t, and leave the weight at 1")


def survey(tiles: Tiles, prepared: Any, knobs: Knobs) -> Arc:
    """The place on the way from the anchor to the expert, from the angle of the whole tensor."""
    check(tiles.weights, knobs)
    return arc(gram(tiles, lambda tile: (tile.anchor, tile.experts[0])), knobs["t"], knobs["threshold"])


def merge(tile: Tile, stats: Arc, knobs: Knobs) -> "Tensor":
    """sin((1-t) w)/sin(w) theta_a + sin(t w)/sin(w) theta_1, w the angle between the two as whole tensors.

    Written as a move from the anchor: theta_a + (excess * theta_a + second * (theta_1 - theta_a)), in this order, with
    excess and second from `stats`. Where |cos w| > threshold (opposite tensors too) or a tensor is zero it is
    theta_a + t (theta_1 - theta_a). Fine-tunes of one model nearly always are so close: an update below about 2.2 % of
    the weights' norm is merged linearly; see slerp_task. `trained_from` plays no part.
    Source: Shoemake, SIGGRAPH 1985; one angle per tensor and the threshold as in mergekit 0.1.5, read from its
    behaviour and reimplemented (there a tensor of norm below 1e-8 is taken to be at a right angle).
    """
    delta = tile.anchor * stats.excess
    delta += (tile.experts[0] - tile.anchor).mul_(stats.second)
    return moved(tile.anchor, delta)


def coefficients(weights: Sequence[float], knobs: Knobs, depth: float) -> tuple[float, ...]:
    """t, as on the line; the arc's difference from it is the method's."""
    return (knobs["t"],) * len(weights)


SLERP = MergeMethod(
    name="slerp",
    summary="From the anchor to one expert along the arc between them; the line where they are nearly parallel.",
    reference="Shoemake 1985, SIGGRAPH; per tensor as in mergekit 0.1.5",
    parameters=(
        Parameter("t", "number", 0.5, "How far to go: 0 is the anchor, 1 the expert.", low=0.0, high=1.0),
        THRESHOLD,
    ),
    merge=merge,
    coefficients=coefficients,
    survey=survey,
    remark=remark,
    check=check,
)
