"""TIES: trim each task vector to its largest entries, elect a sign per entry, average those that agree.

Notable decisions:
- Exactly k entries survive the trim. Among equal magnitudes at the threshold the lowest position wins; bf16 task
  vectors hold many equal magnitudes, so this is a visible part of the definition.
- `trim: tensor` takes k per tensor (mergekit, peft); `trim: global` over the whole model (the paper's code).
- `sign: paper` elects by the unweighted mass and takes the plain mean of the entries that agree; where the masses
  cancel nothing is elected and the anchor stays. `sign: mergekit` weighs before the election, lets a mass of zero
  elect plus, and divides by the sum of the weights that agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alignmerge.errors import RecipeError
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, View, moved

if TYPE_CHECKING:
    from torch import Tensor

_LOW_BITS = 16


@dataclass(frozen=True)
class Cut:
    """Where the trim ends in one tensor: magnitudes above `threshold` survive, and the first `ties` equal to it."""

    threshold: float
    ties: int


def kept(density: float, size: int) -> int:
    """How many of `size` entries survive: none at density 0, all at 1, otherwise at least one."""
    if density <= 0 or size == 0:
        return 0
    return min(size, max(1, int(density * size)))


def trim(vector: "Tensor", cut: Cut) -> "Tensor":
    """`vector` with everything below the cut set to zero."""
    import torch

    magnitude = vector.abs()
    survives = magnitude > cut.threshold
    equal = (magnitude == cut.threshold).flatten().nonzero().flatten()[: cut.ties]
    survives.view(-1)[equal] = True
    return torch.where(survives, vector, torch.zeros_like(vector))


def cut_tensor(vector: "Tensor", density: float) -> Cut:
    """The cut that leaves exactly kept(density, size) entries of `vector`."""
    size = vector.numel()
    count = kept(density, size)
    if count == 0:
        return Cut(float("inf"), 0)
    magnitude = vector.abs().flatten()
    threshold = magnitude.kthvalue(size - count + 1).values
    return Cut(float(threshold), count - int((magnitude > threshold).sum()))


def prepare(view: View, knobs: Knobs) -> list[dict[str, Cut]] | None:
    """The cut of every tensor, per expert, for `trim: global`; None for `trim: tensor`, which needs no pass."""
    if knobs["trim"] == "tensor":
        return None
    return [_cut_model(view, index, knobs["density"]) for index in range(len(view.experts))]


def _bits(view: View, index: int, name: str) -> "Tensor":
    """Magnitudes of one task vector as integers of the same order (the bits of a non-negative float32)."""
    import torch

    return view.tile(name).task_vector(index).abs().flatten().view(torch.int32)


def _cut_model(view: View, index: int, density: float) -> dict[str, Cut]:
    """Exact selection in two passes: counts of the high bits find the bucket, counts inside it the threshold."""
    import torch

    high = torch.zeros(1 << (31 - _LOW_BITS), dtype=torch.int64)
    for name in view.names:
        high += torch.bincount(_bits(view, index, name) >> _LOW_BITS, minlength=len(high))
    wanted = kept(density, int(high.sum()))
    if wanted == 0:
        return {name: Cut(float("inf"), 0) for name in view.names}
    bucket, above = _bucket(high, wanted)
    inside = {}
    low = torch.zeros(1 << _LOW_BITS, dtype=torch.int64)
    for name in view.names:
        bits = _bits(view, index, name)
        values, counts = torch.unique(bits[(bits >> _LOW_BITS) == bucket] - (bucket << _LOW_BITS), return_counts=True)
        inside[name] = dict(zip(values.tolist(), counts.tolist(), strict=True))
        low[values.long()] += counts
    last, above_last = _bucket(low, wanted - above)
    threshold = float(torch.tensor((bucket << _LOW_BITS) + last, dtype=torch.int32).view(torch.float32))
    return _share(threshold, wanted - above - above_last, {name: found.get(last, 0) for name, found in inside.items()})


def _bucket(counts: "Tensor", wanted: int) -> tuple[int, int]:
    """The bucket that holds the `wanted`-th largest entry, and how many entries lie in buckets above it."""
    from_top = counts.flip(0).cumsum(0)
    position = int((from_top >= wanted).nonzero()[0])
    bucket = len(counts) - 1 - position
    return bucket, int(from_top[position] - counts[bucket])


def _share(threshold: float, ties: int, equal: dict[str, int]) -> dict[str, Cut]:
    """`ties` survivors at the threshold, given to the tensors in order."""
    cuts = {}
    for name, count in equal.items():
        cuts[name] = Cut(threshold, min(ties, count))
        ties -= cuts[name].ties
    return cuts


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


def elect_mergekit(vectors: Sequence["Tensor"], weights: Sequence[float]) -> "Tensor":
    """The weighted entries that agree with the sign of their sum, divided by the sum of their weights.

    Source: mergekit 0.1.5, generalised task arithmetic with sign election "sum" and normalize, read from its
    behaviour and reimplemented.
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
    return total / torch.where(share == 0, torch.ones_like(share), share)


def merge(tile: Tile, stats: list[dict[str, Cut]] | None, knobs: Knobs) -> "Tensor":
    """theta_a + scale * the elected mean of the trimmed task vectors."""
    vectors = []
    for index in range(len(tile.experts)):
        vector = tile.task_vector(index)
        cut = cut_tensor(vector, knobs["density"]) if stats is None else stats[index][tile.name]
        vectors.append(trim(vector, cut))
    mean = elect_paper(vectors) if knobs["sign"] == "paper" else elect_mergekit(vectors, tile.weights)
    return moved(tile.anchor, mean * knobs["scale"])


def check(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError for weights that a plain mean cannot honour."""
    if knobs["sign"] == "paper" and len(set(weights)) > 1:
        raise RecipeError("ties: sign: paper takes a plain mean, so all weights must be equal; or set sign: mergekit")


TIES = MergeMethod(
    name="ties",
    summary="Trim task vectors to their largest entries, elect signs, average what agrees.",
    reference="Yadav et al. 2023, arXiv 2306.01708",
    parameters=(
        Parameter("density", "number", 0.2, "Share of each task vector that survives the trim.", low=0.0, high=1.0),
        Parameter("scale", "number", 1.0, "Factor on the elected mean (lambda in the paper).", low=-10.0, high=10.0),
        Parameter(
            "trim",
            "choice",
            "tensor",
            "Take the share per tensor, or over the whole model.",
            choices=("tensor", "global"),
        ),
        Parameter("sign", "choice", "paper", "Whose election and mean: see the source.", choices=("paper", "mergekit")),
    ),
    merge=merge,
    prepare=prepare,
    check=check,
)
