"""bfloat16 linear layers on processors without bfloat16 products: multiplied in float32, rounded once.

There PyTorch's own product of bfloat16 matrices takes some ten times as long as that of float32 ones, which makes an
audit of minutes one of hours (docs/engines.md). What is computed is the same: products of bfloat16 numbers,
summed in float32, the sum rounded to bfloat16; sums are taken in another order, as between any two kinds of processor.
Weights stay in bfloat16; a part of one layer at a time is held in float32.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from alignmerge.progress import say

BLOCK = 1 << 20  # weights that are held in float32 at a time, in 4 MiB
ROUNDED = "float32, rounded"  # what records say
FEWEST = 4  # tokens; for fewer ones the time goes into reading weights, which bfloat16 has fewer bytes of


@cache
def slow() -> bool:
    """Whether oneDNN has no quick bfloat16 products on this processor (on x86-64: one without AVX-512).

    Its own answer, which no public function of torch gives; a torch without it is left as it is.
    """
    built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None) if built else None
    return supported is not None and not supported()


def taken(dtype: str, device: str) -> str | None:
    """ROUNDED where models of `dtype` on `device` take their products so on this machine, else None."""
    return ROUNDED if (dtype, device) == ("bfloat16", "cpu") and slow() else None


class RoundedLinear(nn.Linear):
    """A linear layer whose bfloat16 products on a CPU are taken in float32 and rounded; any other one is as ever."""

    def forward(self, input: Tensor) -> Tensor:
        """W x + b in the dtype of both, (..., d_out)."""
        narrow = input.dtype == self.weight.dtype == torch.bfloat16 and input.device.type == "cpu"
        if not narrow or input.numel() < FEWEST * self.in_features:
            return super().forward(input)
        found: Tensor = _Rounded.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return found


def quicken(model: nn.Module) -> None:
    """Turns the model's plain linear layers into RoundedLinear.

    Parameters, names, hooks and `isinstance(_, nn.Linear)` stay as they are.
    """
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = RoundedLinear


def is_quickened(model: nn.Module) -> bool:
    """Whether a layer of the model multiplies so in the model's present dtype, on its present device."""
    return any(
        isinstance(module, RoundedLinear)
        and module.weight.dtype == torch.bfloat16
        and module.weight.device.type == "cpu"
        for module in model.modules()
    )


@cache
def announce() -> None:
    """Says once that products are taken so."""
    say("this processor has no bfloat16 products: linear layers multiply in float32 and round to bfloat16")


class _Rounded(torch.autograd.Function):
    """y = W x + b; saved for the backward pass are the bfloat16 tensors that it needs, not their float32 copies."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        needed = ctx.needs_input_grad
        ctx.save_for_backward(x if needed[1] else None, weight if needed[0] else None)
        ctx.x, ctx.weight = (x.shape, x.dtype), (weight.shape, weight.dtype)
        wide = x.flatten(0, -2).float()
        out = x.new_empty((*x.shape[:-1], len(weight)))
        flat = out.view(-1, len(weight))
        for part in _parts(weight):
            offset = None if bias is None else bias[part].float()
            flat[:, part] = functional.linear(wide, weight[part].float(), offset)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad = grads[0].flatten(0, -2).float()  # (tokens, d_out)
        needed = ctx.needs_input_grad
        for_x = for_weight = for_bias = None
        if needed[0]:
            shape, dtype = ctx.x
            total = grad.new_zeros((len(grad), shape[-1]))
            for part in _parts(weight):
                total.addmm_(grad[:, part], weight[part].float())
            for_x = total.to(dtype).view(shape)
        if needed[1]:
            shape, dtype = ctx.weight
            for_weight = grad.new_empty(shape, dtype=dtype)
            wide = x.flatten(0, -2).float()
            for part in _parts(for_weight):
                for_weight[part] = grad[:, part].T @ wide
        if needed[2]:
            for_bias = grad.sum(0).to(ctx.weight[1])
        return for_x, for_weight, for_bias


def _parts(weight: Tensor) -> list[slice]:
    """The output features in slices of about BLOCK weights."""
    rows = max(1, BLOCK // weight.shape[1])
    return [slice(start, start + rows) for start in range(0, len(weight), rows)]
