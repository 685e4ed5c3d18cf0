"""Gradients of many scalars as one linear operator S (scalars x parameters) that is never stored.

What an alignment subspace asks of its gradients: the Gram matrix of S in a chart, S delta for a move, and S^T w. Real
gradients (`RowGradients`) answer from a loaded model's layer inputs and output gradients; random ones
(`RandomDirections`) are the control that a finding about the real ones has to beat.

Source: the identities are method.md 3.3 of the design notes (own); see gradients.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, combinations
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from alignmerge.errors import RecipeError
from alignmerge.merger import random
from alignmerge.merger.geometry.gradients import Factors, factors, merged_linears
from alignmerge.merger.geometry.rows import Batch, Row, answer_means, collate

if TYPE_CHECKING:
    from alignmerge.merger.geometry.chart import Chart

Score = Callable[[Tensor, Batch], Tensor]
MEMORY = 4 << 30


class Directions(Protocol):
    """n gradients over the weights of the layers `shapes`, (d_out, d_in) each, in one order.

    precision: the relative rounding that entries of the Gram matrix carry.
    """

    @property
    def count(self) -> int: ...

    @property
    def shapes(self) -> Mapping[str, tuple[int, int]]: ...

    @property
    def precision(self) -> float: ...

    def grams(self, chart: "Chart") -> Iterator[tuple[str, Tensor]]:
        """Each layer's name with its share of S M^-1 S^T, (n, n) float64."""
        ...

    def along(self, moves: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """Directional derivatives g_i . move, layer by layer: (moves, layers, n) float64."""
        ...

    def combine(self, weights: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Each layer's name with sum_i w_i g_i, (d_out, d_in); no metric is applied."""
        ...


class RowGradients:
    """Gradients of a loaded model's row scores (by default the mean log-likelihood of the answer, nats per token).

    The model is read on every call, so it must still be what it was at the first; only where the factors of all rows
    fit into `memory` bytes they are kept. Where they do not, `grams` makes one pass over the rows per group of layers
    whose factors do, and `along` and `combine` one pass each with `chunk` rows at a time.
    """

    def __init__(
        self,
        model: Any,
        rows: Sequence[Row],
        *,
        pad: int,
        memory: int = MEMORY,
        chunk: int = 16,
        score: Score = answer_means,
    ) -> None:
        if not rows:
            raise RecipeError("calibration: no rows to take gradients of")
        self._model, self._score, self._memory = model, score, memory
        self._layers = merged_linears(model)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].prompt) + len(rows[i].answer))
        self._places = torch.tensor(order)
        device = next(iter(self._layers.values())).weight.device
        self._batches = [
            collate([rows[i] for i in order[start : start + chunk]], pad, device)
            for start in range(0, len(order), chunk)
        ]
        self._values: dict[int, Tensor] = {}
        self._kept: list[Factors] = []

    @property
    def count(self) -> int:
        return len(self._places)

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        return {name: (layer.out_features, layer.in_features) for name, layer in self._layers.items()}

    @property
    def precision(self) -> float:
        dtype = next(iter(self._layers.values())).weight.dtype
        return torch.finfo(torch.promote_types(dtype, torch.float32)).eps

    def chunks(self) -> Iterator[tuple[Tensor, Factors]]:
        """Factors of every layer, a few rows at a time, with the rows' places (k,) among those given."""
        start = 0
        for index, batch in enumerate(self._batches):
            stop = start + len(batch.ids)
            yield self._places[start:stop], self._kept[index] if self._kept else self._factors(index, self._layers)
            start = stop

    def grams(self, chart: "Chart") -> Iterator[tuple[str, Tensor]]:
        back = self._places.argsort()
        groups = [list(self._layers)] if self._kept else self._groups()
        for names in groups:
            parts = self._kept or [self._factors(index, names) for index in range(len(self._batches))]
            if len(groups) == 1:
                self._kept = parts
            for name in names:
                yield name, self._gram(parts, name, chart)[back][:, back]

    def along(self, moves: Sequence[Mapping[str, Tensor]]) -> Tensor:
        out = torch.zeros(len(moves), len(self._layers), self.count, dtype=torch.float64)
        for places, part in self.chunks():
            for layer, name in enumerate(self._layers):
                for index, move in enumerate(moves):
                    out[index, layer, places] = _along(part, name, move[name])
        return out

    def combine(self, weights: Tensor) -> Iterator[tuple[str, Tensor]]:
        if self._kept:
            for name in self._layers:
                yield name, _sum(_weighted(part, name, weights[places]) for places, part in self.chunks())
            return
        total: dict[str, Tensor] = {}
        for places, part in self.chunks():
            for name in self._layers:
                term = _weighted(part, name, weights[places])
                total[name] = total[name].add_(term) if name in total else term
        yield from total.items()

    def _gram(self, parts: Sequence[Factors], name: str, chart: "Chart") -> Tensor:
        """A layer's Gram matrix, its rows in the parts' order; part by part where all gradients do not fit at once."""
        parts = [_one_layer(part, name) for part in parts]
        rows, columns = self.shapes[name]
        size = self.count * rows * columns * parts[0].inputs[name].element_size()
        if size <= self._memory or len(parts) == 1:
            return chart.gram(parts, name).double().cpu()
        ends = list(accumulate(len(part.values) for part in parts))
        places = [torch.arange(end - len(part.values), end) for end, part in zip(ends, parts, strict=True)]
        out = torch.zeros(self.count, self.count, dtype=torch.float64)
        for i, j in combinations(range(len(parts)), 2):
            found = chart.gram([parts[i], parts[j]], name).double().cpu()
            both = torch.cat([places[i], places[j]])
            out[both[:, None], both] = found
        return out

    def _groups(self) -> list[list[str]]:
        """Layers in groups whose factors of all rows fit into the memory allowed; at least one layer each."""
        tokens = sum(batch.ids.numel() for batch in self._batches)
        groups: list[list[str]] = []
        room = 0
        for name, layer in self._layers.items():
            size = tokens * (layer.in_features + layer.out_features) * layer.weight.element_size()
            if not groups or size > room:
                groups.append([])
                room = self._memory
            groups[-1].append(name)
            room -= size
        return groups

    def _factors(self, index: int, names: Sequence[str] | Mapping[str, Any]) -> Factors:
        found = factors(self._model, self._batches[index], {name: self._layers[name] for name in names}, self._score)
        before = self._values.setdefault(index, found.values)
        if not torch.allclose(before, found.values, rtol=1e-4, atol=1e-4, equal_nan=True):
            raise ValueError("the model was changed while its gradients were in use; take them of a model left alone")
        return found


class RandomDirections:
    """`count` seeded random gradients, each layer with the squared M-norm (summed over directions) in `squares`.

    In every layer a direction is a sum of `tokens` outer products of standard normal vectors: without preferred
    direction among the layer's weights, and of low rank, as gradients of short answers are. Nothing is stored.
    """

    def __init__(self, like: Directions, count: int, seed: int, squares: Mapping[str, float], tokens: int = 4) -> None:
        self._shapes, self._count, self._seed, self._tokens = dict(like.shapes), count, seed, tokens
        self._squares, self._scales = dict(squares), dict[str, float]()

    @property
    def count(self) -> int:
        return self._count

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        return self._shapes

    @property
    def precision(self) -> float:
        return torch.finfo(torch.float32).eps

    def grams(self, chart: "Chart") -> Iterator[tuple[str, Tensor]]:
        for name in self._shapes:
            found = chart.gram([self._layer(name, 1.0)], name).double().cpu()
            scale = self._squares[name] / float(found.trace())
            self._scales[name] = scale**0.5
            yield name, found * scale

    def along(self, moves: Sequence[Mapping[str, Tensor]]) -> Tensor:
        out = torch.zeros(len(moves), len(self._shapes), self._count, dtype=torch.float64)
        for layer, name in enumerate(self._shapes):
            part = self._layer(name, self._scales[name])
            for index, move in enumerate(moves):
                out[index, layer] = _along(part, name, move[name].cpu())
        return out

    def combine(self, weights: Tensor) -> Iterator[tuple[str, Tensor]]:
        for name in self._shapes:
            yield name, _weighted(self._layer(name, self._scales[name]), name, weights)

    def _layer(self, name: str, scale: float) -> Factors:
        rows, columns = self._shapes[name]
        key = random.key("random subspace", self._seed, name) % 2**63
        generator = torch.Generator().manual_seed(key)
        outputs = scale * torch.randn(self._count, self._tokens, rows, generator=generator)
        inputs = torch.randn(self._count, self._tokens, columns, generator=generator)
        return Factors(torch.zeros(self._count), {name: inputs}, {name: outputs})


def _one_layer(part: Factors, name: str) -> Factors:
    """One layer's factors, at least float32: a Gram matrix made in bfloat16 has no small eigenvalues worth keeping."""
    dtype = torch.promote_types(part.inputs[name].dtype, torch.float32)
    return Factors(part.values, {name: part.inputs[name].to(dtype)}, {name: part.outputs[name].to(dtype)})


def _along(part: Factors, name: str, move: Tensor) -> Tensor:
    """g_i . move of one layer, (n,) float64. At least float32: a move is small beside what bfloat16 rounds away."""
    part = _one_layer(part, name)
    pushed = part.inputs[name] @ move.to(part.inputs[name]).T  # (n, t, d_out)
    return (pushed * part.outputs[name]).sum(dim=(1, 2)).double().cpu()


def _weighted(part: Factors, name: str, weights: Tensor) -> Tensor:
    """sum_i w_i g_i of one layer, (d_out, d_in). At least float32: weights of opposite sign cancel."""
    part = _one_layer(part, name)
    scaled = part.outputs[name] * weights.to(part.outputs[name])[:, None, None]
    return scaled.flatten(0, 1).T @ part.inputs[name].flatten(0, 1)


def _sum(terms: Iterator[Tensor]) -> Tensor:
    total = next(terms)
    for term in terms:
        total = total.add_(term)
    return total
