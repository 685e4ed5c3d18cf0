"""Model Breadcrumbs: of each task vector keep the middle magnitudes; then task arithmetic or TIES' election.

density and gamma mean what they mean in mergekit: of the n entries of a tensor the int(gamma n) largest magnitudes go,
the int(density n) next are kept, the rest goes. In the paper's words beta = 1 - density - gamma is cut below, and
1 - gamma is the paper's gamma; the authors' code takes the shares per row, this and mergekit per tensor.

Unlike mergekit, density + gamma > 1 is an error (mergekit then removes fewer of the largest, and at density 1, its
default, none); among equal magnitudes the first position counts as the larger.
"""

from collections.abc import Hashable, Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING

from alignmerge.errors import RecipeError
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, Tiles, each
from alignmerge.merger.methods.coefficients import as_combined, as_sum
from alignmerge.merger.methods.sparse import ELECTION, SCALE, check_election, elected, summed

if TYPE_CHECKING:
    from torch import Tensor

    from alignmerge.merger.select import Cut

    Band = tuple[Cut, Cut]  # inside the first and outside the second

# What rounding may add to density + gamma where a schedule interpolates them.
SLACK = 1e-9


def survey(tiles: Tiles, prepared: None, knobs: Knobs) -> "tuple[Band, ...]":
    """For every expert the cut that leaves the outliers and what is kept, and the cut that leaves the outliers."""
    from alignmerge.merger.select import largest

    size = prod(tiles.shape)
    bands = []
    for index, (kept, outliers) in enumerate(_counts(knobs, len(tiles.weights), size)):

        def walk(index: int = index) -> "Iterator[tuple[Hashable, Tensor]]":
            for tile in tiles:
                yield _place(tile), tile.task_vector(index)

        bands.append((largest(walk, outliers + kept, size), largest(walk, outliers, size)))
    return tuple(bands)


def _counts(knobs: Knobs, experts: int, size: int) -> Iterator[tuple[int, int]]:
    """For every expert how many entries are kept, and how many larger ones are dropped."""
    for density, gamma in zip(each(knobs["density"], experts), each(knobs["gamma"], experts), strict=True):
        yield int(density * size), int(gamma * size)


def _place(tile: Tile) -> Hashable:
    return tile.name, tile.offset


def vectors(tile: Tile, stats: "tuple[Band, ...]", knobs: Knobs) -> "list[Tensor]":
    """Every expert's task vector with all outside its band set to zero."""
    import torch

    from alignmerge.merger.select import inside

    place, out = _place(tile), []
    for index, (wide, outliers) in enumerate(stats):
        vector = tile.task_vector(index)
        band = inside(vector, wide, place) & ~inside(vector, outliers, place)
        out.append(torch.where(band, vector, torch.zeros(())))
    return out


def merge_sum(tile: Tile, stats: "tuple[Band, ...]", knobs: Knobs) -> "Tensor":
    """theta_a + scale * sum_k w_k m_k tau_k, m_k = 1 where |tau_k| is in the band.

    Source: Davari and Belilovsky, arXiv 2312.06795, section 3; shares per tensor as in mergekit 0.1.5.
    """
    return summed(tile, vectors(tile, stats, knobs), knobs)


def merge_ties(tile: Tile, stats: "tuple[Band, ...]", knobs: Knobs) -> "Tensor":
    """theta_a + scale * elect(m_k tau_k): the band as in breadcrumbs, then TIES' election.

    Source: mergekit 0.1.5, breadcrumbs_ties; not in the paper.
    """
    return elected(tile, vectors(tile, stats, knobs), knobs)


def check_shares(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError where what is kept and what is dropped as outliers are more than there is."""
    count = len(weights)
    for density, gamma in zip(each(knobs["density"], count), each(knobs["gamma"], count), strict=True):
        if density + gamma > 1 + SLACK:
            raise RecipeError(
                f"density {density:g} + gamma {gamma:g} is more than 1: lower one of them; "
                "gamma: 0 drops no outliers, which is what density: 1 means in mergekit"
            )


def check_ties(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError for shares that do not fit, and for what the paper's election cannot honour."""
    check_shares(weights, knobs)
    check_election("breadcrumbs_ties", weights, knobs)


PARAMETERS = (
    Parameter(
        "density",
        "number",
        0.2,
        "Share of each tensor's entries that is kept. 0.2 is the example of the authors' repository.",
        low=0.0,
        high=1.0,
        per_expert=True,
    ),
    Parameter(
        "gamma",
        "number",
        0.1,
        "Share of the largest entries that is dropped. 0.1 is the example of the authors' repository; mergekit "
        "has 0.01.",
        low=0.0,
        high=1.0,
        per_expert=True,
    ),
    SCALE,
)

BREADCRUMBS = MergeMethod(
    name="breadcrumbs",
    summary="Drop the largest and the smallest task vector entries, add up the rest.",
    reference="Davari and Belilovsky 2024, arXiv 2312.06795",
    parameters=PARAMETERS,
    merge=merge_sum,
    coefficients=as_sum,
    survey=survey,
    check=check_shares,
)
BREADCRUMBS_TIES = MergeMethod(
    name="breadcrumbs_ties",
    summary="Drop the largest and the smallest task vector entries, elect signs, average what agrees.",
    reference="Davari and Belilovsky 2024, arXiv 2312.06795; Yadav et al. 2023, arXiv 2306.01708",
    parameters=(*PARAMETERS, *ELECTION),
    merge=merge_ties,
    coefficients=as_combined,
    survey=survey,
    check=check_ties,
)
