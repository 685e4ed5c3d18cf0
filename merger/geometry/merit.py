"""The merit of a merge: its objective on held-out rows, which no accepted part of a solve makes larger.

merit = lambda_geo L_geo + lambda_align L_align + lambda_skill L_skill + lambda_bud L_bud

L_geo     ||delta - delta_0||_M^2, the squared distance from where the descent began, in the chart M
L_align   mean r^2 of held-out rows with the anchor's own answers (see residuals.py)
L_skill   mean over experts of the mean r^2 of held-out rows with that expert's own answers in its domain
L_bud     max(0, gap - budget)^2 of the alignment functional
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.functional import AlignmentFunctional
from alignmerge.merger.geometry.gradients import answer_logits
from alignmerge.merger.geometry.residuals import Kind, squares
from alignmerge.merger.geometry.rows import ALIGNMENT, Row, collate


@dataclass(frozen=True)
class Weights:
    """The lambdas of the objective; 0 switches a term off."""

    geo: float
    align: float
    skill: float
    bud: float


@dataclass(frozen=True)
class Terms:
    """The terms of the objective at one merge, each without its weight, and their weighted sum.

    align, skill: None where no row measures them. gap: the functional's, in its unit; it and bud are None without a
    budget.
    """

    geo: float
    align: float | None
    skill: float | None
    gap: float | None
    bud: float | None
    merit: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Merit:
    """Measures the terms of a loaded model on held-out rows: the anchor's answers, and each expert's."""

    def __init__(
        self,
        rows: Sequence[Row],
        functional: AlignmentFunctional | None,
        weights: Weights,
        budget: float,
        *,
        kind: Kind,
        pad: int,
        chunk: int = 16,
    ) -> None:
        self._rows = sorted(rows, key=lambda row: len(row.prompt) + len(row.answer))
        self._functional, self.weights, self._budget = functional, weights, budget
        self._kind, self._pad, self._chunk = kind, pad, chunk

    def terms(self, model: Any, geo: float) -> Terms:
        """The terms of `model`, which lies `geo` away from the start.

        Raises:
            RecipeError: a term is not a finite number: the solve has broken a weight.
        """
        means = self._means(model)
        align = means.pop(ALIGNMENT, None)
        skill = sum(means.values()) / len(means) if means else None
        gap = None if self._functional is None else self._functional.gap(model)
        bud = None if gap is None else max(0.0, gap - self._budget) ** 2
        w = self.weights
        merit = w.geo * geo + w.align * (align or 0.0) + w.skill * (skill or 0.0) + w.bud * (bud or 0.0)
        if not math.isfinite(merit):
            raise RecipeError(
                "parameters.radius: the solve broke down: its merit is not a number; take a smaller radius"
            )
        return Terms(geo, align, skill, gap, bud, merit)

    def _means(self, model: Any) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        with torch.inference_mode():
            for start in range(0, len(self._rows), self._chunk):
                rows = self._rows[start : start + self._chunk]
                batch = collate(rows, self._pad, model.device)
                values = squares(self._kind, answer_logits(model, batch), batch, rows).tolist()
                for row, value in zip(rows, values, strict=True):
                    found.setdefault(row.source, []).append(value)
        return {source: math.fsum(values) / len(values) for source, values in sorted(found.items())}


def apart(weights: Mapping[str, torch.Tensor], start: Mapping[str, torch.Tensor], chart: Any) -> float:
    """||weights - start||_M^2 over all layers."""
    return float(sum(chart.square(name, weights[name] - value) for name, value in start.items()))
