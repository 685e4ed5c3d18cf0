"""K-FAC: the Fisher of a linear layer as a Kronecker product of what goes in and what comes back.

For a layer with inputs a and output gradients e, F is approximated by E (x) A with A = E[a a^T] over answer positions
and E = E[sum_t e_t e_t^T] over rows, labels sampled. Damping is split over the factors (Tikhonov with the factor pi).

A factor is kept by its eigenvectors of nonzero eigenvalue: with fewer answer tokens than columns, its rank is the
number of tokens, and the d x d matrix is never formed. Everything is exact either way, up to rounding.

Source: Martens and Grosse, arXiv 1503.05671, sections 3 and 6.3; positions of a sequence are treated as independent
examples, the "expand" setting of Eschenhagen et al., arXiv 2311.00636.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.fisher import CHUNK, sampled_factors
from alignmerge.merger.geometry.gradients import Factors, Workspace
from alignmerge.merger.geometry.rows import Row

NEGLIGIBLE = 1e-12  # of the largest eigenvalue: the rounding of float64 sums


class Damped(NamedTuple):
    """U diag(values) U^T + ridge I. basis: U, (d, r), orthonormal columns; values: (r,) float64, positive."""

    basis: Tensor
    values: Tensor
    ridge: float

    @property
    def trace(self) -> float:
        return float(self.values.sum()) + self.ridge * len(self.basis)

    def power(self, exponent: float, x: Tensor) -> Tensor:
        """The matrix to the power `exponent` times the last dimension of `x` (..., d), as the basis is."""
        x, low = x.to(self.basis), self.ridge**exponent
        change = ((self.values + self.ridge) ** exponent - low).to(x)
        out: Tensor = low * x + ((x @ self.basis) * change) @ self.basis.T
        return out


class Block(NamedTuple):
    """One layer: A of its inputs and E of its output gradients."""

    inputs: Damped
    outputs: Damped


@dataclass(frozen=True)
class KFac:
    """M = (E (x) A) / scale per layer weight; `scale` makes the mean eigenvalue over all layers 1."""

    blocks: Mapping[str, Block]
    scale: float
    name: str = field(default="kfac", init=False)
    _space: Workspace = field(default_factory=Workspace, init=False, repr=False, compare=False)

    def gram(self, parts: Sequence[Factors], name: str) -> Tensor:
        """Exact: inputs and output gradients are whitened, and with them every example's gradient."""
        rows = self._space.rows([self._whitened(part, name) for part in parts], name)
        return (rows @ rows.T).double() * self.scale

    def _whitened(self, part: Factors, name: str) -> Factors:
        block, inputs, outputs = self.blocks[name], part.inputs[name], part.outputs[name]
        return Factors(
            part.values,
            {name: block.inputs.power(-0.5, inputs).to(inputs)},
            {name: block.outputs.power(-0.5, outputs).to(outputs)},
        )

    def ascend(self, name: str, gradient: Tensor) -> Tensor:
        return self._both(name, -1, gradient) * self.scale

    def descend(self, name: str, move: Tensor) -> Tensor:
        return self._both(name, 1, move) / self.scale

    def square(self, name: str, move: Tensor) -> float:
        return float((move * self._both(name, 1, move)).double().sum()) / self.scale

    def _both(self, name: str, exponent: float, matrix: Tensor) -> Tensor:
        """E^exponent matrix A^exponent, in the matrix's dtype."""
        right = self.blocks[name].inputs.power(exponent, matrix)
        return self.blocks[name].outputs.power(exponent, right.T).T.to(matrix).contiguous()


def kfac_factors(
    model: Any, rows: Sequence[Row], layers: Mapping[str, nn.Linear], *, pad: int, seed: int, chunk: int = CHUNK
) -> dict[str, Tensor]:
    """Eigenvectors and eigenvalues of every factor, as `kfac_chart` takes them: flat, by name, ready to be stored.

    "owners" (layers,) holds for each layer the place of the layer whose input it shares (query, key and value are
    given one input). Rows are read in chunks; what is kept is answer tokens by columns, or columns by columns where
    that is less.
    """
    tokens = sum(len(row.answer) - (not row.prompt) for row in rows)  # nothing predicts a first token
    names, owners = list(layers), list[int]()
    inputs: dict[str, _Moment] = {}
    outputs = {name: _Moment(module.out_features, tokens) for name, module in layers.items()}
    for part, batch in sampled_factors(model, rows, layers, pad=pad, seed=seed, chunk=chunk):
        where = batch.targets[:, 1:].bool()
        if not owners:
            owners = _owners([part.inputs[name] for name in names])
            inputs = {names[owner]: _Moment(layers[names[owner]].in_features, tokens) for owner in sorted(set(owners))}
        for name, moment in inputs.items():
            moment.add(part.inputs[name][:, :-1][where])
        for name, moment in outputs.items():
            moment.add(part.outputs[name][:, :-1][where])
    found = {"owners": torch.tensor(owners)}
    for side, moments, count in (("inputs", inputs, tokens), ("outputs", outputs, len(rows))):
        for name in list(moments):
            found[f"{side}/{name}/basis"], found[f"{side}/{name}/values"] = moments.pop(name).spectrum(count)
    return found


def _owners(inputs: Sequence[Tensor]) -> list[int]:
    """For every input the place of the first one in the same memory; all are alive, so addresses tell them apart."""
    first: dict[tuple[int, torch.Size], int] = {}
    return [first.setdefault((value.data_ptr(), value.shape), index) for index, value in enumerate(inputs)]


class _Moment:
    """X^T X of vectors (tokens, d) that come in portions: as X itself while it has fewer rows than columns."""

    def __init__(self, size: int, tokens: int) -> None:
        self._few, self._dtype = tokens < size, torch.float32
        self._portions: list[Tensor] = []
        self._sum: Tensor | None = None

    def add(self, x: Tensor) -> None:
        self._dtype = torch.promote_types(x.dtype, torch.float32)
        if self._few:
            self._portions.append(x)
        else:
            product = x.double().T @ x.double()
            self._sum = product if self._sum is None else self._sum.add_(product)

    def spectrum(self, count: int) -> tuple[Tensor, Tensor]:
        """Eigenvectors (d, r), float32 or the vectors' float64, and eigenvalues (r,) float64 of X^T X / count.

        Raises:
            RecipeError: a vector is not finite.
        """
        x = torch.cat(self._portions).double() if self._sum is None else None
        square = self._sum if x is None else x @ x.T
        assert square is not None
        if not bool(square.isfinite().all()):
            raise RecipeError("calibration: inputs or gradients of a layer are not finite on the chart's rows")
        values, vectors = torch.linalg.eigh(square / count)
        kept = values > NEGLIGIBLE * values.max().clamp_min(0)
        values, vectors = values[kept], vectors[:, kept]
        basis = vectors if x is None else x.T @ (vectors / (values * count).sqrt())
        return basis.to(self._dtype).contiguous(), values


def kfac_chart(factors: Mapping[str, Tensor], names: Sequence[str], damping: float) -> KFac:
    """The chart of the layers `names` from `kfac_factors`, damped by `damping` times the mean eigenvalue of the Fisher.

    A layer's A + pi sqrt(l) I and E + sqrt(l) / pi I, l the absolute damping, pi^2 the ratio of their mean
    eigenvalues. A large damping gives the identity.

    Raises:
        RecipeError: the Fisher is zero everywhere or not finite.
    """
    pairs = {
        name: (_side(factors, f"inputs/{names[owner]}"), _side(factors, f"outputs/{name}"))
        for name, owner in zip(names, factors["owners"].tolist(), strict=True)
    }
    size = sum(len(a) * len(e) for (a, _), (e, _) in pairs.values())
    mean = sum(float(a.sum()) * float(e.sum()) for (_, a), (_, e) in pairs.values()) / size
    if not 0 < mean < float("inf"):
        raise RecipeError("calibration: the Fisher is zero or not finite on its rows; take more items")
    blocks = {name: _block(a, e, damping * mean) for name, (a, e) in pairs.items()}
    return KFac(blocks, sum(block.inputs.trace * block.outputs.trace for block in blocks.values()) / size)


def _side(factors: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    return factors[f"{name}/basis"], factors[f"{name}/values"]


def _block(a: tuple[Tensor, Tensor], e: tuple[Tensor, Tensor], damping: float) -> Block:
    means = [float(values.sum()) / len(basis) for basis, values in (a, e)]
    if not all(means):  # no Fisher in this layer: damping alone
        a, e = ((basis[:, :0], values[:0]) for basis, values in (a, e))
        means = [1.0, 1.0]
    pi = sqrt(means[0] / means[1])
    return Block(Damped(*a, pi * sqrt(damping)), Damped(*e, sqrt(damping) / pi))
