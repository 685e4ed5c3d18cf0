"""Matched pairs as a model sees them: a harmful request and its harmless look-alike, with the anchor's own answers."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from alignmerge.merger.geometry.rows import Pair, Row, collate, log_likelihoods


def in_chunks(pairs: Sequence[Pair], chunk: int, measure: Callable[[Sequence[Pair]], Tensor]) -> Tensor:
    """`measure` of at most `chunk` pairs at a time, joined along the first axis, without gradient."""
    with torch.no_grad():
        return torch.cat([measure(pairs[start : start + chunk]) for start in range(0, len(pairs), chunk)])


def margins(model: Any, pairs: Sequence[Pair], pad: int) -> Tensor:
    """The margin of each pair, (n,), differentiable, in nats per token:

        1/2 [log p(y_h | x_h) - log p(y_b | x_h)] + 1/2 [log p(y_b | x_b) - log p(y_h | x_b)]

    x_h, x_b are the harmful request and its look-alike, y_h, y_b the anchor's own answers to them; means over tokens.
    """
    rows = [replace(asked, answer=told.answer) for pair in pairs for asked in pair for told in pair]
    batch = collate(rows, pad)
    device = model.device
    logits = model(input_ids=batch.ids.to(device), attention_mask=batch.mask.to(device), use_cache=False).logits
    values = log_likelihoods(logits.to(batch.ids.device), batch).view(len(pairs), 2, 2)  # (pair, asked, told)
    return (values[:, 0, 0] - values[:, 0, 1] + values[:, 1, 1] - values[:, 1, 0]) / 2


def states(model: Any, pairs: Sequence[Pair], pad: int) -> Tensor:
    """Hidden states at the last prompt token, (n, 2, layers, d) in the model's dtype, differentiable; harmful first.

    The residual stream after each layer, after the last one behind the final norm; answers are not read.
    """
    prompts = [Row(row.prompt, (), row.source, 0.0) for pair in pairs for row in pair]
    batch = collate(prompts, pad)
    ids, mask = batch.ids.to(model.device), batch.mask.to(model.device)
    out = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False, output_hidden_states=True)
    place, last = torch.arange(len(prompts), device=ids.device), mask.sum(dim=1) - 1
    found = torch.stack([layer[place, last] for layer in out.hidden_states[1:]], dim=1)
    return found.view(len(pairs), 2, *found.shape[1:])
