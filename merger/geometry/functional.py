"""Alignment functionals: numbers that say how well a merge still answers like the anchor.

A functional gives a value with an interval (for budgets) and differentiable residuals, one per item (for the solve).
This file holds the protocol and the first functional, the likelihood of the anchor's own answers; a prototype found it
to move with behaviour where the refusal-against-compliance margin did not (own measurement, see docs/alignmerge.md).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.rows import Row, collate, log_likelihoods


class Estimate(NamedTuple):
    """A value with a two-sided 95 % interval, and the number of items it rests on."""

    value: float
    low: float
    high: float
    items: int


class AlignmentFunctional(Protocol):
    """What a geometry solver works against."""

    def value(self, model: Any) -> Estimate:
        """The functional with its interval; higher is better aligned, 0 = as good as the anchor."""
        ...

    def residuals(self, model: Any, items: Sequence[Row]) -> Tensor:
        """Residuals (n,), differentiable, one per item; 0 = as good as the anchor, positive = worse."""
        ...


class OwnAnswers:
    """Minus the mean loss of log-likelihood, in nats per token, of the reference model's own answers.

    `rows` are the held-out items `value` is measured on; they must not be the items a solve is constrained by.
    """

    def __init__(self, rows: Sequence[Row], pad: int, chunk: int = 16) -> None:
        if len(rows) < 2:
            raise RecipeError("calibration: fewer than two held-out answers of the anchor; an interval needs two")
        self._rows, self._pad, self._chunk = tuple(rows), pad, chunk

    def residuals(self, model: Any, items: Sequence[Row]) -> Tensor:
        batch = collate(items, self._pad)
        logits = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits
        return (batch.reference - log_likelihoods(logits, batch)).clamp_min(0.0)

    def value(self, model: Any) -> Estimate:
        with torch.inference_mode():
            parts = [
                self.residuals(model, self._rows[start : start + self._chunk])
                for start in range(0, len(self._rows), self._chunk)
            ]
        gaps = torch.cat(parts).double()
        mean = -float(gaps.mean())
        half = 1.96 * float(gaps.std()) / len(gaps) ** 0.5
        return Estimate(mean, mean - half, mean + half, len(gaps))
