"""The descent of AlignMerge: many cheap steps from its start towards the least of its objective.

Objective, over the weights of the merged linear layers, d = delta - delta_0 the move from the start (see start.py):

    L = lambda_geo ||d||_M^2 + lambda_align mean_align r^2 + lambda_skill mean_skill r^2 + budget

r is the distance of one answer (see residuals.py). With `divergence` the two means are squared Fisher-Rao distances, at
finite distance: to the anchor where alignment is at stake, and to every expert in its own domain. A row of alignment
weighs more as the budget asks (see budget.py).

Each step goes along the gradient of a few rows in a moving chart: a running diagonal of the objective's squared
gradients, to the power -1/2. Steps come in stretches. A stretch that led out of the trust region (trust.py) is cut
back along its way; after that the merit is measured on held-out rows, and a stretch that made it larger is taken back.
The next one then goes less far, so the merit of what is kept never rises.

Source: arXiv 2512.16245 for the terms; Kingma and Ba, arXiv 1412.6980, for the moving diagonal (bias-corrected, warmed
up and then lowered linearly, gradients clipped to norm 1); distances, stretches and taking back are ours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from alignmerge.merger.geometry.budget import Budget
from alignmerge.merger.geometry.chart import Chart
from alignmerge.merger.geometry.draw import Draw
from alignmerge.merger.geometry.gradients import answer_logits, merged_linears, trained
from alignmerge.merger.geometry.merit import Merit, Terms, Weights, apart
from alignmerge.merger.geometry.residuals import Kind, squares
from alignmerge.merger.geometry.rows import ALIGNMENT, Calibration, Row, collate
from alignmerge.merger.geometry.trust import Trust
from alignmerge.progress import Track

CLIP_NORM, BETAS, WARMUP_SHARE = 1.0, (0.9, 0.95), 0.1
HALVINGS = 4  # of a stretch that left the trust region; one that is still outside is taken back


@dataclass(frozen=True)
class Settings:
    """Knobs of the descent.

    radius: the length of a step in the moving chart, at its peak (what AdamW calls the learning rate). stretches: how
    often the merit is measured on the way. alignment_share: of the rows of a step.
    """

    weights: Weights
    radius: float = 3e-5
    steps: int = 60
    batch_rows: int = 22
    alignment_share: float = 0.45
    stretches: int = 4
    residual: Kind = "divergence"
    seed: int = 0
    chunk: int = 24

    def rate(self, step: int) -> float:
        """The radius at step 0, 1, ...: up over the first tenth, then down towards 0."""
        warm = max(1, round(WARMUP_SHARE * self.steps))
        return self.radius * min((step + 1) / warm, (self.steps - step) / max(1, self.steps - warm))

    def ends(self) -> list[int]:
        """After how many steps each stretch ends."""
        return sorted({round(self.steps * part / self.stretches) for part in range(1, self.stretches + 1)} - {0})


class Descent:
    """Moves a model's merged linear layers in place; `weights` are the float32 masters by name.

    Holds five float32 copies of them: masters, gradients, two moments, and the last that was accepted. They lie where
    `start` does (the main memory), whatever device the model is computed on: a GPU holds the model and one gradient.
    `budget` sees the gap of what is kept after each stretch.
    """

    def __init__(
        self,
        model: Any,
        start: Mapping[str, Tensor],
        calibration: Calibration,
        settings: Settings,
        *,
        merit: Merit,
        budget: Budget,
        chart: Chart,
        trust: Trust | None = None,
    ) -> None:
        self.model, self.settings, self._merit, self.budget, self.chart = model, settings, merit, budget, chart
        self._trust = trust or Trust((), 0.0, calibration.pad)
        self.layers = merged_linears(model)
        self.start = {name: start[name] for name in self.layers}
        self.weights = {name: start[name].detach().float().clone() for name in self.layers}
        self._draw = Draw(calibration.rows, settings.alignment_share, settings.seed)
        self._pad, self._passes = calibration.pad, 0

    def run(self, terms: Terms, bar: Track) -> tuple[list[dict[str, Any]], Terms]:
        """One line per stretch, and the terms of what was kept; `terms` are the start's.

        A line holds the terms at the end of its stretch (of one that ended outside the trust region: those before it),
        `kept` (1, or 0 where it was taken back), the `radius` factor, `kl`, how far it went from the last kept merge
        (nats per token; None: its output was no number), and `share`, what the trust region left of it (1: all), the
        mean squared residuals of its own rows, and the rows passed forward and backward so far.

        Raises:
            RecipeError: see Merit.terms.
        """
        lines: list[dict[str, Any]] = []
        factor, begin = 1.0, 0
        kept = {name: value.clone() for name, value in self.weights.items()}
        optimiser = self._optimiser()
        if terms.gap is not None and self.budget.gap is None:
            self.budget = self.budget.update(terms.gap)
        self._trust.accept(self.model)
        for end in self.settings.ends():
            seen = self._stretch(begin, end, factor, optimiser, bar)
            gone, share = self._cut(kept)
            inside = self._trust.holds(gone)
            found = self._terms() if inside else terms  # outside, the weights may be no numbers
            good = inside and found.merit <= terms.merit
            lines.append({"phase": "descent", "steps": end, **found.to_json(), "kept": int(good), "radius": factor})
            if gone is not None:
                lines[-1] |= {"kl": gone if math.isfinite(gone) else None, "share": share}
            lines[-1] |= {f"rows_{name}": value for name, value in seen.items()} | {"passes": self._passes}
            factor *= share
            if good:
                terms = found
                for name, value in kept.items():
                    value.copy_(self.weights[name])
                self._trust.accept(self.model)
            else:
                factor, optimiser = factor / 2, self._back(kept)
            if terms.gap is not None:
                self.budget = self.budget.update(terms.gap)
            begin = end
        for weight in self.weights.values():
            weight.grad = None  # else a copy of the weights stays for as long as they do
        return lines, terms

    def _terms(self) -> Terms:
        return self._merit.terms(self.model, apart(self.weights, self.start, self.chart))

    def _optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.weights.values(), lr=0.0, betas=BETAS, weight_decay=0.0, fused=True)

    def _cut(self, kept: Mapping[str, Tensor]) -> tuple[float | None, float]:
        """How far the stretch leads, and the share of it that was kept to stay inside the trust region."""
        share = 1.0
        gone = self._trust.gone(self.model)
        for _ in range(HALVINGS):
            if self._trust.holds(gone):
                break
            share /= 2
            for name, module in self.layers.items():
                self.weights[name].add_(kept[name]).div_(2)
                module.weight.data.copy_(self.weights[name])
            gone = self._trust.gone(self.model)
        return gone, share

    def _back(self, kept: Mapping[str, Tensor]) -> torch.optim.Optimizer:
        """A fresh moving chart, after the weights went back to the last that were accepted."""
        for name, module in self.layers.items():
            self.weights[name].copy_(kept[name])
            module.weight.data.copy_(kept[name])
        return self._optimiser()

    def _stretch(
        self, begin: int, end: int, factor: float, optimiser: torch.optim.Optimizer, bar: Track
    ) -> dict[str, float | None]:
        """Steps `begin` to `end`; the mean squared residual of their rows, by kind.

        None of a kind without rows, and where the stretch broke the model.
        """
        seen: dict[str, list[float]] = {"align": [], "skill": []}
        with trained(self.model, self.layers):
            for step in range(begin, end):
                rows = self._draw.take(self.settings.batch_rows)
                for row, value in zip(rows, self._backward(rows), strict=True):
                    seen["align" if row.source == ALIGNMENT else "skill"].append(value)
                nn.utils.clip_grad_norm_(self.weights.values(), CLIP_NORM)
                for group in optimiser.param_groups:
                    group["lr"] = factor * self.settings.rate(step)
                optimiser.step()
                with torch.no_grad():
                    for name, module in self.layers.items():
                        module.weight.copy_(self.weights[name])
                self._passes += len(rows)
                bar.advance()
        means = {name: math.fsum(values) / len(values) if values else math.nan for name, values in seen.items()}
        return {name: mean if math.isfinite(mean) else None for name, mean in means.items()}

    def _backward(self, rows: Sequence[Row]) -> list[float]:
        """The rows' squared residuals; the objective's gradient lies at the masters, float32."""
        w = self.settings.weights
        align = w.align + self.budget.weight()
        for weight in self.weights.values():
            weight.grad = None
        aligned = sum(row.source == ALIGNMENT for row in rows)
        shares = align / max(1, aligned), w.skill / max(1, len(rows) - aligned)
        out: list[float] = []
        for start in range(0, len(rows), self.settings.chunk):
            part = rows[start : start + self.settings.chunk]
            batch = collate(part, self._pad, self.model.device)
            each = squares(self.settings.residual, answer_logits(self.model, batch), batch, part)
            weights = torch.tensor([shares[row.source != ALIGNMENT] for row in part], device=each.device)
            loss = (each * weights).sum()
            found = torch.autograd.grad(loss, [module.weight for module in self.layers.values()])
            for weight, gradient in zip(self.weights.values(), found, strict=True):
                here = gradient.to(weight.device)
                weight.grad = here.float() if weight.grad is None else weight.grad.add_(here)
            out += each.tolist()
        if w.geo > 0:
            for name, weight in self.weights.items():
                assert weight.grad is not None
                weight.grad.add_(self.chart.descend(name, weight - self.start[name]), alpha=2 * w.geo)
        return out
