"""DARE: drop entries of the task vectors at random, rescale the rest; then task arithmetic or TIES' election.

An entry survives where its random number, a multiple of 2^-24 that its key and position alone decide, is below the
density rounded to float32.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from alignmerge.errors import RecipeError
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, Tiles, each
from alignmerge.merger.methods.coefficients import as_combined, as_sum
from alignmerge.merger.methods.sparse import ELECTION, SCALE, check_election, drawn, elected, matched, summed

if TYPE_CHECKING:
    from torch import Tensor

# Random numbers are multiples of it, so a smaller share cannot be drawn.
FINEST = 2.0**-24


def thinned(tile: Tile, index: int, density: float) -> "Tensor":
    """tau_k where it survives, zero elsewhere; not rescaled."""
    import torch

    vector = tile.task_vector(index)
    if density >= 1:
        return vector
    return torch.where(drawn(tile, index) < density, vector, torch.zeros(()))


def survey(tiles: Tiles, prepared: None, knobs: Knobs) -> tuple[float, ...]:
    """Every expert's factor on what survives.

    rescale: expected gives 1 / density, so that the mean over the draws is tau (the paper); l1 keeps this tensor's sum
    of magnitudes (mergekit 0.1.5); none gives 1.
    """
    densities = each(knobs["density"], len(tiles.weights))
    if knobs["rescale"] == "l1":
        return matched(tiles, lambda tile, index: thinned(tile, index, densities[index]))
    return tuple(1 / density if density and knobs["rescale"] == "expected" else 1.0 for density in densities)


def vectors(tile: Tile, stats: tuple[float, ...], knobs: Knobs) -> "list[Tensor]":
    """factor_k * m_k * tau_k for every expert, m_k its Bernoulli(density) mask."""
    densities = each(knobs["density"], len(tile.weights))
    return [thinned(tile, index, densities[index]).mul_(factor) for index, factor in enumerate(stats)]


def merge_linear(tile: Tile, stats: tuple[float, ...], knobs: Knobs) -> "Tensor":
    """theta_a + scale * sum_k w_k f_k m_k tau_k, m_k ~ Bernoulli(p) per entry, f_k = 1 / p (p the density).

    Source: Yu et al., arXiv 2311.03099, section 3.2 (their p is the share dropped), into task arithmetic.
    """
    return summed(tile, vectors(tile, stats, knobs), knobs)


def merge_ties(tile: Tile, stats: tuple[float, ...], knobs: Knobs) -> "Tensor":
    """theta_a + scale * elect(f_k m_k tau_k): drop first, then TIES' election of signs and mean of what agrees.

    TIES' own trim is left out, as in mergekit; the authors' code has it after the drop.
    Source: Yu et al., arXiv 2311.03099, section 3.2; Yadav et al., arXiv 2306.01708, section 4 (elect, merge).
    """
    return elected(tile, vectors(tile, stats, knobs), knobs)


def check_linear(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError for a density that the random numbers cannot tell from zero."""
    for density in each(knobs["density"], len(weights)):
        if 0 < density < FINEST:
            raise RecipeError(f"density: {density} is finer than the random numbers; take 0 or at least 2^-24")


def check_ties(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError for a density that cannot be drawn, and for what the paper's election cannot honour."""
    check_linear(weights, knobs)
    check_election("dare_ties", weights, knobs)


PARAMETERS = (
    Parameter(
        "density",
        "number",
        0.8,
        "Share of each task vector that survives the drop (1 - p of the paper). 0.8 is the authors' merging example; "
        "for one expert they drop up to 0.9.",
        low=0.0,
        high=1.0,
        per_expert=True,
    ),
    SCALE,
    Parameter(
        "rescale",
        "choice",
        "expected",
        "What survives is divided by the density (the paper), brought to the tensor's L1 norm (mergekit), or left.",
        choices=("expected", "l1", "none"),
    ),
)

DARE_LINEAR = MergeMethod(
    name="dare_linear",
    summary="Drop task vector entries at random, rescale the rest, add up.",
    reference="Yu et al. 2024, arXiv 2311.03099",
    parameters=PARAMETERS,
    merge=merge_linear,
    coefficients=as_sum,
    survey=survey,
    check=check_linear,
)
DARE_TIES = MergeMethod(
    name="dare_ties",
    summary="Drop task vector entries at random, rescale the rest, elect signs, average what agrees.",
    reference="Yu et al. 2024, arXiv 2311.03099; Yadav et al. 2023, arXiv 2306.01708",
    parameters=(*PARAMETERS, *ELECTION),
    merge=merge_ties,
    coefficients=as_combined,
    survey=survey,
    check=check_ties,
)
