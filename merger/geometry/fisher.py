"""The diagonal Fisher of a model's linear layers, as a metric of moves.

The anchor's chart and the task Fisher at a merge are the same function on different models and rows.

Source: arXiv 2512.16245 states that the chart is a Fisher metric; its form, data and damping are unknown. Diagonal,
labels sampled, relative damping, floor and clip are ours (method.md 3.1 of the design notes).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from alignmerge.errors import RecipeError
from alignmerge.merger import random
from alignmerge.merger.geometry.gradients import Factors, factors
from alignmerge.merger.geometry.rows import Batch, Row, collate
from alignmerge.merger.geometry.scores import sampled
from alignmerge.progress import track

CHUNK = 16
FLOOR = 0.01  # of the tensor's own mean
CLIP = 0.999  # share of a tensor's entries that keep their value


def sampled_score(seed: int, numbers: Sequence[int]) -> Callable[[Tensor, Batch], Tensor]:
    """A scorer for `factors`: log-probability of labels sampled from the model itself, summed over answer positions.

    Squared gradients of sampled labels estimate the true Fisher; those of given labels would be the empirical one. The
    labels of a row depend on the seed and the row's number alone, so chunks and order change none of them; they are
    those of scores.diagonal_fisher.
    """

    def score(logits: Tensor, batch: Batch) -> Tensor:
        row = batch.targets[:, 1:].bool().nonzero()[:, 0]
        logs = logits.float().log_softmax(dim=1)
        given = logs.detach().cpu()
        own = [given[(row == index).cpu()] for index in range(len(numbers))]
        labels = [sampled(one, random.key("fisher", seed, number)) for one, number in zip(own, numbers, strict=True)]
        token = logs.gather(1, torch.cat(labels).to(logs.device)[:, None]).squeeze(1)
        return torch.zeros(len(numbers), dtype=token.dtype, device=token.device).index_add(0, row, token)

    return score


def sampled_factors(
    model: Any, rows: Sequence[Row], layers: Mapping[str, nn.Linear], *, pad: int, seed: int, chunk: int = CHUNK
) -> Iterator[tuple[Factors, Batch]]:
    """Factors of the sampled log-likelihood of all rows, chunk by chunk, short rows first, and the chunk's batch."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].prompt) + len(rows[i].answer))
    with track("Fisher chart", len(rows)) as bar:
        for start in range(0, len(order), chunk):
            numbers = order[start : start + chunk]
            batch = collate([rows[number] for number in numbers], pad, model.device)
            yield factors(model, batch, layers, sampled_score(seed, numbers)), batch
            bar.advance(len(numbers))


def diagonal_roots(
    model: Any, rows: Sequence[Row], layers: Mapping[str, nn.Linear], *, pad: int, seed: int, chunk: int = CHUNK
) -> dict[str, Tensor]:
    """sqrt(F) of the diagonal Fisher per layer weight, (d_out, d_in) bfloat16, in nats per weight unit.

    F is the mean over rows of the squared gradient of one row; one label sequence is sampled per row. bfloat16 holds F
    to 0.8 %, little beside the sampling, and its root reaches as far as float32 does. One example's gradient of one
    layer is held at a time, beside the sums in float32: 4 bytes per weight while it is made, 2 after.

    scores.diagonal_fisher estimates the same of every parameter, one row at a time, for soups that average embeddings
    and norms too; here only linear layers are asked, many rows in one pass.
    """
    sums = {
        name: torch.zeros_like(module.weight, dtype=torch.float32, requires_grad=False)
        for name, module in layers.items()
    }
    for part, _ in sampled_factors(model, rows, layers, pad=pad, seed=seed, chunk=chunk):
        for name, total in sums.items():
            for outputs, inputs in zip(part.outputs[name], part.inputs[name], strict=True):
                gradient = (outputs.T @ inputs).float()
                total.addcmul_(gradient, gradient)
    return {name: sums.pop(name).div_(len(rows)).sqrt_().bfloat16() for name in layers}


def inverse_metric(roots: Mapping[str, Tensor], damping: float) -> dict[str, Tensor]:
    """M^-1 per layer weight, (d_out, d_in) bfloat16, for M = (F + damping * mean(F)) / ((1 + damping) * mean(F)).

    In each tensor F is first clipped at its 99.9th percentile, so that a few weights do not make all others look free,
    and lifted to a hundredth of the tensor's mean, so that what the rows never used is not free either. The mean is
    over all weights after that: the mean of M is 1. A large damping gives the identity. The metric is what is
    returned, so rounding it to bfloat16 costs nothing in consistency.

    Raises:
        RecipeError: the Fisher is zero everywhere or not finite.
    """
    bounds = {name: _bounds(root) for name, root in roots.items()}
    total = sum(float(_trimmed(root, bounds[name]).double().sum()) for name, root in roots.items())
    mean = total / sum(root.numel() for root in roots.values())
    if not 0 < mean < float("inf"):
        raise RecipeError("calibration: the Fisher is zero or not finite on its rows; take more items")
    return {
        name: ((1 + damping) * mean / (_trimmed(root, bounds[name]) + damping * mean)).bfloat16()
        for name, root in roots.items()
    }


def _bounds(root: Tensor) -> tuple[float, float]:
    """The least and the greatest value that an entry of the Fisher of this tensor may have."""
    value = root.float().square_()
    high = float(value.flatten().kthvalue(ceil(CLIP * value.numel())).values)
    return FLOOR * float(value.clamp_(max=high).double().mean()), high


def _trimmed(root: Tensor, bounds: tuple[float, float]) -> Tensor:
    return root.float().square_().clamp_(*bounds)
