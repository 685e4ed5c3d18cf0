"""Gram matrices of what goes into a loaded model's linear layers, on calibration rows; a forward pass is enough."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.gradients import by_row, merged_linears
from alignmerge.merger.geometry.hooks import hooked
from alignmerge.merger.geometry.rows import Row, collate
from alignmerge.progress import track

CHUNK = 8
RIDGE = 1e-6  # of the mean diagonal, so that a system can be solved and a single model is still returned as it is


def input_grams(model: Any, rows: Sequence[Row]) -> dict[str, Tensor]:
    """G = X^T X / n of every linear layer but the output head, by weight name: (d_in, d_in) float32.

    X holds the layer's inputs at the n real tokens of all rows, prompts and answers; padding counts nowhere. Layers
    that are given one and the same input (query, key and value) share one matrix. Summed in float64.

    Raises:
        RecipeError: an input is not finite, or has no rows of its own.
    """
    layers = merged_linears(model)
    sums: dict[str, Tensor] = {}
    owners: dict[str, str] = {}
    tokens = 0
    with track("layer inputs", len(rows)) as bar:
        for start in range(0, len(rows), CHUNK):
            batch = collate(rows[start : start + CHUNK], 0, model.device)
            real = batch.mask.bool()
            with _recording(layers) as inputs, torch.inference_mode():
                model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
            owners = owners or _owners(inputs)
            for name in dict.fromkeys(owners.values()):
                x = inputs[name][real].double()  # (tokens, d_in)
                product = (x.T @ x).cpu()  # the sums of all layers are larger than the model
                sums[name] = sums[name].add_(product) if name in sums else product
            tokens += int(real.sum())
            bar.advance(len(real))
    grams = {name: (sums.pop(name) / tokens).float() for name in list(sums)}
    for name, value in grams.items():
        if not bool(value.isfinite().all()):
            raise RecipeError(f"calibration: the inputs of {name} are not finite")
    return {name: grams[owner] for name, owner in owners.items()}


def shrunk(gram: Tensor, a: float) -> Tensor:
    """a G + (1 - a) diag(G), and the ridge on the diagonal; float64. Source: arXiv 2212.09849, section 4.2 (a)."""
    out = gram.double() * a
    diagonal = gram.diagonal().double()
    out.diagonal().copy_(diagonal + RIDGE * diagonal.mean())
    return out


def _owners(inputs: dict[str, Tensor]) -> dict[str, str]:
    """For every layer the first one that is given the very same input."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(value), name) for name, value in inputs.items()}


@contextmanager
def _recording(layers: "dict[str, nn.Linear]") -> Iterator[dict[str, Tensor]]:
    """The input of every layer in the next forward pass; they are kept alive, so that their ids stay apart."""
    inputs: dict[str, Tensor] = {}

    def hook_of(name: str) -> Any:
        return lambda _, args: inputs.__setitem__(name, by_row(name, args[0]))

    with hooked(module.register_forward_pre_hook(hook_of(name)) for name, module in layers.items()):
        yield inputs
