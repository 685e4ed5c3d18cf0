"""Charts: the metric M of moves, in which a solve takes the least step; one block per layer weight.

A chart sees layers by weight name and gradients as factors (see gradients.py), so S, rows by parameters, is never
stored. Every chart is scaled to a mean eigenvalue of 1: a ridge or a step limit means the same in all of them.

Source: arXiv 2512.16245 measures moves in a Fisher chart; its form there is unknown (see fisher.py).
"""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from alignmerge import jsonio
from alignmerge.devices import model_of
from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.gradients import Factors, Workspace
from alignmerge.merger.geometry.rows import Row
from alignmerge.products import ROUNDED, is_quickened


class Chart(Protocol):
    """A metric of moves, block-diagonal over layer weights."""

    @property
    def name(self) -> str:
        """ "identity", "diagonal" or "kfac"."""
        ...

    def gram(self, parts: Sequence[Factors], name: str) -> Tensor:
        """The layer's share of S M^-1 S^T, (n, n) float64, over the rows of all parts in order.

        Symmetric up to rounding. Computed in the factors' dtype: in bfloat16 the rounding of some two hundred layers
        is independent and averages out in their sum.
        """
        ...

    def ascend(self, name: str, gradient: Tensor) -> Tensor:
        """M^-1 gradient of one layer, (d_out, d_in) float32."""
        ...

    def descend(self, name: str, move: Tensor) -> Tensor:
        """M move of one layer, half the gradient of `square`, (d_out, d_in) float32."""
        ...

    def square(self, name: str, move: Tensor) -> float:
        """||move||_M^2 of one layer."""
        ...


def gram(parts: Sequence[Factors], names: Sequence[str], chart: Chart) -> Tensor:
    """K = S M^-1 S^T over the layers `names`, (n, n) float64 and symmetric; S is never stored as a whole."""
    total = sum(len(part.values) for part in parts)
    out = torch.zeros((total, total), dtype=torch.float64)
    for name in names:
        out += chart.gram(parts, name).cpu()
    return (out + out.T) / 2


@dataclass(frozen=True)
class Identity:
    """The Euclidean metric of weights."""

    name: str = field(default="identity", init=False)
    _space: Workspace = field(default_factory=Workspace, init=False, repr=False, compare=False)

    def gram(self, parts: Sequence[Factors], name: str) -> Tensor:
        rows = self._space.rows(parts, name)
        return (rows @ rows.T).double()

    def ascend(self, name: str, gradient: Tensor) -> Tensor:
        return gradient

    def descend(self, name: str, move: Tensor) -> Tensor:
        return move

    def square(self, name: str, move: Tensor) -> float:
        return float(move.square().sum())


@dataclass(frozen=True)
class Diagonal:
    """One weight per parameter. inverse: M^-1 per layer weight, (d_out, d_in)."""

    inverse: Mapping[str, Tensor]
    name: str = field(default="diagonal", init=False)
    _space: Workspace = field(default_factory=Workspace, init=False, repr=False, compare=False)
    _scaled: Workspace = field(default_factory=Workspace, init=False, repr=False, compare=False)

    def gram(self, parts: Sequence[Factors], name: str) -> Tensor:
        rows = self._space.rows(parts, name)
        scaled = self._scaled.like(rows)
        torch.mul(rows, self.inverse[name].flatten().to(rows.device), out=scaled)
        return (scaled @ rows.T).double()

    def ascend(self, name: str, gradient: Tensor) -> Tensor:
        return self._there(name, gradient).mul(self.inverse[name]).to(gradient.device)

    def descend(self, name: str, move: Tensor) -> Tensor:
        return self._there(name, move).div(self.inverse[name]).to(move.device)

    def square(self, name: str, move: Tensor) -> float:
        return float((self._there(name, move).square() / self.inverse[name]).sum())

    def _there(self, name: str, move: Tensor) -> Tensor:
        """`move` where the chart lies, which may be a GPU though moves are kept in the main memory."""
        return move.to(self.inverse[name].device)


def make_chart(
    kind: str,
    model: Any,
    rows: Sequence[Row],
    layers: Mapping[str, nn.Linear],
    *,
    damping: float,
    seed: int,
    pad: int,
    model_digest: str | None = None,
) -> Chart:
    """The chart of `kind`: "identity", or of the Fisher of the model's answers to `rows`: "fisher" (diagonal), "kfac".

    damping: relative to the mean eigenvalue of the Fisher over all layers. model_digest: names the model's weights;
    with it the Fisher is kept on disk and found again, whatever the damping (see chart_cache.py). Without, it is made.

    Raises:
        RecipeError: an unknown kind, or a Fisher that is zero or not finite.
    """
    if kind == "identity":
        return Identity()
    if kind not in ("fisher", "kfac"):
        raise RecipeError(f"parameters.metric: {kind!a} is not a metric; use 'identity', 'fisher' or 'kfac'")
    from alignmerge.merger.geometry.fisher import diagonal_roots, inverse_metric
    from alignmerge.merger.geometry.kfac import kfac_chart, kfac_factors

    estimate = partial(diagonal_roots if kind == "fisher" else kfac_factors, model, rows, layers, pad=pad, seed=seed)
    if model_digest is None:
        found = estimate()
    else:
        found = _kept(_key(kind, model_digest, model, rows, layers, seed, pad), estimate, layers)
    return Diagonal(inverse_metric(found, damping)) if kind == "fisher" else kfac_chart(found, list(layers), damping)


def _kept(
    key: Mapping[str, Any], make: Callable[[], Mapping[str, Tensor]], layers: Mapping[str, nn.Linear]
) -> dict[str, Tensor]:
    from alignmerge.merger.geometry.chart_cache import cached

    device = next(iter(layers.values())).weight.device
    return {name: value.to(device) for name, value in cached(key, make).items()}


def _key(
    kind: str, digest: str, model: Any, rows: Sequence[Row], layers: Mapping[str, nn.Linear], seed: int, pad: int
) -> dict[str, Any]:
    """Everything the bits of a Fisher depend on: the same sums in another order differ in the last digit."""
    weight = next(iter(layers.values())).weight
    rounded = {"products": ROUNDED} if is_quickened(model) else {}
    return {
        **rounded,
        "version": 1,  # of the estimates; raised when they change
        "kind": kind,
        "model": digest,
        "rows": jsonio.digest([[row.source, row.prompt, row.answer] for row in rows]),
        "layers": list(layers),
        "seed": seed,
        "pad": pad,
        "attention": str(getattr(model.config, "_attn_implementation", None)),
        "dtype": str(weight.dtype),
        "device": f"{model_of(weight.device)} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "transformers": version("transformers"),
    }


class ChartBytes(NamedTuple):
    """Memory of a chart beside the model: at most `making` while it is estimated, `held` while it is used."""

    making: int
    held: int


def chart_bytes(shapes: Mapping[str, tuple[int, int]], kind: str, tokens: int, element: int = 2) -> ChartBytes:
    """What the chart of `kind` needs for layers of these shapes (d_out, d_in); its rows have `tokens` answer tokens.

    element: bytes of the model's numbers. Counted are the chart's own tensors: not the activations of one chunk of
    rows, nor the workspace of `gram` (rows times the largest layer, in the model's numbers; twice for "fisher").
    Inputs that layers share are counted once for each layer, so "kfac" needs rather less.

    For the 6.98e9 linear weights of an 8 B Llama, in GB while it is made and while it is held: "fisher" 27.9 and 14.0
    (4 and 2 bytes per weight) whatever the tokens; "kfac" 11.0 and 10.7 with 1024 answer tokens, but 197 and 98.5 with
    more tokens than any layer has columns.
    """
    if kind == "identity":
        return ChartBytes(0, 0)
    if kind == "fisher":
        size = sum(rows * columns for rows, columns in shapes.values())
        return ChartBytes(4 * size, 2 * size)
    sides = [side for shape in shapes.values() for side in shape]
    held = [4 * side * min(side, tokens) for side in sides]
    summed = [element * side * tokens if tokens < side else 8 * side * side for side in sides]
    return ChartBytes(sum(map(max, held, summed)), sum(held))
