"""Karcher mean: the point of the sphere with the least weighted sum of squared angles, at the mean of the lengths."""

from collections.abc import Sequence
from math import fsum
from typing import TYPE_CHECKING, Any

from alignmerge.errors import RecipeError
from alignmerge.merger import angles
from alignmerge.merger.methods import barycentre
from alignmerge.merger.methods.barycentre import ANCHOR_WEIGHT, STRAIGHT, Mean, inner, length
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, Tiles
from alignmerge.merger.methods.coefficients import as_mean
from alignmerge.merger.methods.sphere import Gram

if TYPE_CHECKING:
    from torch import Tensor


def check(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError for weights that make no mean."""
    if min(weights) < 0:
        raise RecipeError(f"karcher: weights weigh squared angles, so none may be negative; not {min(weights)}")
    barycentre.check("karcher", weights, knobs)


def survey(tiles: Tiles, prepared: Any, knobs: Knobs) -> Mean:
    """The mean's coefficients in this tensor; the iterations take no further pass over it."""
    check(tiles.weights, knobs)

    def improve(units: Gram, shares: Sequence[float], start: Sequence[float]) -> tuple[Sequence[float], int]:
        return iterate(units, shares, start, knobs["max_iter"], knobs["tol"])

    return barycentre.survey(tiles, knobs, improve)


def iterate(
    units: Gram, shares: Sequence[float], start: Sequence[float], most: int, tol: float
) -> tuple[Sequence[float], int]:
    """The Karcher mean's coefficients of the unit vectors, and the steps taken, at most `most`.

    One step: m <- exp_m(sum_i w_i log_m u_i), until a step of at most `tol` radians.
    """
    shares = [share / fsum(shares) for share in shares]
    mean = list(start)
    for done in range(most):
        step = _step(units, shares, mean)
        size = length(units, step)
        if size <= tol:
            return mean, done
        turn, stay = angles.sine(size) / size, angles.cosine(size)
        mean = [stay * here + turn * there for here, there in zip(mean, step, strict=True)]
        norm = length(units, mean)
        mean = [value / norm for value in mean]
    return mean, most


def _step(units: Gram, shares: Sequence[float], mean: Sequence[float]) -> list[float]:
    """sum_i w_i log_m u_i; a vector opposite to m has no log, and next to none is taken."""
    step = [0.0] * len(mean)
    back = 0.0
    for index, along in enumerate(inner(units, mean)):
        angle = angles.angle_of(along)
        sine = angles.sine(angle)
        step[index] = shares[index] * (angle / sine if sine >= STRAIGHT else 1.0)
        back += step[index] * along
    return [value - back * here for value, here in zip(step, mean, strict=True)]


def merge(tile: Tile, stats: Mean, knobs: Knobs) -> "Tensor":
    """(sum_i w_i |v_i|) u, u = argmin over unit vectors of sum_i w_i angle(u, v_i)^2, per tensor, as a whole vector.

    `of: models`: v_i are the anchor, with anchor_weight, and the experts; weights are normalised to sum 1. `of:
    task_vectors`: v_i = tau_i, and the result is theta_a plus it. From the normalised mean of the directions
    u <- exp_u(sum_i w_i log_u u_i). Vectors that are zero have no direction, but count in the mean length; where the
    mean of the directions is zero it is the plain weighted mean of the v_i (mergekit goes on from the first vector,
    which depends on the order). With siblings the iterations move next to nothing, and a run in bf16 nothing at all.
    Source: Karcher 1977; for merging arXiv 2603.04972; mergekit 0.1.5, read from its behaviour and reimplemented.
    """
    return barycentre.merge(tile, stats, knobs)


KARCHER = MergeMethod(
    name="karcher",
    summary="The mean on the sphere (least squared angles) of the anchor and the experts, or of the task vectors.",
    reference="Karcher 1977; for merging arXiv 2603.04972; mergekit 0.1.5",
    parameters=(
        barycentre.of("models"),
        ANCHOR_WEIGHT,
        Parameter("max_iter", "integer", 10, "Most steps of the iteration (mergekit: 10).", low=0, high=1000),
        Parameter(
            "tol", "number", 1e-5, "A step of so many radians ends the iteration (mergekit: 1e-5).", low=0.0, high=1.0
        ),
    ),
    merge=merge,
    coefficients=as_mean,
    survey=survey,
    remark=barycentre.remark,
    check=check,
)
