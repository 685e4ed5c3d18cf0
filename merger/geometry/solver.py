"""The restoration of AlignMerge: least-norm steps in closed form that bring the alignment residuals back.

Where the descent (descent.py) ends over budget, each step re-linearises the residuals r of a few rows at the current
merge and takes the exact minimiser, over the step s, of

    ||s||_M^2 + (lambda_geo / mu) ||d + s||_M^2 + sum_i c_i (r_i - g_i.s)^2,   d = delta - delta_0

with c_i = lambda / (mu n) over the n rows of a kind (the budget adds to lambda_align): the objective's quadratic model,
with a proximal term of weight mu. Alignment rows are restored, skill rows are held. A step that makes the merit on
held-out rows larger, or leads out of the trust region (trust.py), is halved, then not taken; steps go on until the
budget holds on validation items.

Source: arXiv 2512.16245 for the terms; their exact forms and the solver are unknown there. The moving linearisation and
the skill rows are ours (method.md 3.7 of the design notes).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alignmerge.merger.geometry.budget import Budget
from alignmerge.merger.geometry.chart import Chart, gram
from alignmerge.merger.geometry.draw import Draw
from alignmerge.merger.geometry.gradients import Factors, combine, merged_linears
from alignmerge.merger.geometry.merit import Merit, Terms, Weights, apart
from alignmerge.merger.geometry.residuals import Kind, linearised
from alignmerge.merger.geometry.rows import ALIGNMENT, Calibration, Row, collate
from alignmerge.merger.geometry.trust import Trust
from alignmerge.progress import Track

# Weight of ||s||_M^2 against the objective: rows of one kind count 100 times their mean against it. With 1000, steps of
# 76 rows on the zoo fitted their rows nearly exactly and were cut to an eighth or not taken (own measurement).
PROXIMAL = 1e-2
HALVINGS = 3


@dataclass(frozen=True)
class Settings:
    """Knobs of the restoration: at most `steps` steps, each with fresh rows of either kind."""

    weights: Weights
    steps: int = 3
    alignment_rows: int = 40
    skill_rows: int = 36
    residual: Kind = "divergence"
    seed: int = 0
    chunk: int = 16


def row_system(kernel: Tensor, residuals: Tensor, weights: Tensor, moved: Tensor, lambda_geo: float) -> Tensor:
    """Multipliers u (n,) such that s = (M^-1 S^T u - lambda_geo d) / (1 + lambda_geo) minimises

        ||s||_M^2 + lambda_geo ||d + s||_M^2 + sum_i weights_i (residuals_i - g_i.s)^2

    kernel: S M^-1 S^T (n, n). moved: S d (n,), each row's directional derivative along the move so far. Rows of weight
    0 get multiplier 0. All float64.
    """
    on = weights > 0
    u = torch.zeros_like(residuals)
    if not bool(on.any()):
        return u
    k = kernel[on][:, on] / (1 + lambda_geo) + torch.diag(1.0 / weights[on])
    u[on] = torch.linalg.solve(k, residuals[on] + lambda_geo / (1 + lambda_geo) * moved[on])
    return u


class Solver:
    """Moves a model's linear layers, in place, until the budget holds.

    `start` holds the weights that the descent began with in float32 and `weights` the present ones, which are changed;
    the model, which may be in bfloat16, gets a rounded copy after each step, so small steps add up. `chart` is the
    metric of moves. `budget` may come from a descent; it sees the gap after each step.
    """

    def __init__(
        self,
        model: Any,
        start: Mapping[str, Tensor],
        weights: dict[str, Tensor],
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
        self.start, self.weights, self._pad = {name: start[name] for name in self.layers}, weights, calibration.pad
        kinds = ([], []) if not calibration.rows else _kinds(calibration.rows)
        self._draws = [Draw(rows, None, settings.seed + 1) if rows else None for rows in kinds]

    def run(self, terms: Terms, bar: Track) -> tuple[list[dict[str, Any]], Terms, str]:
        """One line per step, the terms of the result and why it ended; `terms` are those before the first step.

        A line holds the terms after its step, `norm` (the step's M-length as taken), `shrink` (1, or what the step was
        cut by; 0: not taken), `kl`, how far it went (nats per token), `rows` and the `multiplier` the budget added to
        lambda_align.
        """
        self._trust.accept(self.model)
        lines: list[dict[str, Any]] = []
        if terms.gap is not None and self.budget.gap is None:
            self.budget = self.budget.update(terms.gap)
        for _ in range(self.settings.steps):
            if terms.gap is None or not self.budget.on:
                return lines, terms, "there is no budget to restore"
            if self.budget.holds(terms.gap):
                break
            rows, aligned = self._rows()
            if not rows:
                return lines, terms, "no step: every term that asks for one is switched off"
            line, terms = self._step(rows, aligned, terms)
            if terms.gap is not None:
                self.budget = self.budget.update(terms.gap)
            lines.append(line)
            bar.advance()
        assert terms.gap is not None or self.settings.steps == 0
        if terms.gap is None:
            return lines, terms, "no restoring step was asked for"
        held = "holds" if self.budget.holds(terms.gap) else "does not hold"
        figures = f"gap {terms.gap:.4f}, limit {self.budget.limit:g} {self.budget.unit}"
        return lines, terms, f"the budget {held} on validation items: {figures}"

    def _rows(self) -> tuple[list[Row], Tensor]:
        """This step's rows, short ones first, and a mask (n,) of the alignment rows among them."""
        s = self.settings
        wanted = (s.weights.align + self.budget.weight(), s.alignment_rows), (s.weights.skill, s.skill_rows)
        rows = [
            row
            for draw, (weight, count) in zip(self._draws, wanted, strict=True)
            if draw is not None and weight > 0 and count > 0
            for row in draw.take(count)
        ]
        rows.sort(key=lambda row: len(row.prompt) + len(row.answer))
        return rows, torch.tensor([row.source == ALIGNMENT for row in rows], dtype=torch.bool)

    def _step(self, rows: list[Row], aligned: Tensor, terms: Terms) -> tuple[dict[str, Any], Terms]:
        w, pull = self.settings.weights, self.settings.weights.geo / PROXIMAL
        parts, residuals = self._linearise(rows)
        added = self.budget.weight()
        per_row = torch.where(
            aligned,
            (w.align + added) / (PROXIMAL * max(1, int(aligned.sum()))),
            w.skill / (PROXIMAL * max(1, int((~aligned).sum()))),
        ).double()
        kernel = gram(parts, list(self.layers), self.chart)
        moved = self._moved(parts) if pull > 0 else torch.zeros_like(residuals)
        u = row_system(kernel, residuals, per_row, moved, pull)
        norm = self._apply(parts, u, pull)
        found, shrink, gone = self._accepted(terms)
        line = {"phase": "restore", **found.to_json(), "norm": norm * shrink, "shrink": shrink, "rows": len(rows)}
        return {**line, **({} if gone is None else {"kl": gone}), "multiplier": added}, found

    def _linearise(self, rows: Sequence[Row]) -> tuple[list[Factors], Tensor]:
        parts, residuals = [], []
        for start in range(0, len(rows), self.settings.chunk):
            some = rows[start : start + self.settings.chunk]
            batch = collate(some, self._pad, self.model.device)
            part, found = linearised(self.settings.residual, self.model, batch, some, self.layers)
            parts.append(part)
            residuals.append(found.cpu())
        return parts, torch.cat(residuals)

    def _moved(self, parts: Sequence[Factors]) -> Tensor:
        """S d: each row's directional derivative along the move made so far, (n,) float64."""
        out = []
        for part in parts:
            total = torch.zeros(len(part.values), dtype=torch.float64)
            for name, module in self.layers.items():
                moved = (self.weights[name] - self.start[name]).to(module.weight)
                pushed = part.inputs[name] @ moved.T  # (n, t, d_out)
                total += (pushed * part.outputs[name]).sum(dim=(1, 2)).double().cpu()
            out.append(total)
        return torch.cat(out)

    def _apply(self, parts: Sequence[Factors], u: Tensor, pull: float) -> float:
        """Take the step; its M-norm. It and where it began are kept so that it can be cut."""
        total = 0.0
        self._last: dict[str, tuple[Tensor, Tensor]] = {}
        for name in self.layers:
            step = self.chart.ascend(name, combine(parts, name, u)).to(self.weights[name].device)
            step = (step - pull * (self.weights[name] - self.start[name])) / (1 + pull)
            total += self.chart.square(name, step)
            self._last[name] = self.weights[name].clone(), step
        self._place(1.0)
        return math.sqrt(total)

    def _place(self, share: float) -> None:
        """Go `share` of the last step, from where it began; with 0 every bit is what it was."""
        for name, module in self.layers.items():
            before, step = self._last[name]
            self.weights[name].copy_(before)
            if share:
                self.weights[name].add_(step, alpha=share)
            module.weight.data.copy_(self.weights[name])

    def _accepted(self, terms: Terms) -> tuple[Terms, float, float | None]:
        """The terms after the step, the factor it was cut by and how far it went.

        Halved while the merit grows or it leads out of the trust region, at last taken back.
        """
        for halvings in range(HALVINGS + 1):
            share = 0.5**halvings
            if halvings:
                self._place(share)
            gone = self._trust.gone(self.model)
            if not self._trust.holds(gone):
                continue
            found = self._merit.terms(self.model, apart(self.weights, self.start, self.chart))
            if found.merit <= terms.merit:
                self._trust.accept(self.model)
                return found, share, gone
        self._place(0.0)
        return terms, 0.0, 0.0 if self._trust.on else None


def _kinds(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    aligned = [row for row in rows if row.source == ALIGNMENT]
    return aligned, [row for row in rows if row.source != ALIGNMENT]
