"""Per-example gradients of a model's linear layers, from layer inputs and output gradients.

For a linear layer y = W a the gradient of example i is G_i = sum_t e_it a_it^T, where e is the gradient at y. Storing a
and e of every layer (n t (d_in + d_out) numbers) instead of G (n p numbers) is what lets the solve run in bounded
memory: the Gram matrix and the step are both made from them, one layer at a time.

Source: method.md 3.7 of the project's design notes (own); the layer-wise identity is standard (Goodfellow,
arXiv 1510.01799).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.hooks import hooked
from alignmerge.merger.geometry.rows import Batch, answer_means, before_answers


def merged_linears(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers a merge may move, by weight name: all but the output head (tied to the embedding)."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    return {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }


def by_row(name: str, value: Tensor) -> Tensor:
    """`value` itself, what the layer `name` is given or gives: (rows, tokens, d).

    Raises:
        RecipeError: it has no rows of its own, as where a family lays all tokens of a batch one behind the other.
    """
    if value.ndim != 3:
        raise RecipeError(
            f"model: {name} sees a batch as {tuple(value.shape)}, not as (rows, tokens, width), so nothing can be told "
            "by row; use a method that needs no calibration"
        )
    return value


@dataclass(frozen=True)
class Factors:
    """Layer inputs and output gradients of n examples.

    values: the differentiated scalar of each example, (n,). inputs / outputs: per weight name, (n, t, d_in) and
    (n, t, d_out).
    """

    values: Tensor
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    def layer(self, name: str) -> Tensor:
        """Per-example gradients of one layer, (n, d_out, d_in) float32."""
        return torch.bmm(self.outputs[name].transpose(1, 2), self.inputs[name]).float()


@contextmanager
def _recording(layers: Mapping[str, nn.Linear]) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            inputs[name] = by_row(name, args[0]).detach()
            output.register_hook(lambda grad: outputs.__setitem__(name, grad.detach()))  # type: ignore[no-untyped-call]

        return hook

    with hooked(module.register_forward_hook(record(name)) for name, module in layers.items()):
        yield inputs, outputs


def factors(
    model: Any, batch: Batch, layers: Mapping[str, nn.Linear], score: Callable[[Tensor, Batch], Tensor]
) -> Factors:
    """Factors of the per-example scalars `score(logits, batch)` (n,), by one forward and one backward pass.

    `score` is given the logits that predict answer tokens alone, (answer tokens, vocabulary), row after row. The
    model's parameters get no gradient and are not changed; examples do not interact, so the gradient of the sum
    holds each example's own.

    Raises:
        RecipeError: a layer's input has no rows of its own; see `by_row`.
    """
    embedded = model.get_input_embeddings()(batch.ids).detach().requires_grad_(True)
    # Frozen weights: their inputs need not be kept, and a layer of our own knows that no gradient of them is asked for.
    with trained(model, {}), _recording(layers) as (inputs, outputs):
        values = score(answer_logits(model, batch, inputs_embeds=embedded), batch)
        torch.autograd.grad(values.sum(), embedded)  # parameters get no gradient; the hooks fire on the way
    return Factors(values.detach(), inputs, outputs)


def answer_factors(model: Any, batch: Batch, layers: Mapping[str, nn.Linear]) -> Factors:
    """Factors of each row's mean answer log-likelihood."""
    return factors(model, batch, layers, answer_means)


def answer_logits(model: Any, batch: Batch, **inputs: Tensor) -> Tensor:
    """The model's logits that predict answer tokens, (answer tokens, vocabulary), row after row, in its own dtype.

    The output head sees the states before answer tokens alone; what a family does after its head (soft-capping) is
    the model's own. `inputs` stand in for the batch's ids.
    """
    where = before_answers(batch)

    def pick(_: nn.Module, args: tuple[Tensor, ...]) -> Tensor:
        return args[0][:, :-1][where].unsqueeze(0)

    given = inputs or {"input_ids": batch.ids}
    with hooked([model.get_output_embeddings().register_forward_pre_hook(pick)]):
        logits: Tensor = model(**given, attention_mask=batch.mask, use_cache=False).logits[0]
    return logits


class Workspace:
    """A buffer that per-example gradients of one layer after another are written into.

    Fresh pages cost more than the sums made of them, so the buffer stays, as large as the largest layer has needed.
    """

    def __init__(self) -> None:
        self._buffer: Tensor | None = None

    def rows(self, parts: Sequence[Factors], name: str) -> Tensor:
        """Per-example gradients of one layer, (n, d_out d_in) in the factors' dtype; valid until the next call."""
        total = sum(len(part.values) for part in parts)
        outputs, inputs = parts[0].outputs[name], parts[0].inputs[name]
        out = self._taken((total, outputs.shape[2], inputs.shape[2]), inputs)
        start = 0
        for part in parts:
            stop = start + len(part.values)
            torch.bmm(part.outputs[name].transpose(1, 2), part.inputs[name], out=out[start:stop])
            start = stop
        return out.flatten(1)

    def like(self, other: Tensor) -> Tensor:
        """An uninitialised tensor with `other`'s shape and dtype; valid until the next call."""
        return self._taken(tuple(other.shape), other)

    def _taken(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        size = prod(shape)
        kind = (like.dtype, like.device)
        if self._buffer is None or self._buffer.numel() < size or (self._buffer.dtype, self._buffer.device) != kind:
            self._buffer = None  # gives its pages back before new ones are taken
            self._buffer = like.new_empty(size)
        return self._buffer[:size].view(shape)


def combine(parts: Sequence[Factors], name: str, weights: Tensor) -> Tensor:
    """sum_i w_i g_i of one layer, (d_out, d_in) float32: one weighted product, no per-example gradient stored."""
    out: Tensor | None = None
    start = 0
    for part in parts:
        n = len(part.values)
        w = weights[start : start + n].to(part.outputs[name])
        scaled = part.outputs[name] * w[:, None, None]
        step = scaled.flatten(0, 1).T @ part.inputs[name].flatten(0, 1)
        out = step if out is None else out + step
        start += n
    assert out is not None
    return out.float()


@contextmanager
def quick_attention(model: nn.Module) -> Iterator[None]:
    """Attention by plain matrix products while it lasts, where the model lies on a CPU.

    There the backward pass of the fused kernel takes ten times as long on rows of some 60 tokens, a fifth of a whole
    step of a 135 M model.
    """
    if next(model.parameters()).device.type != "cpu":
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield


@contextmanager
def trained(model: nn.Module, layers: Mapping[str, nn.Linear]) -> Iterator[None]:
    """Only the weights of `layers` take gradients; afterwards each parameter does what it did."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    wanted = {id(module.weight) for module in layers.values()}
    try:
        for parameter, _ in before:
            parameter.requires_grad_(id(parameter) in wanted)
        with torch.enable_grad(), quick_attention(model):
            yield
    finally:
        for parameter, flag in before:
            parameter.requires_grad_(flag)
