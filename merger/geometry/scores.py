"""How much a loaded model's answers to calibration rows depend on each of its parameters.

Each row is differentiated alone, so squares are of one example's gradient: squaring a batch's gradient would add
products between examples, which are no part of the Fisher. A tied parameter has one value under all its names.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from alignmerge.merger import random
from alignmerge.merger.geometry.rows import Batch, Row, collate
from alignmerge.merger.select import inside, kept, largest
from alignmerge.progress import track

# Of one row: its number and batch, and the model's logits (1, t, vocabulary); a scalar.
Score = Callable[[int, Batch, Tensor], Tensor]


def diagonal_fisher(model: Any, rows: Sequence[Row], seed: int) -> dict[str, Tensor]:
    """F_j = mean over rows of (d log p(y | x) / d theta_j)^2 for every parameter by name, bfloat16, in nats^2.

    y is sampled from the model at every answer position, given the row's own answer up to there; log p is summed over
    answer positions. Labels of different positions are independent given their contexts, so the products between
    positions vanish in the mean, and this estimates the true Fisher with one label sequence per row. bfloat16 holds a
    value to 0.4 %, little beside the sampling.

    fisher.diagonal_roots estimates the same of linear layers alone, with the same labels, many rows in one pass; a soup
    averages every parameter, embeddings and norms too, so it needs whole gradients, one row at a time.

    Source: Matena and Raffel, arXiv 2111.09832, equation 4 and section 3; the form for causal models is ours.
    """

    def score(number: int, batch: Batch, logits: Tensor) -> Tensor:
        logs = answer_logits(batch, logits).log_softmax(dim=1)
        labels = sampled(logs.detach().cpu(), random.key("fisher", seed, number))
        return logs.gather(1, labels.to(logs.device)[:, None]).sum()

    return _each(mean_over_rows(model, rows, score, torch.square), lambda _, value: value.bfloat16())


def most_important(model: Any, rows: Sequence[Row], density: float) -> dict[str, Tensor]:
    """Whether each parameter is among the `density` most important of its tensor, bool by name.

    Important is a large |theta_j| sum |d log p(y | x) / d theta_j| over rows, y being the row's own answer; among equal
    ones at the edge the first positions are in, and what has no influence at all never is.
    Source: SNIP, Lee et al., arXiv 1810.02340, as LED-Merging uses it (arXiv 2502.16770, known to us second-hand).
    """

    def score(_: int, batch: Batch, logits: Tensor) -> Tensor:
        labels = batch.ids[:, 1:][batch.targets[:, 1:].bool()]
        return answer_logits(batch, logits).log_softmax(dim=1).gather(1, labels[:, None]).sum()

    means = mean_over_rows(model, rows, score, torch.abs)
    parameters = dict(model.named_parameters(remove_duplicate=False))

    def important(name: str, value: Tensor) -> Tensor:
        scores = value * parameters[name].detach().cpu().float().abs()
        cut = largest(lambda: [(0, scores)], kept(density, scores.numel()), scores.numel())
        chosen: Tensor = inside(scores, cut, 0) & (scores > 0)
        return chosen

    return _each(means, important)


def _each(values: Mapping[str, Tensor], make: Callable[[str, Tensor], Tensor]) -> dict[str, Tensor]:
    """`make` of every value; of one that has several names once."""
    made: dict[int, Tensor] = {}
    for name, value in values.items():
        if id(value) not in made:
            made[id(value)] = make(name, value)
    return {name: made[id(value)] for name, value in values.items()}


def mean_over_rows(
    model: Any, rows: Sequence[Row], score: Score, weigh: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """The mean over rows of `weigh`(gradient of the row's score), for every parameter by name, float32."""
    named = dict(model.named_parameters(remove_duplicate=False))
    # In the main memory: a GPU that holds the model and one gradient has no room for twice as much again.
    totals = {id(value): torch.zeros_like(value, dtype=torch.float32, device="cpu") for value in named.values()}
    for gradients in example_gradients(model, rows, score):
        for key, gradient in gradients.items():
            totals[key] += weigh(gradient.float()).cpu()
    for total in totals.values():
        total /= len(rows)
    return {name: totals[id(value)] for name, value in named.items()}


def example_gradients(model: nn.Module, rows: Sequence[Row], score: Score) -> Iterator[dict[int, Tensor]]:
    """Every row's gradient, by the id of the parameter; parameters that play no part are left out."""
    parameters = list(model.parameters())
    with track("gradients", len(rows)) as bar:
        for number, row in enumerate(rows):
            batch = collate([row], 0, parameters[0].device)
            with torch.enable_grad():
                logits = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits
                value = score(number, batch, logits)
                found = torch.autograd.grad(value, parameters, allow_unused=True)
            yield {id(one): gradient for one, gradient in zip(parameters, found, strict=True) if gradient is not None}
            bar.advance()


def answer_logits(batch: Batch, logits: Tensor) -> Tensor:
    """The logits at the positions that predict answer tokens, (answer tokens, vocabulary) float32."""
    return logits[:, :-1][batch.targets[:, 1:].bool()].float()


def sampled(logs: Tensor, key: int) -> Tensor:
    """One label per row of log-probabilities (n, vocabulary), drawn with the random numbers of `key`: (n,) int64."""
    edges = logs.double().exp().cumsum(dim=1)
    draws = torch.from_numpy(random.uniform(key, 0, len(logs))).double()[:, None] * edges[:, -1:]
    return torch.searchsorted(edges, draws, right=True).squeeze(1).clamp(max=logs.shape[1] - 1)
