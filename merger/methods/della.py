"""DELLA: drop entries of the task vectors at random, small ones more often; then TIES' election or task arithmetic.

In each row (all that shares the first index; a vector is one row) the entries are ranked by magnitude: 0 for the
smallest, n - 1 for the largest, and among equal ones the first position ranks highest. Entry j survives with
probability

    q_j = (density - epsilon) + 2 epsilon rank_j / (n - 1),

density where the row has one entry. At density 0 nothing and at density 1 everything survives; epsilon then plays no
part. The paper's window is 2 epsilon wide and divides the rank by n; n - 1, as in mergekit, makes the mean of q the
density.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from alignmerge.errors import RecipeError
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, Tiles, each
from alignmerge.merger.methods.coefficients import as_combined, as_sum
from alignmerge.merger.methods.sparse import ELECTION, SCALE, check_election, drawn, elected, matched, summed

if TYPE_CHECKING:
    from torch import Tensor

# What rounding may add to epsilon where a schedule interpolates it.
SLACK = 1e-9


def probabilities(vector: "Tensor", density: float, epsilon: float) -> "Tensor":
    """q of every entry, float32, of the vector's shape, which is that of whole rows of the tensor."""
    import torch

    rows = vector.abs().flatten(1) if vector.dim() > 1 else vector.abs().reshape(1, -1)
    width = rows.shape[1]
    if width < 2:
        return torch.full_like(vector, density)
    # Stable: among equal magnitudes the order is that of the positions, on every machine.
    order = rows.sort(dim=1, descending=True, stable=True).indices
    ranks = torch.empty_like(order).scatter_(1, order, torch.arange(width - 1, -1, -1).expand_as(order))
    chances = ranks.double().mul_(2 * epsilon / (width - 1)).add_(density - epsilon)
    return chances.float().reshape(vector.shape)


def thinned(tile: Tile, index: int, knobs: Knobs) -> "Tensor":
    """tau_k where it survives, zero elsewhere; for rescale: entry divided by each entry's probability."""
    import torch

    density, epsilon = (each(knobs[name], len(tile.weights))[index] for name in ("density", "epsilon"))
    vector = tile.task_vector(index)
    if density >= 1:
        return vector
    if density <= 0:
        return torch.zeros_like(vector)
    chances = probabilities(vector, density, epsilon)
    survives = drawn(tile, index) < chances
    return torch.where(survives, vector / chances if knobs["rescale"] == "entry" else vector, torch.zeros(()))


def survey(tiles: Tiles, prepared: None, knobs: Knobs) -> tuple[float, ...]:
    """Every expert's factor on what survives: for rescale: l1 the one that keeps the tensor's L1 norm, otherwise 1."""
    if knobs["rescale"] != "l1":
        return (1.0,) * len(tiles.weights)
    return matched(tiles, lambda tile, index: thinned(tile, index, knobs))


def vectors(tile: Tile, stats: tuple[float, ...], knobs: Knobs) -> "list[Tensor]":
    """Every expert's thinned and rescaled task vector."""
    return [thinned(tile, index, knobs).mul_(factor) for index, factor in enumerate(stats)]


def merge_ties(tile: Tile, stats: tuple[float, ...], knobs: Knobs) -> "Tensor":
    """theta_a + scale * elect(m_k tau_k / q_k), m_kj ~ Bernoulli(q_kj).

    rescale: entry divides by each entry's own q, so that the mean over the draws is tau (the paper); l1 keeps the
    tensor's sum of magnitudes instead (mergekit 0.1.5); none leaves what survives.
    Source: Deep et al., arXiv 2406.11617, section 3 (drop, elect, fuse).
    """
    return elected(tile, vectors(tile, stats, knobs), knobs)


def merge_linear(tile: Tile, stats: tuple[float, ...], knobs: Knobs) -> "Tensor":
    """theta_a + scale * sum_k w_k m_k tau_k / q_k: the drop of `della` into task arithmetic.

    Source: mergekit 0.1.5, della_linear; the drop is that of Deep et al., arXiv 2406.11617, section 3.
    """
    return summed(tile, vectors(tile, stats, knobs), knobs)


def check_window(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError where density +- epsilon leaves [0, 1]."""
    count = len(weights)
    for density, epsilon in zip(each(knobs["density"], count), each(knobs["epsilon"], count), strict=True):
        if 0 < density < 1 and epsilon > min(density, 1 - density) + SLACK:
            raise RecipeError(
                f"epsilon {epsilon:g} is more than {min(density, 1 - density):g}: density {density:g} +- epsilon must "
                "be probabilities; lower epsilon"
            )


def check_ties(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError for a window outside [0, 1], and for what the paper's election cannot honour."""
    check_window(weights, knobs)
    check_election("della", weights, knobs)


PARAMETERS = (
    Parameter(
        "density",
        "number",
        0.7,
        "Mean probability that an entry survives. 0.7 is the authors' drop rate of 0.3.",
        low=0.0,
        high=1.0,
        per_expert=True,
    ),
    Parameter(
        "epsilon",
        "number",
        0.07,
        "How far the largest and the smallest entry's probability lie from density. 0.07 is half the authors' window "
        "of 0.14; mergekit has 0.15.",
        low=0.0,
        high=0.5,
        per_expert=True,
    ),
    SCALE,
    Parameter(
        "rescale",
        "choice",
        "entry",
        "What survives is divided by its probability (the paper), brought to the tensor's L1 norm (mergekit), or left.",
        choices=("entry", "l1", "none"),
    ),
)

DELLA = MergeMethod(
    name="della",
    summary="Drop small task vector entries more often than large ones, elect signs, average what agrees.",
    reference="Deep et al. 2024, arXiv 2406.11617",
    parameters=(*PARAMETERS, *ELECTION),
    merge=merge_ties,
    coefficients=as_combined,
    scope="row",
    survey=survey,
    check=check_ties,
)
DELLA_LINEAR = MergeMethod(
    name="della_linear",
    summary="Drop small task vector entries more often than large ones, add up the rest.",
    reference="Deep et al. 2024, arXiv 2406.11617",
    parameters=PARAMETERS,
    merge=merge_linear,
    coefficients=as_sum,
    scope="row",
    survey=survey,
    check=check_window,
)
