"""LATA: task vectors tensor by tensor, weaker where they look like the step from the base to the anchor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import fsum
from typing import TYPE_CHECKING, Any

from alignmerge.merger import schedule
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, Tiles, View, moved
from alignmerge.merger.methods.coefficients import as_sum
from alignmerge.merger.methods.sphere import cosine_in, gram

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Factors:
    """For every tensor: each expert's cosine with the instruction vector, and the factor on its task vector."""

    cosines: Mapping[str, tuple[float, ...]]
    factors: Mapping[str, tuple[float, ...]]


def prepare(view: View, knobs: Knobs) -> Factors:
    """The factors of all tensors: one pass over the model, since ranks are taken over all of it."""
    cosines = {name: _cosines(view.tiles(name)) for name in view.names}
    names = list(cosines)
    columns = [
        factors([cosines[name][index] for name in names], knobs["drop"], knobs["threshold"])
        for index in range(len(view.experts))
    ]
    return Factors(cosines, {name: tuple(column[row] for column in columns) for row, name in enumerate(names)})


def _cosines(tiles: Tiles) -> tuple[float, ...]:
    """cos(theta_k - theta_0, theta_a - theta_0) of every expert; 0 where one of the two is zero."""

    def vectors(tile: Tile) -> "Sequence[Tensor]":
        base = tile.others["base"]
        return [tile.anchor - base, *(expert - base for expert in tile.experts)]

    products = gram(tiles, vectors)
    return tuple(cosine_in(products, index, 0) or 0.0 for index in range(1, len(products)))


def factors(cosines: Sequence[float], drop: str, threshold: float) -> list[float]:
    """The factor of every tensor. Among equal cosines the first in the order of names has the lower rank."""
    if drop == "threshold":
        return [float(cosine < threshold) for cosine in cosines]
    count = len(cosines)
    out = [0.0] * count
    for rank, index in enumerate(sorted(range(count), key=lambda index: (cosines[index], index)), start=1):
        out[index] = 1 - (rank - 1) / count if drop == "linear" else 1 - _log(rank) / _log(count + 1)
    return out


def _log(number: int) -> float:
    return float(Decimal(number).ln())  # rounded the same way everywhere; a library's logarithm need not be


def survey(tiles: Tiles, prepared: Factors, knobs: Knobs) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The cosines and the factors of this tensor. Reads nothing."""
    return prepared.cosines[tiles.name], prepared.factors[tiles.name]


def merge(tile: Tile, stats: tuple[tuple[float, ...], tuple[float, ...]], knobs: Knobs) -> "Tensor":
    """theta_a + sum_k w_k f_kl tau_k (`onto: anchor`), or theta_0 + sum_k w_k f_kl (theta_k - theta_0) (`onto: base`).

    f_kl comes from s_kl = cos(theta_k - theta_0, theta_a - theta_0) in tensor l of L: with rank r = 1 for the lowest
    s of expert k, `drop: linear` takes f = 1 - (r - 1) / L, `log` f = 1 - ln r / ln(L + 1), `threshold` f = 1 where
    s < threshold, else 0. A "layer" of the paper is a tensor here; the record's account has means per block.
    `onto: base` is the paper's form: zero task vectors do not give the anchor there, since the anchor's own instruction
    vector is weakened with everything that resembles it. A safety expert resembles it as well. `onto: anchor` (ours)
    keeps the anchor whole and weighs the task vectors alone; do not name a safety expert among the experts.
    Source: LATA, arXiv 2502.20186. Inferred, since the full text was not at hand: the formulas of f, the tensor as the
    unit, and 0.95 (reported for forgetting, where few tensors remain) as the default threshold.
    """
    import torch

    base = tile.others["base"]
    onto_base = knobs["onto"] == "base"
    delta = base - tile.anchor if onto_base else torch.zeros_like(tile.anchor)
    for index, (weight, factor) in enumerate(zip(tile.weights, stats[1], strict=True)):
        vector = tile.experts[index] - base if onto_base else tile.task_vector(index)
        delta += vector.mul_(weight * factor)
    return moved(tile.anchor, delta)


def remark(stats: tuple[tuple[float, ...], tuple[float, ...]]) -> dict[str, Any]:
    """Every expert's cosine and factor."""
    return {"cosine": list(stats[0]), "factor": list(stats[1])}


def account(prepared: Factors) -> dict[str, Any]:
    """Every expert's mean factor over the tensors of a layer, by layer number; "outside" for tensors of none."""
    blocks: dict[str, list[tuple[float, ...]]] = {}
    for name, row in prepared.factors.items():
        number = schedule.layer(name)
        blocks.setdefault("outside" if number is None else str(number), []).append(row)
    means = {block: [fsum(column) / len(rows) for column in zip(*rows, strict=True)] for block, rows in blocks.items()}
    return {"factors_by_layer": means}


LATA = MergeMethod(
    name="lata",
    summary="Task vectors tensor by tensor, weaker where they resemble the step from the base to the anchor.",
    reference="LATA 2025, arXiv 2502.20186; its weight formulas are inferred",
    parameters=(
        Parameter(
            "drop",
            "choice",
            "linear",
            "How the factor falls with the rank of the cosine, or where it is cut off.",
            choices=("linear", "log", "threshold"),
        ),
        Parameter(
            "threshold",
            "number",
            0.95,
            "For drop: threshold: tensors with a cosine below it stay.",
            low=-1.0,
            high=1.0,
            scheduled=False,
            only_with=("drop", "threshold"),
        ),
        Parameter(
            "onto",
            "choice",
            "anchor",
            "What the weighted vectors are added to; `base` is the paper's form.",
            choices=("anchor", "base"),
        ),
    ),
    needs=frozenset({"base"}),
    merge=merge,
    coefficients=as_sum,
    prepare=prepare,
    survey=survey,
    remark=remark,
    account=account,
)
