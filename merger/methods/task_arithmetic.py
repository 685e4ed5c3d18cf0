"""Task arithmetic: the anchor plus the weighted sum of the task vectors."""

from typing import TYPE_CHECKING, Any

from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, moved
from alignmerge.merger.methods.coefficients import as_sum

if TYPE_CHECKING:
    from torch import Tensor


def merge(tile: Tile, stats: Any, knobs: Knobs) -> "Tensor":
    """theta_a + scale * sum_k w_k tau_k, tau_k measured from what the recipe says expert k was trained from.

    Source: Ilharco et al., arXiv 2212.04089, section 2.
    """
    import torch

    delta = torch.zeros_like(tile.anchor)
    for index, weight in enumerate(tile.weights):
        delta += tile.task_vector(index).mul_(weight)
    return moved(tile.anchor, delta.mul_(knobs["scale"]))


TASK_ARITHMETIC = MergeMethod(
    name="task_arithmetic",
    summary="The anchor plus the scaled, weighted sum of the experts' task vectors.",
    reference="Ilharco et al. 2023, arXiv 2212.04089",
    parameters=(
        Parameter(
            "scale",
            "number",
            1.0,
            "Factor on the summed task vectors. 1 is mergekit's default; the paper searches it on validation data, "
            "and with many experts values near 0.4 are usual.",
            low=-10.0,
            high=10.0,
        ),
    ),
    merge=merge,
    coefficients=as_sum,
)
