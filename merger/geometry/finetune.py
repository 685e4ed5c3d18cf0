"""Plain fine-tuning of a merge on calibration rows: the alternative that the geometry has to beat.

From the mixture, AdamW on the mean over a batch's rows of each answer's negative log-likelihood per token, the quantity
whose residuals AlignMerge works on. Linear warm-up over a tenth of the steps, then linear decay, gradients clipped to
norm 1: as the zoo's adapters are trained, with two differences: there the mean is over a batch's tokens, and an adapter
is trained, here every merged linear layer. Nothing measures or bounds how far the merge moves.

Source: Loshchilov and Hutter, arXiv 1711.05101 (AdamW); the use as a repair of merges is common practice.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.draw import Draw
from alignmerge.merger.geometry.functional import OwnAnswers
from alignmerge.merger.geometry.gradients import answer_logits, merged_linears, trained
from alignmerge.merger.geometry.rows import Batch, Calibration, Row, answer_means, collate
from alignmerge.merger.geometry.solution import Solution, fixed_threads
from alignmerge.progress import Track, say, track

WARMUP_SHARE = 0.1
CLIP_NORM = 1.0
BETAS = (0.9, 0.999)


@dataclass(frozen=True)
class Settings:
    """Knobs of the fine-tuning.

    alignment_share: share of alignment rows in what is drawn; None: their share in the rows. checks: how often the
    validation gap is measured on the way, beside the end. chunk: most rows in one pass; a larger batch is summed up.
    """

    learning_rate: float = 2e-5
    steps: int = 60
    batch_rows: int = 8
    weight_decay: float = 0.0
    alignment_share: float | None = None
    checks: int = 4
    seed: int = 0
    chunk: int = 16

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, ...: up to its peak over the first tenth, then down towards 0."""
        warm = max(1, round(WARMUP_SHARE * self.steps))
        return self.learning_rate * min((step + 1) / warm, (self.steps - step) / max(1, self.steps - warm))

    def measured(self, step: int) -> bool:
        """Whether the validation gap is measured after `step`."""
        parts = self.checks + 1
        return step + 1 in {round(self.steps * part / parts) for part in range(1, parts + 1)}


def answer_likelihoods(model: Any, batch: Batch) -> Tensor:
    """Mean log-likelihood per answer token of each row, (n,), nats, differentiable in the model's weights."""
    return answer_means(answer_logits(model, batch), batch)


class FineTuning:
    """Trains a model's merged linear layers in place. `weights` are the float32 masters, by name.

    `start` holds the mixture's weights in float32; the model, which may be in bfloat16, does the passes with a rounded
    copy of the masters.
    """

    def __init__(self, model: Any, start: Mapping[str, Tensor], calibration: Calibration, settings: Settings) -> None:
        self.model, self.settings, self._pad = model, settings, calibration.pad
        self.layers = merged_linears(model)
        self.start = {name: start[name] for name in self.layers}
        self.weights = {name: start[name].detach().float().clone() for name in self.layers}
        self.functional = OwnAnswers(calibration.validation, calibration.pad)
        self._draw = Draw(calibration.rows, settings.alignment_share, settings.seed)
        self._losses = {source: deque[float](maxlen=len(rows)) for source, rows in self._draw.rows.items()}
        self._optimiser = torch.optim.AdamW(
            list(self.weights.values()),
            lr=settings.learning_rate,
            betas=BETAS,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def run(self, bar: Track) -> list[dict[str, float]]:
        """One line per step; the model holds the rounded result afterwards.

        Each has `step`, `loss` of the batch before it, `rate`, `norm` of the gradient before clipping, `passes` (rows
        passed forward and backward so far) and, by source, the mean over the last loss of each of its rows. At some
        `gap` and `geo` are added, after the step: the validation gap in nats per token, and the squared distance from
        the mixture.

        Raises:
            RecipeError: the loss, its gradient or the validation gap is not finite.
        """
        lines = []
        with trained(self.model, self.layers):
            for step in range(self.settings.steps):
                lines.append(self._step(step))
                bar.advance()
        return lines

    def _step(self, step: int) -> dict[str, float]:
        rate, size = self.settings.rate(step), self.settings.batch_rows
        loss = self._backward(self._draw.take(size))
        norm = float(nn.utils.clip_grad_norm_(self.weights.values(), CLIP_NORM))
        self._check(step, loss, norm)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()
        with torch.no_grad():
            for name, module in self.layers.items():
                module.weight.copy_(self.weights[name])
        line = {"step": step, "loss": loss, "rate": rate, "norm": norm, "passes": (step + 1) * size}
        line |= {source: math.fsum(own) / len(own) for source, own in self._losses.items() if own}
        if self.settings.measured(step):
            line |= {"gap": -self.functional.value(self.model).value, "geo": self.geo()}
            self._check(step + 1, line["gap"], line["geo"])
        return line

    def _backward(self, rows: Sequence[Row]) -> float:
        """The batch's loss; its gradient lies at the masters, float32."""
        for weight in self.weights.values():
            weight.grad = None
        losses: list[float] = []
        for start in range(0, len(rows), self.settings.chunk):
            batch = collate(rows[start : start + self.settings.chunk], self._pad, self.model.device)
            each = -answer_likelihoods(self.model, batch)
            found = torch.autograd.grad(each.sum() / len(rows), [module.weight for module in self.layers.values()])
            for weight, gradient in zip(self.weights.values(), found, strict=True):
                here = gradient.to(weight.device)
                weight.grad = here.float() if weight.grad is None else weight.grad.add_(here)
            losses += each.tolist()
        for row, value in zip(rows, losses, strict=True):
            self._losses[row.source].append(value)
        return math.fsum(losses) / len(losses)

    def geo(self) -> float:
        """The squared Euclidean distance from the mixture."""
        return sum(float((self.weights[name] - start).square().sum()) for name, start in self.start.items())

    def _check(self, steps: int, *values: float) -> None:
        if not all(map(math.isfinite, values)):
            rate = self.settings.learning_rate
            raise RecipeError(
                f"parameters.learning_rate: fine-tuning broke down after {steps} steps at {rate}: the loss is not "
                f"finite; take a smaller one"
            )


def finetune(
    model: Any, mixture: Mapping[str, Tensor], calibration: Calibration, settings: Settings, threads: int
) -> Solution:
    """The fine-tuned linear weights and their account, from `model`, which holds the mixture in any dtype.

    Holds four float32 copies of the linear layers beside the mixture's: masters, gradients and AdamW's two moments.

    Raises:
        RecipeError: no rows, fewer than two held-out ones, or a loss that is not finite.
    """
    with fixed_threads(threads):
        work = FineTuning(model, mixture, calibration, settings)
        before = work.functional.value(model)
        with track("fine-tuning steps", settings.steps) as bar:
            lines = work.run(bar)
        after, geo = work.functional.value(model), work.geo()
    ended = f"{settings.steps} steps taken; validation gap {-after.value:.4f} nats per token"
    say(f"fine-tuning: {ended}")
    passes = settings.steps * settings.batch_rows
    account = {
        "calibration": calibration.digest,
        "rows": len(calibration.rows),
        "validation_rows": len(calibration.validation),
        "threads": threads,
        "device": model.device.type,
        "passes": passes,
        "epochs": passes / len(calibration.rows),
        "geo": geo,
        "functional": {"name": "own-answers", "before": before._asdict(), "after": after._asdict()},
        "trace": {"settings": asdict(settings), "steps": lines, "ended": ended},
    }
    return Solution(work.weights, account)
