"""SafeMERGE: shrink or mix what an expert changed in the matrices where it does not follow the alignment update.

Notable decisions:
- On full weights: D is the expert's task vector of one matrix, measured from the anchor. An expert trained from the
  base is refused: its task vector holds the lost alignment, and passes as safe because of it.
- `safemerge` mixes in the update of a safety-tuned model; `safemerge_revert` has none (Ds = 0): it shrinks to the
  anchor.
- Embeddings, the output layer and tensors that are no matrices have no rho: the expert's own values are taken.
- Where alignment changed nothing (V = 0) nothing can be decided; as in the paper's code this counts as unsafe. Where
  the expert changed nothing (D = 0) nothing is done.
- Several experts are judged one by one and their D summed with their weights (ours; the paper has one).
- The record keeps rho, the rho of a random direction (near it, rho says nothing) and the signed cosine per matrix.
"""

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, Tiles, View, each, moved
from alignmerge.merger.methods.coefficients import as_sum

if TYPE_CHECKING:
    from torch import Tensor

    from alignmerge.merger.geometry.alignment_update import Likeness

DIGITS = 6  # of what the record keeps; float32 products carry no more


@dataclass(frozen=True)
class Judgement:
    """One matrix: the experts' likenesses to the alignment update, whether each is unsafe, a random direction's rho."""

    likenesses: "tuple[Likeness, ...]"
    unsafe: tuple[bool, ...]
    rho_random: float | None


def prepare(view: View, knobs: Knobs) -> None:
    """Nothing, once it is known that the rule has a meaning here.

    Raises:
        RecipeError: the unaligned model is the anchor.
    """
    from alignmerge.merger.geometry.alignment_update import check_unaligned

    check_unaligned(view, "safemerge")


def survey(tiles: Tiles, prepared: None, knobs: Knobs) -> Judgement | None:
    """Which experts are unsafe in this matrix; None for a tensor that is not judged.

    Source: Djuhera et al., arXiv 2503.17239: unsafe is rho < threshold, strictly.
    """
    from alignmerge.merger.geometry.alignment_update import AlignmentUpdate, judged

    if not judged(tiles.name, tiles.shape):
        return None
    [tile] = tiles
    update = AlignmentUpdate(tile.anchor, tile.others["unaligned"])
    likenesses = tuple(update.likeness(tile.task_vector(index)) for index in range(len(tile.experts)))
    thresholds = each(knobs["threshold"], len(likenesses))
    unsafe = tuple(
        one.rho is not None and one.rho < threshold for one, threshold in zip(likenesses, thresholds, strict=True)
    )
    return Judgement(likenesses, unsafe, update.rho_random)


def merge(tile: Tile, stats: Judgement | None, knobs: Knobs) -> "Tensor":
    """theta_a + sum_k w_k D_k', where D' = alpha D + (1 - alpha) Ds in unsafe matrices and D elsewhere.

    D = theta_k - theta_a, Ds = theta_s - theta_a of the safety-tuned model. Given the decisions this is elementwise, so
    the result's bits depend on the processor only through them.
    Source: Djuhera et al., arXiv 2503.17239, on full weights (ours: the paper merges adapters).
    """
    return _merged(tile, stats, knobs, tile.others["safety"] - tile.anchor)


def merge_revert(tile: Tile, stats: Judgement | None, knobs: Knobs) -> "Tensor":
    """As `merge` with Ds = 0: theta_a + sum_k w_k D_k', where D' = alpha D in unsafe matrices."""
    return _merged(tile, stats, knobs, None)


def _merged(tile: Tile, stats: Judgement | None, knobs: Knobs, safety: "Tensor | None") -> "Tensor":
    import torch

    delta = torch.zeros_like(tile.anchor)
    shares = each(knobs["alpha"], len(tile.experts))
    for index, (weight, alpha) in enumerate(zip(tile.weights, shares, strict=True)):
        own = tile.task_vector(index)
        if stats is not None and stats.unsafe[index]:
            own *= alpha
            if safety is not None:
                own += safety * (1 - alpha)
        delta += own.mul_(weight)
    return moved(tile.anchor, delta)


def remark(stats: Judgement | None) -> dict[str, Any] | None:
    """rho of every expert and of a random direction, cos(D, V), and the decisions; None where nothing was judged."""
    if stats is None:
        return None

    def short(value: float | None) -> float | None:
        return None if value is None else round(value, DIGITS)

    return {
        "rho": [short(one.rho) for one in stats.likenesses],
        "rho_random": short(stats.rho_random),
        "signed": [short(one.signed) for one in stats.likenesses],
        "unsafe": list(stats.unsafe),
    }


def tensor_bytes(shape: tuple[int, ...], experts: int) -> int:
    """The tensor of every ingredient, four of its size for V, D and products, and three Gram matrices; float32."""
    gram = min(shape) ** 2 if len(shape) == 2 else 0
    return 4 * ((experts + 3) * prod(shape) + 4 * prod(shape) + 3 * gram)


_PARAMETERS = (
    Parameter(
        "threshold",
        "number",
        0.35,
        "A matrix whose rho is below is unsafe. Tune it per model: rho depends on the spectrum of the alignment "
        "update, and the record's rho_random says where a random direction lies.",
        low=0.0,
        high=1.0,
        per_expert=True,
    ),
    Parameter(
        "alpha",
        "number",
        0.8,
        "Share of the expert's update kept in unsafe matrices.",
        low=0.0,
        high=1.0,
        per_expert=True,
    ),
)

SAFEMERGE = MergeMethod(
    name="safemerge",
    summary="Mixes a safety-tuned model's update into matrices where an expert departs from alignment.",
    reference="Djuhera et al. 2025, arXiv 2503.17239; on full weights",
    parameters=_PARAMETERS,
    scope="matrix",
    trained_from="anchor",
    needs=frozenset({"unaligned", "safety"}),
    prepare=prepare,
    survey=survey,
    merge=merge,
    coefficients=as_sum,
    remark=remark,
    tensor_bytes=tensor_bytes,
    rows_are_outputs=True,
)

SAFEMERGE_REVERT = MergeMethod(
    name="safemerge_revert",
    summary="Shrinks experts to the anchor in matrices where they depart from alignment.",
    reference="Djuhera et al. 2025, arXiv 2503.17239; without a safety-tuned model (Ds = 0), on full weights",
    parameters=_PARAMETERS,
    scope="matrix",
    trained_from="anchor",
    needs=frozenset({"unaligned"}),
    prepare=prepare,
    survey=survey,
    merge=merge_revert,
    coefficients=as_sum,
    remark=remark,
    tensor_bytes=tensor_bytes,
    rows_are_outputs=True,
)
