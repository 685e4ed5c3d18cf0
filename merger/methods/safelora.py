"""SafeLoRA's rule on full weights: what an expert changed becomes its image under C in the least aligned matrices.

Judged like SafeMERGE (see safemerge.py and geometry/alignment_update.py): task vectors from the anchor only;
embeddings, the output layer and tensors that are no matrices keep the expert's values.

Notable decisions:
- C D with D in place of the adapter's product B A is the paper's B <- C B.
- C is no projector: C D is scaled by the alignment update's size, and is usually far smaller than D.
- `select: number` takes, per expert, the K matrices of smallest rho of the whole model (equal ones by name).
- C D is a matrix product, so other processors may give other last bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignmerge.merger.methods import safemerge
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, Tiles, View, moved
from alignmerge.merger.methods.coefficients import as_sum
from alignmerge.merger.methods.safemerge import Judgement

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Chosen:
    """Per matrix, for each expert: whether it is among the K of smallest rho."""

    matrices: Mapping[str, tuple[bool, ...]]


def prepare(view: View, knobs: Knobs) -> Chosen | None:
    """The K matrices of smallest rho per expert for `select: number`; None for `select: threshold`.

    Raises:
        RecipeError: the unaligned model is the anchor.
    """
    from alignmerge.merger.geometry.alignment_update import check_unaligned, judged

    check_unaligned(view, "safelora")
    if knobs["select"] == "threshold":
        return None
    found = {name: _judge(view.tiles(name)) for name in view.names if judged(name, view.tiles(name).shape)}
    lowest = []
    for index in range(len(view.experts)):
        rhos = [(rho, name) for name, one in found.items() if (rho := one.likenesses[index].rho) is not None]
        lowest.append({name for _, name in sorted(rhos)[: knobs["number"]]})
    return Chosen({name: tuple(name in names for names in lowest) for name in found})


def _judge(tiles: Tiles, threshold: float = 0.0) -> Judgement:
    from alignmerge.merger.geometry.alignment_update import AlignmentUpdate

    [tile] = tiles
    update = AlignmentUpdate(tile.anchor, tile.others["unaligned"])
    likenesses = tuple(update.likeness(tile.task_vector(index)) for index in range(len(tile.experts)))
    unsafe = tuple(one.rho is not None and one.rho <= threshold for one in likenesses)
    return Judgement(likenesses, unsafe, update.rho_random)


def survey(tiles: Tiles, prepared: Chosen | None, knobs: Knobs) -> Judgement | None:
    """Which experts are projected in this matrix; None for a tensor that is not judged.

    Source: Hsu et al., arXiv 2405.16833: rho <= threshold, or the K smallest.
    """
    from alignmerge.merger.geometry.alignment_update import judged

    if not judged(tiles.name, tiles.shape):
        return None
    found = _judge(tiles, knobs["threshold"])
    if prepared is None:
        return found
    return Judgement(found.likenesses, prepared.matrices[tiles.name], found.rho_random)


def merge(tile: Tile, stats: Judgement | None, knobs: Knobs) -> "Tensor":
    """theta_a + sum_k w_k D_k', where D' = C D in the chosen matrices and D elsewhere; D = theta_k - theta_a.

    Source: Hsu et al., arXiv 2405.16833, on full weights and for several experts (both ours).
    """
    import torch

    from alignmerge.merger.geometry.alignment_update import AlignmentUpdate

    delta = torch.zeros_like(tile.anchor)
    chosen = stats.unsafe if stats is not None else (False,) * len(tile.experts)
    update = AlignmentUpdate(tile.anchor, tile.others["unaligned"]) if any(chosen) else None
    for index, weight in enumerate(tile.weights):
        own = tile.task_vector(index)
        if update is not None and chosen[index]:
            own = update.project(own)
        delta += own.mul_(weight)
    return moved(tile.anchor, delta)


def remark(stats: Judgement | None) -> dict[str, Any] | None:
    """As SafeMERGE's, with `projected` in place of `unsafe`."""
    kept = safemerge.remark(stats)
    if kept is not None:
        kept["projected"] = kept.pop("unsafe")
    return kept


SAFELORA = MergeMethod(
    name="safelora",
    summary="Maps experts' changes through the alignment update in the matrices least aligned with it.",
    reference="Hsu et al. 2024, arXiv 2405.16833; on full weights",
    parameters=(
        Parameter(
            "select",
            "choice",
            "number",
            "What is mapped: K matrices, or all up to a rho.",
            choices=("number", "threshold"),
        ),
        Parameter(
            "number",
            "integer",
            10,
            "K: how many matrices per expert, for select: number.",
            low=1,
            high=100_000,
            only_with=("select", "number"),
        ),
        Parameter(
            "threshold",
            "number",
            0.5,
            "Highest rho that is mapped, for select: threshold.",
            low=0.0,
            high=1.0,
            only_with=("select", "threshold"),
        ),
    ),
    scope="matrix",
    trained_from="anchor",
    needs=frozenset({"unaligned"}),
    prepare=prepare,
    survey=survey,
    merge=merge,
    coefficients=as_sum,
    remark=remark,
    tensor_bytes=safemerge.tensor_bytes,
    rows_are_outputs=True,
)
