"""Residuals: how far a merge's answer to one row is from that of the model it should answer like.

    divergence   r = sqrt(2 KL(teacher || merge)), mean per answer token. To second order r is the Fisher-Rao distance
                 between the two models as seen from that answer, so sums of r^2 are the L_geo and L_align of
                 arXiv 2512.16245 at finite distance, where its constant chart at the anchor no longer holds
    sharp        as divergence on alignment rows; on skill rows r = sqrt(-2 log p_merge(answer)), mean per answer token:
                 the distance to a teacher that is sure of its greedy answer, 2 KL(answer || merge), and so above 0
                 for the teacher itself: a merge that has the teacher's doubts already is pulled on
    hellinger    r^2 = 8 (1 - sum_j sqrt(p_j q_j)), mean per answer token: 8 times the squared Hellinger distance. To
                 second order the same Fisher-Rao distance, but never above 8, so that a token which is lost anyhow
                 weighs no more than that and pulls no more
    likelihood   r = max(0, log p_teacher(answer) - log p_merge(answer)), mean per answer token: the one answer alone

Source: Amari, Information Geometry and Its Applications, section 3.5, for divergences and the Fisher metric; the use
is ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from alignmerge.merger.geometry.gradients import Factors, answer_factors, factors
from alignmerge.merger.geometry.rows import ALIGNMENT, Batch, Row, answer_divergences, answer_hellingers, answer_means

Kind = Literal["divergence", "sharp", "hellinger", "likelihood"]
KINDS: tuple[Kind, ...] = ("divergence", "sharp", "hellinger", "likelihood")
# Below this a distance (nats^1/2) is the rounding of bfloat16 logits, and has no direction.
LEAST = 1e-2


def squares(kind: Kind, logits: Tensor, batch: Batch, rows: Sequence[Row]) -> Tensor:
    """r^2 of each row, (n,) float32, differentiable; logits are those before answer tokens, row after row."""
    if kind == "likelihood":
        return (batch.reference - answer_means(logits, batch)).clamp_min(0.0).square()
    return 2 * _halves(kind, logits, batch, rows)


def _halves(kind: Kind, logits: Tensor, batch: Batch, rows: Sequence[Row]) -> Tensor:
    """r^2 / 2 of each row, a divergence, (n,)."""
    if kind == "divergence":
        return answer_divergences(logits, batch, rows)
    if kind == "hellinger":
        return 4 * answer_hellingers(logits, batch, rows)
    aligned = torch.tensor([row.source == ALIGNMENT for row in rows], device=logits.device)
    return torch.where(aligned, answer_divergences(logits, batch, rows), -answer_means(logits, batch))


def linearised(
    kind: Kind, model: Any, batch: Batch, rows: Sequence[Row], layers: Mapping[str, nn.Linear]
) -> tuple[Factors, Tensor]:
    """Factors of -dr/dweights, whose sums lower the residuals, and the residuals r (n,) float64."""
    if kind == "likelihood":
        part = answer_factors(model, batch, layers)
        return part, (batch.reference - part.values).clamp_min(0.0).double()
    part = factors(model, batch, layers, lambda logits, of: _halves(kind, logits, of, rows))
    residuals = (2 * part.values.double()).sqrt()
    slope = torch.where(residuals > LEAST, -1 / residuals.clamp_min(LEAST), 0.0)
    outputs = {name: gradient * slope.to(gradient.dtype)[:, None, None] for name, gradient in part.outputs.items()}
    return Factors(part.values, part.inputs, outputs), residuals
