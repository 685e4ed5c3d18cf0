"""Finite drift: how far a merge's answers are from the anchor's, as KL at the anchor's own answers.

    drift of a row = mean over its answer tokens of KL(anchor || merge), in nats per token

Notable decisions:
- What is kept of the anchor is its logits in the dtype the model computes them in, and their float64 normaliser: exact,
  and for a bfloat16 model half of what float32 log-probabilities take (vocabulary 49,152, 8 tokens, 64 rows: 50 MB).
  bfloat16 log-probabilities would be off by up to 0.03 nats each.
- KL is summed as p (e^t - 1 - t), t = log q - log p: with both sides normalised it is the same number, no term is
  negative, and a small drift is not lost between two large sums.
- The merge is asked in the same batches as the anchor, so the anchor's drift from itself is 0 and not rounding.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignmerge.errors import RecipeError, TensorMismatch
from alignmerge.merger.geometry.rows import Batch, Row, before_answers, collate

RESAMPLES = 9999
# Positions normalised at once: 64 of 49,152 float64 logits are 25 MB, and a handful of such tables is alive.
_BLOCK = 64


@dataclass(frozen=True)
class AnswerLogs:
    """The anchor's log-probabilities at the answer positions of rows.

    logits: per row (answer tokens, vocabulary), in the model's dtype. normalisers: per row (answer tokens,) float64;
    a log-probability is logit - normaliser. The rows' tokens, padding and batch size are kept to ask others the same.
    """

    logits: tuple[Tensor, ...]
    normalisers: tuple[Tensor, ...]
    rows: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    pad: int
    chunk: int

    @property
    def bytes(self) -> int:
        """Memory held."""
        return sum(one.numel() * one.element_size() for one in (*self.logits, *self.normalisers))


class DriftSummary(NamedTuple):
    """Mean drift over rows with a two-sided 95 % interval, and the largest row's, in nats per token."""

    mean: float
    low: float
    high: float
    largest: float
    rows: int


def answer_logs(model: Any, rows: Sequence[Row], pad: int = 0, chunk: int = 16) -> AnswerLogs:
    """The model's log-probabilities at the answer positions of `rows`; asked of the anchor and kept.

    Raises:
        RecipeError: no rows.
        TensorMismatch: the model's output is not a number.
    """
    if not rows:
        raise RecipeError("calibration: no answers of the anchor to measure drift on")
    logits, normalisers = [], []
    for found in _asked(model, rows, pad, chunk):
        logits.append(found)
        normalisers.append(torch.cat([block.double().logsumexp(dim=1) for block in torch.split(found, _BLOCK)]))
    return AnswerLogs(tuple(logits), tuple(normalisers), _tokens(rows), pad, chunk)


def finite_drift(model: Any, rows: Sequence[Row], logs: AnswerLogs) -> Tensor:
    """Each row's mean over answer tokens of KL(anchor || model), (n,) float64 on the CPU, in nats; never negative.

    Raises:
        ValueError: `logs` are of other rows.
        TensorMismatch: the model's output is not a number, or of another vocabulary.
    """
    if _tokens(rows) != logs.rows:
        raise ValueError("the anchor's log-probabilities are of other rows")
    out = torch.empty(len(rows), dtype=torch.float64)
    asked = _asked(model, rows, logs.pad, logs.chunk)
    for index, (found, kept, normaliser) in enumerate(zip(asked, logs.logits, logs.normalisers, strict=True)):
        if found.shape != kept.shape:
            raise TensorMismatch(f"model: {found.shape[1]} logits per token, the anchor has {kept.shape[1]}")
        blocks = zip(*(torch.split(one, _BLOCK) for one in (found, kept, normaliser)), strict=True)
        out[index] = float(torch.cat([_divergence(a.double() - z[:, None], m) for m, a, z in blocks]).mean())
    return out


def _divergence(anchor: Tensor, logits: Tensor) -> Tensor:
    """KL of each position, (positions,) float64, from the anchor's log-probabilities and another model's logits."""
    other = logits.double()
    other = other - other.logsumexp(dim=1, keepdim=True)
    p, q, t = anchor.exp(), other.exp(), other - anchor
    terms = torch.where(t < 1, p * (torch.expm1(t) - t), q - p - p * t)  # e^t overflows where p is nearly nothing
    return torch.where(p > 0, terms, q).clamp_min(0.0).sum(dim=1)


def _asked(model: Any, rows: Sequence[Row], pad: int, chunk: int) -> Iterator[Tensor]:
    """Each row's logits that predict its answer, (answer tokens, vocabulary), on the CPU, in order."""
    for start in range(0, len(rows), chunk):
        part = rows[start : start + chunk]
        batch = collate(part, pad)
        with torch.inference_mode():
            found = _answer_logits(model, batch).cpu()
        if bool((found.isnan() | (found == math.inf)).any()):
            raise TensorMismatch("model: its output is not finite; a weight is NaN, infinite or far too large")
        yield from torch.split(found, [len(row.answer) for row in part])


def _answer_logits(model: Any, batch: Batch) -> Tensor:
    device = model.device
    logits = model(input_ids=batch.ids.to(device), attention_mask=batch.mask.to(device), use_cache=False).logits
    found: Tensor = logits[:, :-1][before_answers(batch).to(device)]
    return found


def _tokens(rows: Sequence[Row]) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    return tuple((row.prompt, row.answer) for row in rows)


def summary(drifts: Tensor) -> DriftSummary:
    """The mean of per-row drifts (n,) with its BCa interval over rows (t where the bootstrap has no spread to see).

    Raises:
        ValueError: fewer than two rows.
    """
    from scipy import stats  # type: ignore[import-untyped]

    values = drifts.double().numpy()
    if len(values) < 2:
        raise ValueError("an interval needs at least two rows")
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    # With one row unlike all others the jackknife's acceleration is undefined; rows that are equal have no width.
    if len(set(values.tolist())) < 3:
        half = float(stats.t.ppf(0.975, len(values) - 1)) * spread / math.sqrt(len(values))
        low, high = mean - half, mean + half
    else:
        boot = stats.bootstrap((values,), lambda sample, axis: sample.mean(axis=axis), n_resamples=RESAMPLES, rng=0)
        low, high = float(boot.confidence_interval.low), float(boot.confidence_interval.high)
    return DriftSummary(mean, max(0.0, low), high, float(values.max()), len(values))
