"""The trust region: how far one stretch or step may carry the merge, measured where it counts, in its answers.

    gone = mean over held-out rows of KL(last accepted merge || merge now) per answer token, in nats

Linearisations and moving charts hold near where they were made; a step that is longer than the region, by what was
measured and not by what was predicted, is halved. Held-out rows are those of the merit.

Source: trust regions as in Conn, Gould and Toint, Trust-Region Methods; KL as their measure as in TRPO, arXiv
1502.05477; halving along the step and the rows are ours.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

from alignmerge.merger.geometry.gradients import answer_logits
from alignmerge.merger.geometry.rows import Row, answer_divergences, collate, measure


class Trust:
    """Measures moves from the last accepted merge; `limit` in nats per token, 0: nothing is measured or cut."""

    def __init__(self, rows: Sequence[Row], limit: float, pad: int, chunk: int = 16) -> None:
        self._rows = sorted(rows, key=lambda row: len(row.prompt) + len(row.answer))
        self.limit, self._pad, self._chunk = limit if self._rows else 0.0, pad, chunk

    @property
    def on(self) -> bool:
        """Whether moves are measured."""
        return self.limit > 0

    def accept(self, model: Any) -> None:
        """Measure moves from `model` as it is now."""
        if self.on:
            self._rows = measure(model, self._rows, self._pad, self._chunk)

    def gone(self, model: Any) -> float | None:
        """How far `model` is from the last accepted one, in nats per token; infinite where its output is no number.

        None where nothing is measured.
        """
        if not self.on:
            return None
        values: list[float] = []
        with torch.inference_mode():
            for start in range(0, len(self._rows), self._chunk):
                rows = self._rows[start : start + self._chunk]
                batch = collate(rows, self._pad, model.device)
                values += answer_divergences(answer_logits(model, batch), batch, rows).tolist()
        mean = math.fsum(values) / len(values)
        return mean if math.isfinite(mean) else math.inf

    def holds(self, gone: float | None) -> bool:
        """Whether a move of that length is within the region."""
        return gone is None or gone <= self.limit
