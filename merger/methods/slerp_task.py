"""SLERP between the task vectors of two experts, added to the anchor."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alignmerge.errors import RecipeError
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, Tiles, moved
from alignmerge.merger.methods.coefficients import as_mean
from alignmerge.merger.methods.sphere import THRESHOLD, Arc, arc, gram, remark

if TYPE_CHECKING:
    from torch import Tensor


def check(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError unless there are two experts whose weights have a ratio."""
    if len(weights) != 2:
        raise RecipeError(
            f"slerp_task: goes between the task vectors of exactly two experts, not {len(weights)}; "
            "for more take karcher or multislerp with of: task_vectors"
        )
    if math.fsum(weights) == 0:
        raise RecipeError("slerp_task: the weights sum to 0, so they say no place between the experts")


def survey(tiles: Tiles, prepared: Any, knobs: Knobs) -> Arc:
    """The place on the way from the first task vector to the second, from the angle of the whole tensor."""
    check(tiles.weights, knobs)
    share = tiles.weights[1] / math.fsum(tiles.weights)
    return arc(gram(tiles, lambda tile: (tile.task_vector(0), tile.task_vector(1))), share, knobs["threshold"])


def merge(tile: Tile, stats: Arc, knobs: Knobs) -> "Tensor":
    """theta_a + scale * (sin((1-t) w)/sin(w) tau_1 + sin(t w)/sin(w) tau_2), t = w_2 / (w_1 + w_2).

    w is the angle between the task vectors of the whole tensor; where |cos w| > threshold or one of them is zero the
    line (1-t) tau_1 + t tau_2 is taken. Task vectors of two experts stand nearly at right angles, so unlike slerp
    of the models this is no line: at t = 0.5 and equal norms the result keeps the norm that a mean would shrink by
    1/sqrt(2).
    Source: nuslerp of mergekit 0.1.5 with a base model and whole tensors, read from its behaviour and reimplemented;
    it takes the line only where the angle is zero to float precision, and opposite vectors are blown up there.
    """
    delta = tile.task_vector(0).mul_(stats.first)
    delta += tile.task_vector(1).mul_(stats.second)
    return moved(tile.anchor, delta.mul_(knobs["scale"]))


SLERP_TASK = MergeMethod(
    name="slerp_task",
    summary="The anchor plus a point on the arc between two task vectors; the weights say where.",
    reference="Shoemake 1985, SIGGRAPH; of task vectors as in mergekit 0.1.5 (nuslerp)",
    parameters=(
        Parameter("scale", "number", 1.0, "Factor on the interpolated task vector.", low=-10.0, high=10.0),
        THRESHOLD,
    ),
    merge=merge,
    coefficients=as_mean,
    survey=survey,
    remark=remark,
    check=check,
)
