"""The one-shot shields in closed form, and the controls that say whether what they do is more than their size.

With delta the mixture measured from the anchor, P the alignment subspace's projector and F = S^T S / m the safety
Fisher of its m margins, the minimisers over delta* of

    ||delta* - delta||_M^2 + lambda ||P delta*||_M^2         delta* = delta - lambda/(1+lambda) P delta
    ||delta* - delta||_M^2 + lambda delta*^T F delta*        delta* = delta - M^-1 S^T ((m/lambda) I + K)^-1 S delta

Source: arXiv 2512.16245 for the idea of a shield; both forms are ours (method.md 3.3 of the design notes). To first
order only, and the losses of real merges are a finite-distance effect: what shields keep of refusals on the zoo, beside
a random removal, is in docs/alignmerge-measured.md.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.subspace import AlignmentSubspace, Drift

if TYPE_CHECKING:
    from alignmerge.merger.geometry.chart import Chart


@dataclass(frozen=True)
class Shielded:
    """A move after a shield.

    delta: layer weights by name, measured from the anchor. before, after: its drift in the subspace. removed: squared
    M-norm of what was taken away. square: squared M-norm of `delta`.
    """

    delta: Mapping[str, Tensor]
    before: Drift
    after: Drift
    removed: float
    square: float


def hard_shield(
    subspace: AlignmentSubspace, delta: Mapping[str, Tensor], strength: float, omega: Tensor | None = None
) -> Shielded:
    """The move with its part in the subspace shrunk by 1 / (1 + strength).

    strength: lambda >= 0; infinity removes the part. omega: (rank,) weights >= 0; direction i is then shrunk by
    1 / (1 + strength omega_i).

    Raises:
        RecipeError: a strength or weight below zero or not a number. TensorMismatch: see AlignmentSubspace.coordinates.
    """
    coordinates = subspace.coordinates(delta)
    weights = torch.ones(subspace.rank, dtype=torch.float64) if omega is None else omega.double()
    if len(weights) != subspace.rank or not bool((weights >= 0).all()):
        raise RecipeError(f"omega: must be {subspace.rank} weights, none below zero")
    pull = torch.where(weights > 0, _strength(strength) * weights, 0.0)
    factors = torch.where(pull.isinf(), 1.0, pull / (1 + pull))
    return _without(subspace, delta, coordinates, subspace.projection(coordinates, factors))


def fisher_shield(subspace: AlignmentSubspace, delta: Mapping[str, Tensor], strength: float) -> Shielded:
    """The move that pays `strength` per unit of the safety Fisher; no rank is chosen (the subspace's is not used).

    Raises:
        RecipeError: a strength below zero or not a number. TensorMismatch: see AlignmentSubspace.coordinates.
    """
    coordinates = subspace.coordinates(delta)
    multipliers = fisher_multipliers(subspace, coordinates, _strength(strength))
    return _without(subspace, delta, coordinates, multipliers)


def fisher_multipliers(subspace: AlignmentSubspace, coordinates: Tensor, strength: float) -> Tensor:
    """((m/strength) I + K)^-1 c, (m,) float64; zero for strength 0, the pseudo-inverse for infinity."""
    if strength == 0:
        return torch.zeros_like(coordinates)
    ridge = len(coordinates) / strength
    inside = subspace.vectors.T @ coordinates
    return subspace.vectors @ (inside / (ridge + subspace.spectrum))


def norm_matched(chart: "Chart", delta: Mapping[str, Tensor], square: float) -> dict[str, Tensor]:
    """The control "the same soup, merely shorter": delta scaled to the squared M-norm `square`.

    Raises:
        RecipeError: delta is zero and `square` is not.
    """
    found = sum(chart.square(name, value) for name, value in delta.items())
    if found == 0 and square > 0:
        raise RecipeError("a move of length zero cannot be scaled to another length")
    scale = math.sqrt(square / found) if found else 0.0
    return {name: value * scale for name, value in delta.items()}


def equal_removal(control: AlignmentSubspace, delta: Mapping[str, Tensor], square: float) -> Shielded:
    """The control "any removal of this size": along P delta of `control`, a piece of squared M-norm `square`.

    A random subspace holds next to nothing of a move, so the piece is usually longer than what lies inside.

    Raises:
        RecipeError: the move has no part in the subspace. TensorMismatch: see AlignmentSubspace.coordinates.
    """
    coordinates = control.coordinates(delta)
    multipliers = control.projection(coordinates)
    inside = float(coordinates @ multipliers)
    if inside <= 0:
        raise RecipeError("the move has no part in the control's subspace, so no direction to remove along")
    return _without(control, delta, coordinates, multipliers * math.sqrt(square / inside))


def _without(
    subspace: AlignmentSubspace, delta: Mapping[str, Tensor], coordinates: Tensor, multipliers: Tensor
) -> Shielded:
    """delta - M^-1 S^T w; its numbers follow from c and K, without another pass."""
    step = subspace.removed(multipliers)
    kept = {name: delta[name] - step[name].to(delta[name]) for name in step}
    before = subspace.square(delta)
    pushed = subspace.kernel @ multipliers
    removed = float(multipliers @ pushed)
    square = max(0.0, before - 2 * float(coordinates @ multipliers) + removed)
    return Shielded(
        kept,
        before=subspace.drift_at(coordinates, before),
        after=subspace.drift_at(coordinates - pushed, square),
        removed=removed,
        square=square,
    )


def _strength(value: float) -> float:
    if not value >= 0:
        raise RecipeError(f"strength: must be a number of at least 0, not {value!r}")
    return value
