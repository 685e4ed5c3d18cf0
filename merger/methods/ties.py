"""TIES: trim each task vector to its largest entries, elect a sign per entry, average those that agree.

Notable decisions:
- Exactly k entries survive the trim. Among equal magnitudes at the threshold the lowest position wins; bf16 task
  vectors hold many equal magnitudes, so this is a visible part of the definition.
- `trim: tensor` takes k per tensor (mergekit, peft); `trim: global` over the whole model (the paper's code).
- `sign: paper` elects by the unweighted mass and takes the plain mean of the entries that agree; where the masses
  cancel nothing is elected and the anchor stays. `sign: mergekit` weighs before the election, lets a mass of zero
  elect plus, and divides by the sum of the weights that agree; with `combine: sum` it does not divide.
"""

from collections.abc import Hashable, Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING

from alignmerge.errors import RecipeError
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, Tiles, View, each, moved
from alignmerge.merger.methods.coefficients import as_combined
from alignmerge.merger.select import Cut, keep, kept, largest_nonzero

if TYPE_CHECKING:
    from torch import Tensor


def survey(tiles: Tiles, prepared: tuple[Cut, ...] | None, knobs: Knobs) -> tuple[Cut, ...]:
    """The cut of every expert's task vector in this tensor; for `trim: global` the one found in `prepare`."""
    if prepared is not None:
        return prepared
    size = prod(tiles.shape)
    densities = each(knobs["density"], len(tiles.weights))
    return tuple(
        largest_nonzero(lambda index=index: _vectors(tiles, index), kept(density, size), size)  # type: ignore[misc]
        for index, density in enumerate(densities)
    )


def _vectors(tiles: Tiles, index: int) -> Iterator[tuple[Hashable, "Tensor"]]:
    for tile in tiles:
        yield _place(tile), tile.task_vector(index)


def _place(tile: Tile) -> Hashable:
    return tile.name, tile.offset


def prepare(view: View, knobs: Knobs) -> tuple[Cut, ...] | None:
    """Every expert's cut over the whole model for `trim: global`; None for `trim: tensor`, which needs no such pass."""
    if knobs["trim"] == "tensor":
        return None
    size = sum(view.elements(name) for name in view.names)

    def walk(index: int) -> Iterator[tuple[Hashable, "Tensor"]]:
        for name in view.names:
            yield from _vectors(view.tiles(name), index)

    densities = each(knobs["density"], len(view.experts))
    return tuple(
        largest_nonzero(lambda index=index: walk(index), kept(density, size), size)  # type: ignore[misc]
        for index, density in enumerate(densities)
    )


def elect_paper(vectors: Sequence["Tensor"]) -> "Tensor":
    """The plain mean of the entries whose sign is the sign of the summed entries; zero where none agrees.

    Source: Yadav et al., arXiv 2306.01708, section 4 (elect, disjoint merge).
    """
    import torch

    mass = torch.zeros_like(vectors[0])
    for vector in vectors:
        mass += vector
    sign = mass.sign()
    total, count = torch.zeros_like(mass), torch.zeros_like(mass)
    for vector in vectors:
        agrees = (vector.sign() == sign) & (vector != 0)
        total += torch.where(agrees, vector, torch.zeros_like(vector))
        count += agrees
    return total / count.clamp(min=1)


def elect_mergekit(vectors: Sequence["Tensor"], weights: Sequence[float], combine: str = "mean") -> "Tensor":
    """The weighted entries that agree with the sign of their sum, for `mean` divided by the sum of their weights.

    Source: mergekit 0.1.5, generalised task arithmetic with sign election "sum"; `combine: sum` is its
    `normalize: false`. Read from its behaviour and reimplemented.
    """
    import torch

    weighted = [vector * weight for vector, weight in zip(vectors, weights, strict=True)]
    mass = torch.zeros_like(weighted[0])
    for vector in weighted:
        mass += vector
    sign = torch.where(mass >= 0, 1.0, -1.0)
    total, share = torch.zeros_like(mass), torch.zeros_like(mass)
    for vector, weight in zip(weighted, weights, strict=True):
        agrees = vector.sign() == sign
        total += torch.where(agrees, vector, torch.zeros_like(vector))
        share += agrees * weight
    if combine == "sum":
        return total
    return total / torch.where(share == 0, torch.ones_like(share), share)


def merge(tile: Tile, stats: tuple[Cut, ...], knobs: Knobs) -> "Tensor":
    """theta_a + scale * the elected mean (for `combine: sum`: sum) of the trimmed task vectors."""
    place = _place(tile)
    vectors = [keep(tile.task_vector(index), cut, place) for index, cut in enumerate(stats)]
    if knobs["sign"] == "paper":
        elected = elect_paper(vectors)
    else:
        elected = elect_mergekit(vectors, tile.weights, knobs["combine"])
    return moved(tile.anchor, elected * knobs["scale"])


def check(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError for weights that a plain mean cannot honour."""
    if knobs["sign"] == "paper" and knobs["combine"] == "sum":
        raise RecipeError("ties: combine: sum belongs to sign: mergekit; the paper's election takes a mean")
    if knobs["sign"] == "paper":
        check_plain_mean("ties", weights)


def check_plain_mean(method: str, weights: Sequence[float]) -> None:
    """Raise RecipeError unless all weights are equal and above 0: then they cancel, and nothing is ignored."""
    if len(set(weights)) > 1 or weights[0] <= 0:
        raise RecipeError(
            f"{method}: sign: paper takes a plain mean, so all weights must be equal and above 0 (they cancel); "
            "or set sign: mergekit"
        )


def constant(knobs: Knobs) -> dict[str, str]:
    """What must be the same for every tensor, and why."""
    return {"density": "trim: global makes one cut through the whole model"} if knobs["trim"] == "global" else {}


TIES = MergeMethod(
    name="ties",
    summary="Trim task vectors to their largest entries, elect signs, average what agrees.",
    reference="Yadav et al. 2023, arXiv 2306.01708",
    parameters=(
        Parameter(
            "density",
            "number",
            0.2,
            "Share of each task vector that survives the trim.",
            low=0.0,
            high=1.0,
            per_expert=True,
        ),
        Parameter("scale", "number", 1.0, "Factor on the elected mean (lambda in the paper).", low=-10.0, high=10.0),
        Parameter(
            "trim",
            "choice",
            "tensor",
            "Take the share per tensor, or over the whole model.",
            choices=("tensor", "global"),
        ),
        Parameter("sign", "choice", "paper", "Whose election and mean: see the source.", choices=("paper", "mergekit")),
        Parameter(
            "combine",
            "choice",
            "mean",
            "Mean of the entries that agree, or their weighted sum (mergekit's `normalize: false`).",
            choices=("mean", "sum"),
        ),
    ),
    merge=merge,
    coefficients=as_combined,
    prepare=prepare,
    survey=survey,
    check=check,
    constant=constant,
)
