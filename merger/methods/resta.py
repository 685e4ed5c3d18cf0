"""RESTA: a safety vector, from an unaligned model to the anchor, added to the merge of the experts."""

from typing import TYPE_CHECKING, Any

from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, moved
from alignmerge.merger.methods.coefficients import as_sum
from alignmerge.merger.methods.dare import thinned

if TYPE_CHECKING:
    from torch import Tensor


def merge(tile: Tile, stats: Any, knobs: Knobs) -> "Tensor":
    """theta_a + sum_k w_k D(tau_k) + gamma (theta_a - theta_u), theta_u the recipe's `unaligned`.

    One expert trained from the anchor, of weight 1, with drop 0: theta_sft + gamma (theta_a - theta_u), the paper's
    RESTA; with drop p > 0 its RESTA_d, D(tau) = m tau / (1 - p), each entry of m 0 with probability p, as in DARE.
    Several experts (ours): their weighted task vectors stand for theta_sft - theta_a. Zero task vectors give the anchor
    plus the safety vector, not the anchor; gamma = 0 and drop = 0 give task_arithmetic with scale 1.
    theta_u is the anchor fine-tuned on harmful answers. Where the pretrained base is named instead, theta_a - theta_u
    is an instruction vector: it holds helpfulness, style and format beside safety, and results should call it that.
    Refusals of harmless requests grow with gamma.
    Source: Bhardwaj et al., arXiv 2402.11746; the defaults gamma = 0.5 and p = 0 are ours, to be searched.
    """
    keep = 1 - knobs["drop"]
    delta = (tile.anchor - tile.others["unaligned"]).mul_(knobs["gamma"])
    for index, weight in enumerate(tile.weights):
        delta += thinned(tile, index, keep).mul_(1 / keep).mul_(weight)
    return moved(tile.anchor, delta)


RESTA = MergeMethod(
    name="resta",
    summary="The experts' task vectors plus a safety vector, from an unaligned model to the anchor.",
    reference="Bhardwaj et al. 2024, arXiv 2402.11746",
    parameters=(
        Parameter(
            "gamma",
            "number",
            0.5,
            "Factor on anchor - unaligned. With the pretrained base as `unaligned` that is an instruction vector, not "
            "a safety vector.",
            low=-10.0,
            high=10.0,
        ),
        Parameter(
            "drop", "number", 0.0, "Share of the task vectors' entries dropped at random (RESTA_d).", low=0.0, high=0.99
        ),
    ),
    needs=frozenset({"unaligned"}),
    merge=merge,
    coefficients=as_sum,
)
