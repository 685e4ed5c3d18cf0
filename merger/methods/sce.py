"""SCE: select the positions where the experts differ most, calculate weights from energies, erase minority signs.

Per tensor:
- Select. Of the positions whose variance over the experts' task vectors is not zero (v of them), the int(select v) with
  the largest variance stay, in all task vectors; the first position wins among equals. With select: 1, or one expert,
  which has no variance, all stay.
- Calculate. Expert k's weight is its recipe weight (ours; 1 otherwise) times its energy, the mean of its squared
  selected entries, divided by the sum over the experts.
- Erase. Each position elects the sign of the unweighted sum, zero elects plus; the weighted mean of the entries that
  agree is the move.

mergekit 0.1.5 takes equal weights where the energies sum to less than 1e-6, which is the case for most fine-tunes
(their entries have moved by less than 1e-3); `energy_floor: 0.000001` does the same. It also lets no sum of agreeing
weights below 1e-6 divide; that is left out here.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from alignmerge.errors import RecipeError
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, Tiles, moved
from alignmerge.merger.methods.coefficients import as_mean

if TYPE_CHECKING:
    from torch import Tensor

    from alignmerge.merger.select import Cut


@dataclass(frozen=True)
class Selection:
    """Where the variance counts as large, and every expert's weight; the weights sum to 1."""

    cut: "Cut"
    weights: tuple[float, ...]


def variance(vectors: "Sequence[Tensor]") -> "Tensor":
    """The population variance over the vectors at every position, computed in float64, float32."""
    total = vectors[0].double()
    for vector in vectors[1:]:
        total += vector
    mean = total.div_(len(vectors))
    spread = (vectors[0].double() - mean).square_()
    for vector in vectors[1:]:
        spread += (vector.double() - mean).square_()
    return spread.div_(len(vectors)).float()


def survey(tiles: Tiles, prepared: None, knobs: Knobs) -> Selection:
    """The cut of the variance in this tensor, and the weights from the energies of what it leaves."""
    from alignmerge.merger import sums

    cut = _cut(tiles, knobs["select"])
    energies = [0.0] * len(tiles.weights)
    for tile in tiles:
        for index, vector in enumerate(_selected(tile, cut)):
            energies[index] += sums.square(vector)
    return Selection(cut, _weights(tiles.weights, energies, max(1, prod(tiles.shape)), knobs["energy_floor"]))


def _cut(tiles: Tiles, select: float) -> "Cut":
    from alignmerge.merger.select import EVERYTHING, NOTHING, largest

    if select >= 1 or len(tiles.weights) == 1:
        return EVERYTHING
    if select <= 0:
        return NOTHING

    def walk() -> "Iterator[tuple[Hashable, Tensor]]":
        for tile in tiles:
            yield _place(tile), variance(_task_vectors(tile))

    varying = sum(int(values.count_nonzero()) for _, values in walk())
    return largest(walk, int(varying * select), prod(tiles.shape))


def _weights(given: Sequence[float], energies: Sequence[float], size: int, floor: float) -> tuple[float, ...]:
    """given_k * energy_k over their sum; given_k over theirs where the mean energies sum to less than `floor` or 0."""
    from alignmerge.merger import sums

    small = sums.total(energies) / size < floor
    raw = list(given) if small else [weight * energy for weight, energy in zip(given, energies, strict=True)]
    whole = sums.total(raw)
    if whole == 0:
        raw, whole = list(given), sums.total(given)
    return tuple(weight / whole for weight in raw)


def _place(tile: Tile) -> Hashable:
    return tile.name, tile.offset


def _task_vectors(tile: Tile) -> "list[Tensor]":
    return [tile.task_vector(index) for index in range(len(tile.experts))]


def _selected(tile: Tile, cut: "Cut") -> "list[Tensor]":
    """The task vectors with all outside the selection set to zero."""
    import torch

    from alignmerge.merger.select import EVERYTHING, inside

    vectors = _task_vectors(tile)
    if cut is EVERYTHING:
        return vectors
    chosen = inside(variance(vectors), cut, _place(tile))
    return [torch.where(chosen, vector, torch.zeros(())) for vector in vectors]


def merge(tile: Tile, stats: Selection, knobs: Knobs) -> "Tensor":
    """theta_a + scale * sum_k c_k a_k tau'_k / sum_k c_k a_k, tau' selected, c the weights, a whether the sign agrees.

    Source: Wan et al., arXiv 2408.07990, section 3.3 (SCE); the count of non-zero variances, the equal treatment of
    positions and the zero that elects plus are mergekit 0.1.5's, read from its behaviour and reimplemented.
    """
    import torch

    vectors = _selected(tile, stats.cut)
    mass = torch.zeros_like(tile.anchor)
    for vector in vectors:
        mass += vector
    sign = torch.where(mass >= 0, 1.0, -1.0)
    total, share = torch.zeros_like(mass), torch.zeros_like(mass)
    for vector, weight in zip(vectors, stats.weights, strict=True):
        agrees = (vector.sign() == sign) * weight
        total += vector * agrees
        share += agrees
    mean = total / torch.where(share == 0, torch.ones_like(share), share)
    return moved(tile.anchor, mean.mul_(knobs["scale"]))


def check(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError for weights that cannot be shares."""
    if min(weights) < 0 or not any(weights):
        raise RecipeError(
            "sce: weights multiply energies and become shares: none may be negative, one must be positive"
        )


def remark(stats: Selection) -> Any:
    """The experts' weights in the tensor."""
    return {"weights": list(stats.weights)}


SCE = MergeMethod(
    name="sce",
    summary="Where experts differ most, average what agrees in sign, weighted by each expert's energy.",
    reference="Wan et al. 2024, arXiv 2408.07990",
    parameters=(
        Parameter(
            "select",
            "number",
            0.1,
            "Share of the varying positions that is merged. 0.1 is the authors' configuration; mergekit's "
            "select_topk has 1.",
            low=0.0,
            high=1.0,
        ),
        Parameter("scale", "number", 1.0, "Factor on the mean.", low=-10.0, high=10.0),
        Parameter(
            "energy_floor",
            "number",
            0.0,
            "Where the experts' mean squared entries sum to less, they count by their recipe weights alone; 1e-6 in "
            "mergekit.",
            low=0.0,
            high=1.0,
        ),
    ),
    merge=merge,
    coefficients=as_mean,
    survey=survey,
    check=check,
    remark=remark,
)
