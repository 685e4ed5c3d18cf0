"""Layer-wise interpolation: task vectors added with a factor that runs over the depth of the model."""

from collections.abc import Sequence
from math import pi
from typing import TYPE_CHECKING

from alignmerge.merger import angles, schedule
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, Tiles, View, each, moved

if TYPE_CHECKING:
    from torch import Tensor

Factors = tuple[float, ...]


def prepare(view: View, knobs: Knobs) -> int:
    """The number of layers, from the names of the tensors."""
    return 1 + max((number for name in view.names if (number := schedule.layer(name)) is not None), default=0)


def survey(tiles: Tiles, prepared: int, knobs: Knobs) -> Factors:
    """The factor of every expert in this tensor. Reads nothing."""
    count = len(tiles.weights)
    return factors(schedule.depth(tiles.name, prepared), count, knobs)


def factors(depth: float, count: int, knobs: Knobs) -> Factors:
    """The factor of each of `count` experts at `depth`."""
    share = run(depth, knobs["curve"])
    ends = zip(each(knobs["start"], count), each(knobs["end"], count), strict=True)
    return tuple((1 - share) * start + share * end for start, end in ends)


def run(depth: float, curve: str) -> float:
    """How far from start to end the factor is at `depth`, both from 0 to 1."""
    return depth if curve == "linear" else (1 - angles.cosine(depth * pi)) / 2


def merge(tile: Tile, stats: Factors, knobs: Knobs) -> "Tensor":
    """theta_a + sum_k w_k s_k(layer) tau_k, s_k = start + (end - start) * c(depth), depth = layer / (layers - 1).

    c(d) = d for `curve: linear`, (1 - cos(pi d)) / 2 for `curve: cosine`, which stays near start and end for longer.
    Tensors outside the layers (embeddings, final norm, output) take `start`, as gradients do everywhere else here.
    With the linear curve this is task_arithmetic with `scale: [start, end]`, up to rounding. linear (the soup) with a
    gradient as weight is another thing where the factors do not sum to 1 or the experts were trained from the base:
    it normalises the weights of each tensor, and averages models instead of adding task vectors.
    Source: the interpolation weights by depth of model-merging practice (mergekit's gradients); the curve is ours.
    """
    import torch

    delta = torch.zeros_like(tile.anchor)
    for index, (weight, factor) in enumerate(zip(tile.weights, stats, strict=True)):
        delta += tile.task_vector(index).mul_(weight * factor)
    return moved(tile.anchor, delta)


def coefficients(weights: Sequence[float], knobs: Knobs, depth: float) -> tuple[float, ...]:
    """w_k s_k."""
    found = factors(depth, len(weights), knobs)
    return tuple(weight * factor for weight, factor in zip(weights, found, strict=True))


LAYERWISE = MergeMethod(
    name="layerwise",
    summary="The anchor plus task vectors whose factor runs from the first layer to the last.",
    reference="gradients over layers, as in mergekit 0.1.5; the cosine curve is this project's",
    parameters=(
        Parameter(
            "start",
            "number",
            0.0,
            "Factor at the first layer, and outside the layers.",
            low=-10.0,
            high=10.0,
            per_expert=True,
            scheduled=False,
        ),
        Parameter(
            "end", "number", 1.0, "Factor at the last layer.", low=-10.0, high=10.0, per_expert=True, scheduled=False
        ),
        Parameter("curve", "choice", "linear", "How the factor runs between the two.", choices=("linear", "cosine")),
    ),
    merge=merge,
    coefficients=coefficients,
    prepare=prepare,
    survey=survey,
    remark=list,
)
