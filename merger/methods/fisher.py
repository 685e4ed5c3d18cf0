"""Fisher soup: every weight is averaged by how much each model's answers depend on it.

Notable decisions:
- The Fisher is diagonal and true (labels sampled from the model), squared per example, over answer tokens only: the
  anchor's on its own answers where alignment is at stake, each expert's on its own answers in its domain. Which rows
  are taken decides everything; the method knows nothing of safety.
- Each Fisher is divided by its norm over the whole model, as in the authors' code; dividing per tensor would be
  another method.
- The floor decides where all Fishers are below it; the record says how many entries of each model are. With
  `floor: anchor` (the authors' favor_target_model, the anchor being the target) only the anchor's is lifted to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum, prod, sqrt
from typing import TYPE_CHECKING, Any

from alignmerge.errors import RecipeError
from alignmerge.merger.methods import linear
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, View, moved
from alignmerge.merger.methods.coefficients import as_mean
from alignmerge.merger.tiles import row_elements

if TYPE_CHECKING:
    from torch import Tensor

    from alignmerge.merger.gathered import Gathered
    from alignmerge.merger.geometry.rows import Row


@dataclass(frozen=True)
class Fishers:
    """The Fisher of the anchor and then of every expert, by tensor, and their coefficients c_i = w_i / ||F_i||_2."""

    values: "tuple[Mapping[str, Tensor], ...]"
    coefficients: tuple[float, ...]
    account: Mapping[str, Any]


def gather(model: Any, rows: "Sequence[Row]", knobs: Knobs, seed: int) -> "dict[str, Tensor]":
    """The diagonal Fisher of every parameter; see merger/geometry/scores.py."""
    from alignmerge.merger.geometry.scores import diagonal_fisher

    return diagonal_fisher(model, rows, seed)


def gather_bytes(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Two bytes per parameter."""
    return 2 * sum(map(prod, shapes.values()))


def prepare(view: View, knobs: Knobs) -> Fishers:
    """The Fishers with their coefficients, after one pass for their norms.

    Raises:
        RecipeError: a model's Fisher is zero everywhere.
    """
    gathered: Gathered = view.materials
    values: tuple[Mapping[str, Tensor], ...] = gathered.in_order(view)
    names = [name for name in view.names if all(name in one for one in values)]
    size = sum(values[0][name].numel() for name in names)
    norms, below = [], []
    for one in values:
        square, count = _extent(one, names, knobs["epsilon"])
        if square == 0:
            raise RecipeError("calibration: a model's Fisher is zero on its rows; take more items")
        norms.append(sqrt(square))
        below.append(count / size)
    weights = (knobs["anchor_weight"], *view.weights)
    account = {
        "calibration": gathered.digest,
        "norms": {"anchor": norms[0], "experts": norms[1:]},
        "share_below_floor": {"anchor": below[0], "experts": below[1:]},
        "plain_mean": [name for name in view.names if name not in set(names)],
    }
    return Fishers(values, tuple(weight / norm for weight, norm in zip(weights, norms, strict=True)), account)


def _extent(fisher: "Mapping[str, Tensor]", names: Sequence[str], floor: float) -> tuple[float, int]:
    """The squared norm over all tensors, and how many entries lie below the floor."""
    from alignmerge.merger import sums

    square, below = 0.0, 0
    for name in names:
        value = fisher[name].float()
        square += sums.square(value)
        below += int((value < floor).sum())
    return square, below


def check(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError for weights that make no mean."""
    if min(weights) < 0 or fsum((knobs["anchor_weight"], *weights)) == 0:
        raise RecipeError("fisher: weights must not be negative, and not all be 0: they weigh a mean")
    if knobs["floor"] == "anchor" and knobs["anchor_weight"] == 0:
        raise RecipeError("fisher: floor: anchor needs an anchor_weight above 0; or set floor: all")


def merge(tile: Tile, stats: Fishers, knobs: Knobs) -> "Tensor":
    """sum_i c_i F_i theta_i / sum_i c_i F_i per entry, over the anchor and the experts, as a move from the anchor.

    F_i is raised to epsilon first (the anchor's alone for floor: anchor). A tensor without a Fisher (no parameter of
    the model) gets the linear mean.
    Source: Matena and Raffel, arXiv 2111.09832, equation 5, and the authors' code for normalisation and floor.
    """
    import torch

    if any(tile.name not in one for one in stats.values):
        return linear.merge(tile, None, {**knobs, "combine": "mean"})
    start = tile.offset // max(1, row_elements(tile.shape))
    total, delta = torch.zeros_like(tile.anchor), torch.zeros_like(tile.anchor)
    for index, (fisher, coefficient) in enumerate(zip(stats.values, stats.coefficients, strict=True)):
        value = fisher[tile.name]
        own = (value[start : start + len(tile.anchor)] if tile.shape else value).float()
        if index == 0 or knobs["floor"] == "all":
            own = own.clamp(min=knobs["epsilon"])
        own = own * coefficient
        total += own
        if index > 0:
            delta += own * (tile.experts[index - 1] - tile.anchor)
    return moved(tile.anchor, delta / total)


def account(stats: Fishers) -> dict[str, Any]:
    """Norms, the share of entries below the floor, and the calibration's digest."""
    return dict(stats.account)


FISHER = MergeMethod(
    name="fisher",
    summary="Averages each weight by how much each model's own answers depend on it (Fisher soup).",
    reference="Matena and Raffel 2022, arXiv 2111.09832; for causal models",
    parameters=(
        Parameter(
            "anchor_weight",
            "number",
            1.0,
            "Weight of the anchor; 0 leaves it out.",
            low=0.0,
            high=1e6,
            scheduled=False,
        ),
        Parameter(
            "epsilon",
            "number",
            1e-6,
            "Floor under the Fisher (the authors' value).",
            low=1e-30,
            high=1e6,
            scheduled=False,
        ),
        Parameter("floor", "choice", "anchor", "Whose Fisher is raised to the floor.", choices=("anchor", "all")),
        Parameter("threads", "integer", 2, "CPU threads of the Fisher; part of the recipe.", low=1, high=256),
    ),
    needs=frozenset({"calibration"}),
    check=check,
    constant=lambda knobs: {"weight": "a model's Fisher has one coefficient"},
    prepare=prepare,
    merge=merge,
    coefficients=as_mean,
    account=account,
    gather=gather,
    gather_bytes=gather_bytes,
)
