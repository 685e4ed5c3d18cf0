"""RegMean: every linear layer becomes the one whose outputs are nearest to each model's own, on that model's inputs.

Notable decisions:
- Inputs are those of each model on its own answers: the anchor's where alignment is at stake, each expert's in its
  domain; every token of prompt and answer. A Gram matrix is a mean over tokens, so that a model with more or longer
  rows weighs no more.
- Models are averaged, not task vectors: `trained_from` plays no part.
- Everything that is no linear layer (embeddings, the output layer, norms, biases) gets the linear mean.
- Each Gram matrix gets a millionth of its mean diagonal on the diagonal, on both sides of the equation, so that the
  system can be solved and a single model is still returned as it is. Solved in float64 on one thread, never inverted.
- A matrix product decides the bits: one digest on a platform, at any thread count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, prod
from typing import TYPE_CHECKING, Any

from alignmerge.errors import RecipeError
from alignmerge.merger.methods import linear
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, View, moved
from alignmerge.merger.methods.coefficients import as_mean

if TYPE_CHECKING:
    from torch import Tensor

    from alignmerge.merger.gathered import Gathered
    from alignmerge.merger.geometry.rows import Row


@dataclass(frozen=True)
class Grams:
    """The Gram matrices of the anchor and then of every expert, by weight name, and what the record keeps."""

    values: "tuple[Mapping[str, Tensor], ...]"
    account: Mapping[str, Any]


def gather(model: Any, rows: "Sequence[Row]", knobs: Knobs, seed: int) -> "dict[str, Tensor]":
    """The Gram matrix of every linear layer's inputs; see merger/geometry/grams.py."""
    from alignmerge.merger.geometry.grams import input_grams

    return input_grams(model, rows)


def gather_bytes(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Four bytes times the square of every matrix's inputs; less where layers share theirs."""
    from alignmerge.merger.geometry.alignment_update import judged

    return 4 * sum(shape[1] ** 2 for name, shape in shapes.items() if judged(name, shape))


def prepare(view: View, knobs: Knobs) -> Grams:
    """The Gram matrices in the order of the models."""
    gathered: Gathered = view.materials
    values = gathered.in_order(view)
    averaged = [name for name in view.names if any(name not in one for one in values)]
    solved = len(view.names) - len(averaged)
    return Grams(values, {"calibration": gathered.digest, "solved": solved, "averaged": sorted(averaged)})


def check(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError for weights that make no mean."""
    if min(weights) < 0 or fsum((knobs["anchor_weight"], *weights)) == 0:
        raise RecipeError("regmean: weights must not be negative, and not all be 0: they weigh a mean")


def merge(tile: Tile, stats: Grams, knobs: Knobs) -> "Tensor":
    """W = (sum_i w_i W_i G_i') (sum_i w_i G_i')^-1 over the anchor and the experts, as a move from the anchor.

    W is (d_out, d_in); G' = a G + (1 - a) diag(G), with G the mean of x x^T over the layer's inputs x.
    Source: Jin et al., arXiv 2212.09849, equation 2 and section 4.2 (a); weights and the anchor as one of the models
    are ours.
    """
    import torch

    from alignmerge.merger.geometry.grams import shrunk
    from alignmerge.merger.geometry.solution import fixed_threads

    if any(tile.name not in one for one in stats.values):
        return linear.merge(tile, None, {**knobs, "combine": "mean"})
    with fixed_threads(1):
        total, moves = None, torch.zeros_like(tile.anchor, dtype=torch.float64)
        for index, weight in enumerate((knobs["anchor_weight"], *tile.weights)):
            gram = shrunk(stats.values[index][tile.name], knobs["a"]).mul_(weight)
            if index > 0:
                moves += (tile.experts[index - 1] - tile.anchor).double() @ gram
            total = gram if total is None else total.add_(gram)
        assert total is not None
        if not bool(total.any()):
            raise RecipeError(f"calibration: the inputs of {tile.name} are zero in every model; take more items")
        delta = torch.linalg.solve(total, moves, left=False).float()  # (d_out, d_in)
    return moved(tile.anchor, delta)


def tensor_bytes(shape: tuple[int, ...], experts: int) -> int:
    """The tensor of every ingredient, moves and result in float64, and three Gram matrices in float64."""
    size = prod(shape)
    gram = shape[1] ** 2 if len(shape) == 2 else 0
    return 4 * (experts + 2) * size + 8 * 4 * size + 8 * 3 * gram


def account(stats: Grams) -> dict[str, Any]:
    """The calibration's digest, how many tensors were solved for, and the names of those that got the plain mean."""
    return dict(stats.account)


REGMEAN = MergeMethod(
    name="regmean",
    summary="Makes every linear layer answer each model's own inputs as nearly as it can as that model does.",
    reference="Jin et al. 2023, arXiv 2212.09849",
    parameters=(
        Parameter("anchor_weight", "number", 1.0, "Weight of the anchor; 0 leaves it out.", low=0.0, high=1e6),
        Parameter(
            "a",
            "number",
            0.9,
            "Share of the Gram matrices' off-diagonal that is kept. The paper has 0.9 for encoders and 0.1 for T5; try "
            "0.1, 0.5 and 0.9.",
            low=0.0,
            high=1.0,
        ),
        Parameter("threads", "integer", 2, "CPU threads of the forward passes; part of the recipe.", low=1, high=256),
    ),
    scope="matrix",
    needs=frozenset({"calibration"}),
    check=check,
    prepare=prepare,
    merge=merge,
    coefficients=as_mean,
    account=account,
    tensor_bytes=tensor_bytes,
    gather=gather,
    gather_bytes=gather_bytes,
    rows_are_outputs=True,
)
