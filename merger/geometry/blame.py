"""Blame: which contributor, layer and kind of module spends a merge's finite drift.

With delta = merge - anchor and F(s) the mean KL(anchor || anchor + s delta) per token on held-out alignment answers,

    F(1) = integral over s in [0, 1] of  sum_W <dF/dW(s delta), delta_W>  ds

and delta_W = sum_k part_k(W) + rest: an expert's part is its weighted task vector, the rest is what the method itself
did. So every (contributor, layer, module) has a share in nats per token, negative where it took drift back, and the
shares sum to the drift. The integral is a Gauss-Legendre sum; what it misses is `Blame.error`.

Source: integrated gradients, Sundararajan et al., arXiv 1703.01365, section 3 (completeness), taken over weights
instead of inputs; the decomposition by task vectors is ours.

Linear drift is a square, D_A = c^T P c with c = S delta, so a cell's share of it is c_cell^T P c, exactly.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from alignmerge.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor

    from alignmerge.merger.geometry.rows import Row
    from alignmerge.merger.geometry.subspace import AlignmentSubspace
    from alignmerge.progress import Track

METHOD = "method"
OTHER = "other"
POINTS = 8
LARGEST_ERROR = 0.05  # of the drift; a quadrature that misses more is announced
_NUMBER = re.compile(r"(?:^|\.)(\d+)\.")


@dataclass(frozen=True)
class Cell:
    """What one contributor (an expert's name, or "method") spends in one place, in nats per token.

    layer: its number; None for "other": embeddings, norms, biases and the output head. module: such as
    "attention.q_proj" or "mlp.down_proj".
    """

    contributor: str
    layer: int | None
    module: str
    share: float


@dataclass(frozen=True)
class Blame:
    """Every cell, the drift they explain (nats per token), and how many points and rows they were computed from."""

    cells: tuple[Cell, ...]
    drift: float
    points: int
    rows: int

    @property
    def total(self) -> float:
        """The sum of all shares: the drift, but for the error of the quadrature."""
        return sum(cell.share for cell in self.cells)

    @property
    def error(self) -> float:
        """How far the sum of shares misses the drift, relative to it."""
        missed = abs(self.total - self.drift)
        return missed / self.drift if self.drift > 0 else float(missed > 0)

    def to_json(self) -> dict[str, Any]:
        """The blame as plain data."""
        whole = {"finite_drift": self.drift, "total": self.total, "quadrature_error": self.error}
        return {**whole, "points": self.points, "rows": self.rows, "cells": [asdict(cell) for cell in self.cells]}


def worst(cells: Sequence[Cell], count: int) -> tuple[Cell, ...]:
    """The `count` cells that spend most, the largest first; none that spends nothing."""
    spending = [cell for cell in cells if cell.share > 0]
    return tuple(sorted(spending, key=lambda cell: (-cell.share, _order(cell)))[:count])


def by_layer(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """One cell per contributor and layer, its modules summed as module "all"; see `worst`."""
    sums: dict[tuple[str, int | None], float] = {}
    for cell in cells:
        sums[cell.contributor, cell.layer] = sums.get((cell.contributor, cell.layer), 0.0) + cell.share
    return tuple(Cell(contributor, layer, "all", share) for (contributor, layer), share in sums.items())


def totals(cells: Iterable[Cell], key: Callable[[Cell], Any]) -> dict[Any, float]:
    """Summed shares by `key` of the cell, in the order in which keys first appear."""
    sums: dict[Any, float] = {}
    for cell in cells:
        sums[key(cell)] = sums.get(key(cell), 0.0) + cell.share
    return sums


def place(name: str, dimensions: int) -> tuple[int | None, str]:
    """(layer, module) of the parameter `name`: numbered matrices have a place of their own, all else is "other"."""
    found = _NUMBER.search(name)
    if found is None or dimensions < 2:
        return None, OTHER
    parts = [part for part in name[found.end() :].split(".") if not part.isdigit()]
    if parts[-1] == "weight":
        parts.pop()
    if parts and parts[0] in ("self_attn", "attn", "self_attention"):
        parts[0] = "attention"
    return int(found[1]), ".".join(parts)


def finite_blame(
    model: Any,
    rows: "Sequence[Row]",
    delta: "Mapping[str, Tensor]",
    parts: "Callable[[str], Mapping[str, Tensor]]",
    *,
    pad: int,
    points: int = POINTS,
    chunk: int = 16,
    track: "Track | None" = None,
) -> Blame:
    """The finite drift on `rows` and every cell's share of it. `model` holds the anchor before and the merge after.

    delta: the merge minus the anchor by parameter name; parameters left out stand still. parts(name): the contributors'
    parts of one tensor; what they leave of delta is the method's. Memory: weights, delta and one gradient, each of the
    model's size and dtype, the anchor's log-probabilities at answer positions, and the activations of `chunk` rows.
    `points` + 1 forward and `points` backward passes over the rows. `track` advances by rows. An empty delta, a merge
    that is its anchor, has one cell: the method's, which spends nothing.

    Raises:
        RecipeError: no row, a parameter that the model does not have, or a divergence that is not finite.
    """
    if not rows:
        raise RecipeError("blame: there is no held-out answer of the anchor to measure drift on")
    if not delta:
        return Blame((Cell(METHOD, None, OTHER, 0.0),), 0.0, points, len(rows))
    gradients, drift = _path_gradients(model, rows, delta, pad, points, chunk, track)
    shares: dict[tuple[str, int | None, str], float] = {}
    for name, move in delta.items():
        where = place(name, move.dim())
        rest = _dot(gradients[name], move)
        for contributor, part in parts(name).items():
            share = _dot(gradients[name], part)
            shares[contributor, *where] = shares.get((contributor, *where), 0.0) + share
            rest -= share
        shares[METHOD, *where] = shares.get((METHOD, *where), 0.0) + rest
    cells = sorted((Cell(*where, share) for where, share in shares.items()), key=_order)
    return Blame(tuple(cells), drift, points, len(rows))


def linear_blame(
    subspace: "AlignmentSubspace", delta: "Mapping[str, Tensor]", parts: "Mapping[str, Mapping[str, Tensor]]"
) -> tuple[Cell, ...]:
    """Every cell's share of the linear drift of `delta`, in squared M-norm; the shares sum to it.

    parts: each contributor's part of the merged linear layers by weight name; the rest is the method's. Maps may make
    their tensors as they are asked for.

    Raises:
        TensorMismatch: see AlignmentSubspace.coordinates.
    """
    found = subspace.coordinates_by_layer([delta, *parts.values()])  # (1 + contributors, layers, margins)
    whole = found[0]
    pull = subspace.projection(whole.sum(dim=0))
    shares: dict[tuple[str, int | None, str], float] = {}
    for contributor, along in [*zip(parts, found[1:], strict=True), (METHOD, whole - found[1:].sum(dim=0))]:
        for name, share in zip(subspace.layers, (along @ pull).tolist(), strict=True):
            where = (contributor, *place(name, 2))
            shares[where] = shares.get(where, 0.0) + share
    return tuple(sorted((Cell(*where, share) for where, share in shares.items()), key=_order))


def _order(cell: Cell) -> tuple[bool, str, float, str]:
    """Experts by name before the method, layers from the first on, what has no layer last."""
    return cell.contributor == METHOD, cell.contributor, float("inf") if cell.layer is None else cell.layer, cell.module


def _dot(one: "Tensor", other: "Tensor") -> float:
    import torch

    return float((one * other.to(one.device)).sum(dtype=torch.float64))


def _path_gradients(
    model: Any,
    rows: "Sequence[Row]",
    delta: "Mapping[str, Tensor]",
    pad: int,
    points: int,
    chunk: int,
    track: "Track | None",
) -> "tuple[dict[str, Tensor], float]":
    """The mean of dF/dW along the path, by parameter name, and F(1); the model is left at the merge."""
    import torch

    own = dict(model.named_parameters())
    if strangers := sorted(delta.keys() - own.keys()):
        raise RecipeError(f"blame: {type(model).__name__} has no parameter {strangers[0]}")
    moving = {name: own[name] for name in delta}
    divergences = _Divergences(model, rows, pad, chunk)
    at = 0.0
    with _only_gradients_of(moving, own):
        for position, weight in _nodes(points):
            _move(moving, delta, position - at)
            at = position
            for value, count in divergences:
                torch.autograd.backward(value * (weight / len(rows)))
                if track is not None:
                    track.advance(count)
        _move(moving, delta, 1.0 - at)
        with torch.inference_mode():
            drift = sum(float(value) for value, _ in divergences) / len(rows)
        gradients = {
            name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for name, parameter in moving.items()
        }
    return gradients, drift


def _nodes(points: int) -> list[tuple[float, float]]:
    """(position, weight) of the Gauss-Legendre rule on [0, 1], by rising position; the weights sum to 1."""
    import numpy as np

    positions, weights = np.polynomial.legendre.leggauss(points)
    return [((float(x) + 1) / 2, float(w) / 2) for x, w in zip(positions, weights, strict=True)]


def _move(moving: "Mapping[str, Tensor]", delta: "Mapping[str, Tensor]", by: float) -> None:
    for name, parameter in moving.items():
        parameter.data.add_(delta[name].to(parameter.device), alpha=by)


@contextmanager
def _only_gradients_of(moving: "Mapping[str, Tensor]", own: "Mapping[str, Tensor]") -> Iterator[None]:
    """Gradients are gathered for `moving` alone; afterwards the parameters are as they were, with no gradient."""
    import torch

    before = {name: parameter.requires_grad for name, parameter in own.items()}
    for name, parameter in own.items():
        parameter.requires_grad_(name in moving)
        parameter.grad = None
    try:
        with torch.enable_grad():
            yield
    finally:
        for name, parameter in own.items():
            parameter.requires_grad_(before[name])
            parameter.grad = None


class _Divergences:
    """KL(anchor || model now) summed over the rows of each chunk, differentiable; the model is the anchor at first."""

    def __init__(self, model: Any, rows: "Sequence[Row]", pad: int, chunk: int) -> None:
        import torch

        from alignmerge.merger.geometry.rows import collate

        order = sorted(rows, key=lambda row: len(row.prompt) + len(row.answer))
        self._model = model
        starts = range(0, len(order), chunk)
        self._batches = [collate(order[start : start + chunk], pad, model.device) for start in starts]
        with torch.inference_mode():
            found = [self._logs(batch) for batch in self._batches]
        self._anchor = [logs.clone() for logs in found]

    def _logs(self, batch: Any) -> "Tensor":
        """Log-probabilities at answer positions, (answer tokens, vocabulary)."""
        logits = self._model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits
        logs: Tensor = logits[:, :-1][batch.targets[:, 1:].bool()].log_softmax(dim=1)
        return logs

    def __iter__(self) -> "Iterator[tuple[Tensor, int]]":
        for batch, anchor in zip(self._batches, self._anchor, strict=True):
            row = batch.targets[:, 1:].bool().nonzero()[:, 0]
            share = (1 / batch.targets.sum(dim=1).to(anchor.dtype))[row]  # of one token in its row's mean
            token = (anchor.exp() * (anchor - self._logs(batch))).sum(dim=1)
            value = (token * share).sum()
            if not bool(value.detach().isfinite()):
                raise RecipeError("blame: the divergence of the merge from its anchor is not finite")
            yield value, len(batch.ids)
