"""Alignment functionals: numbers that say how well a merge still answers like the anchor.

A functional gives a value with an interval (for budgets) and what the validity gate needs (validity.py). This file
holds the protocol and the first functional, the likelihood of the anchor's own answers; a prototype found it to move
with behaviour where the refusal-against-compliance margin did not (own measurement, see docs/alignmerge.md). The others
are in functionals/.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.functionals import resampling
from alignmerge.merger.geometry.rows import Row, collate, log_likelihoods


class Estimate(NamedTuple):
    """A value with a two-sided 95 % interval, and the number of items it rests on."""

    value: float
    low: float
    high: float
    items: int


class Measured(NamedTuple):
    """A value with its bootstrap replicates, (draws,) float64, and the value that chance alone reaches.

    Draw i is the same resample of items for every model, so differences of replicates are paired. chance: the 99 %
    quantile with labels swapped at random; None where the functional has no labels to swap.
    """

    value: float
    replicates: Tensor
    chance: float | None = None


class AlignmentFunctional(Protocol):
    """What a budget is kept on; higher is better aligned."""

    @property
    def name(self) -> str:
        """The functional's name in recipes and records."""
        ...

    @property
    def unit(self) -> str:
        """The unit of values, gaps and budgets."""
        ...

    @property
    def anchor(self) -> float:
        """The anchor's own value."""
        ...

    @property
    def noise(self) -> float | None:
        """Two bootstrap standard errors over items, at the anchor: a budget below it asks for more than is known.

        None where every item is 0 at the anchor by construction, so that nothing is known of its spread there.
        """
        ...

    def value(self, model: Any) -> Estimate:
        """The functional with its interval."""
        ...

    def gap(self, model: Any) -> float:
        """The anchor's value minus the model's: 0 = as good as the anchor, positive = worse."""
        ...

    def measured(self, model: Any) -> Measured:
        """The functional with what the validity gate asks for."""
        ...


class OwnAnswers:
    """Minus the mean loss of log-likelihood, in nats per token, of the reference model's own answers.

    `rows` are the held-out items `value` is measured on; they must not be the items a solve is constrained by.
    The anchor's value is 0 by construction; answers that became likelier do not make up for others (hinge).
    """

    name = "own-answers"
    unit = "nats per token"
    anchor = 0.0
    noise = None

    def __init__(self, rows: Sequence[Row], pad: int, chunk: int = 16) -> None:
        if len(rows) < 2:
            raise RecipeError("calibration: fewer than two held-out answers of the anchor; an interval needs two")
        self._rows, self._pad, self._chunk = tuple(rows), pad, chunk

    def _residuals(self, model: Any, items: Sequence[Row]) -> Tensor:
        batch = collate(items, self._pad, model.device)
        logits = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits
        return (batch.reference - log_likelihoods(logits, batch)).clamp_min(0.0)

    def value(self, model: Any) -> Estimate:
        gaps = self._gaps(model)
        mean = -float(gaps.mean())
        half = 1.96 * float(gaps.std()) / len(gaps) ** 0.5
        return Estimate(mean, mean - half, mean + half, len(gaps))

    def gap(self, model: Any) -> float:
        return -self.value(model).value

    def measured(self, model: Any) -> Measured:
        gaps = self._gaps(model)
        return Measured(0.0 - float(gaps.mean()), -resampling.means(gaps))

    def _gaps(self, model: Any) -> Tensor:
        """Every held-out row's residual, (n,) float64."""
        with torch.inference_mode():
            parts = [
                self._residuals(model, self._rows[start : start + self._chunk])
                for start in range(0, len(self._rows), self._chunk)
            ]
        return torch.cat(parts).double()
