"""The greedy loop: a batch of rows at different places in their answers, computed one token at a time.

Notable decisions, all for speed on few cores:
- The prompts' common beginning (template, system text) is run once and its keys and values are copied to every row.
- A finished row leaves the batch at once, and new prompts join it, so no step computes dead rows.
- Only the last position goes through the output layer.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from alignmerge.auditor.engines import kvcache
from alignmerge.auditor.engines.base import Sampling
from alignmerge.errors import TensorMismatch


@dataclass
class Row:
    """One prompt on its way: ids after the shared prefix, then the tokens chosen so far."""

    index: int
    ids: list[int]
    tokens: list[int] = field(default_factory=list)
    states: torch.Tensor | None = None
    draws: torch.Generator | None = None

    @property
    def length(self) -> int:
        """Slots after the prefix that hold this row's keys: its prompt and every token but the newest."""
        return len(self.ids) + len(self.tokens) - 1


@dataclass
class Batch:
    """Rows that are computed together; `mask` is (rows, capacity), false where a slot holds nothing of the row."""

    rows: list[Row]
    cache: DynamicCache
    mask: torch.Tensor


class Decoder:
    """Runs a causal language model over rows that share a prefix of token ids."""

    def __init__(self, model: Any, prefix: Sequence[int], sampling: Sampling, ends: frozenset[int]) -> None:
        self.model, self.sampling, self.ends = model, sampling, ends
        self.device = model.device
        self._keep_one = {"logits_to_keep": 1} if "logits_to_keep" in _parameters(model) else {}
        self._plain = kvcache.is_plain(DynamicCache(config=model.config))
        # A sliding window counts slots, so padding between prefix and prompt would shorten it: then nothing is shared.
        self.head = list(prefix) if self._plain else []
        self._unshared = [] if self._plain else list(prefix)
        self.shared = self._run_prefix() if self.head else None

    @torch.inference_mode()
    def _run_prefix(self) -> DynamicCache:
        cache = DynamicCache(config=self.model.config)
        ids = torch.tensor([self.head], device=self.device)
        self.model(input_ids=ids, past_key_values=cache, use_cache=True, **self._keep_one)
        return cache

    @torch.inference_mode()
    def prefill(self, rows: list[Row], *, states: bool = False, choose: bool = True) -> Batch:
        """The rows run up to their first answer token, which is chosen; with `states`, each row's `states` are set."""
        batch, logits = self.read(rows, states=states)
        if choose:
            self._choose(batch, logits)
        return batch

    @torch.inference_mode()
    def read(self, rows: list[Row], *, states: bool = False) -> tuple[Batch, torch.Tensor]:
        """The rows run up to where their answers begin, and the logits of the first answer token, (rows, tokens)."""
        for row in rows:
            row.ids = [*self._unshared, *row.ids]
        head, longest = len(self.head), max(len(row.ids) for row in rows)
        pads = [longest - len(row.ids) for row in rows]
        capacity = head + longest + self.sampling.max_new_tokens
        mask = torch.ones((len(rows), capacity), dtype=torch.bool, device=self.device)
        for place, pad in enumerate(pads):
            mask[place, head : head + pad] = False
        ids = torch.tensor([[0] * pad + row.ids for row, pad in zip(rows, pads, strict=True)], device=self.device)
        steps = torch.arange(longest, device=self.device)
        positions = head + (steps[None, :] - torch.tensor(pads, device=self.device)[:, None]).clamp(min=0)
        if self.shared is not None:
            cache = kvcache.reserve(self.shared, len(rows), capacity)
        else:
            cache = DynamicCache(config=self.model.config)
        out = self._forward(ids, positions, mask[:, : head + longest], cache, states)
        if states:
            last = torch.stack([layer[:, -1] for layer in out.hidden_states[1:]], dim=1)  # (rows, layers, d)
            for place, row in enumerate(rows):
                row.states = last[place].clone()
        return Batch(rows, cache, mask), out.logits[:, -1]

    @torch.inference_mode()
    def extend(self, batch: Batch, places: Sequence[int], answers: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits after each token of `answers[i]` put behind row `places[i]`: (answers, longest answer, tokens).

        Rows may be named several times; the batch stays as it was. What follows a shorter answer's end means nothing.
        """
        longest, slots = max(map(len, answers)), batch.cache.get_seq_length()
        take = torch.tensor(places, dtype=torch.long, device=self.device)
        mask = torch.ones((len(answers), slots + longest), dtype=torch.bool, device=self.device)
        mask[:, :slots] = batch.mask[take, :slots]
        ids = torch.tensor([[*answer, *[0] * (longest - len(answer))] for answer in answers], device=self.device)
        begin = torch.tensor([len(self.head) + len(batch.rows[place].ids) for place in places], device=self.device)
        positions = begin[:, None] + torch.arange(longest, device=self.device)
        if (limit := getattr(self.model.config, "max_position_embeddings", None)) is not None:
            positions = positions.clamp(max=limit - 1)  # only what follows an answer's end could lie beyond
        out = self.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=kvcache.select(batch.cache, take, longest),
            use_cache=True,
        )
        logits: torch.Tensor = out.logits
        return logits

    @torch.inference_mode()
    def step(self, batch: Batch) -> None:
        """One more token for every row."""
        ids = torch.tensor([[row.tokens[-1]] for row in batch.rows], device=self.device)
        positions = torch.tensor([[len(self.head) + row.length] for row in batch.rows], device=self.device)
        slots = batch.cache.get_seq_length() + 1
        out = self._forward(ids, positions, batch.mask[: len(batch.rows), :slots], batch.cache, False)
        self._choose(batch, out.logits[:, -1])

    def _forward(self, ids: Any, positions: Any, mask: Any, cache: DynamicCache, states: bool) -> Any:
        return self.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            output_hidden_states=states,
            **self._keep_one,
        )

    def _choose(self, batch: Batch, logits: torch.Tensor) -> None:
        best, token = logits.max(dim=-1)  # NaN wins a maximum, so one look at the winners sees every bad row
        if not bool(torch.isfinite(best).all()):
            raise TensorMismatch("model: its output is not finite; a weight is NaN, infinite or far too large")
        if self.sampling.temperature > 0:
            token = self._draw(batch.rows, logits)
        for row, chosen in zip(batch.rows, token.tolist(), strict=True):
            row.tokens.append(chosen)

    def _draw(self, rows: list[Row], logits: torch.Tensor) -> torch.Tensor:
        shares = torch.softmax(logits.double() / self.sampling.temperature, dim=-1).cumsum(dim=-1)
        draws = torch.stack([torch.rand(1, generator=row.draws, dtype=torch.float64) for row in rows])
        token = torch.searchsorted(shares, draws.to(shares.device) * shares[:, -1:])
        return token[:, 0].clamp(max=logits.shape[-1] - 1)

    def is_done(self, row: Row) -> bool:
        """Whether the row's newest token ends it or its budget is used."""
        return row.tokens[-1] in self.ends or len(row.tokens) >= self.sampling.max_new_tokens

    @torch.inference_mode()
    def drop(self, batch: Batch) -> list[Row]:
        """The finished rows, taken out of the batch; the last unfinished rows move into their slots."""
        done = [place for place, row in enumerate(batch.rows) if self.is_done(row)]
        if not done:
            return []
        finished = [batch.rows[place] for place in done]
        count = len(batch.rows) - len(done)
        free = [place for place in done if place < count]
        gone = set(done)
        movers = [place for place in range(count, len(batch.rows)) if place not in gone]
        for place, source in zip(free, movers, strict=True):
            batch.rows[place] = batch.rows[source]
        del batch.rows[count:]
        if count:
            self._move(batch, free, movers, count)
        return finished

    def _move(self, batch: Batch, free: list[int], movers: list[int], count: int) -> None:
        to = torch.tensor(free, dtype=torch.long, device=self.device)
        source = torch.tensor(movers, dtype=torch.long, device=self.device)
        if free:
            batch.mask[to] = batch.mask[source]
        order = torch.arange(count, device=self.device)
        order[to] = source
        for layer in batch.cache.layers:
            if isinstance(layer, kvcache.ReservedLayer):
                layer.move(to, source, count)
            else:
                layer.batch_select_indices(order)  # type: ignore[union-attr]

    def can_join(self) -> bool:
        """Whether rows at different places can be computed together."""
        return self.shared is not None

    @torch.inference_mode()
    def join(self, old: Batch, new: Batch) -> Batch:
        """One batch of both, aligned at the newest token, without the padding nobody needs any more."""
        head = len(self.head)
        parts = [part for part in (old, new) if part.rows]
        lengths = [part.cache.get_seq_length() - head for part in parts]
        drops = [length - max(row.length for row in part.rows) for part, length in zip(parts, lengths, strict=True)]
        rows = [row for part in parts for row in part.rows]
        cache = kvcache.join([part.cache for part in parts], head, drops, self.sampling.max_new_tokens)
        slots = cache.get_seq_length()
        mask = torch.ones((len(rows), slots + self.sampling.max_new_tokens), dtype=torch.bool, device=self.device)
        for place, row in enumerate(rows):
            mask[place, head : slots - row.length] = False
        return Batch(rows, cache, mask)


def _parameters(model: Any) -> frozenset[str]:
    forward = getattr(model, "get_base_model", lambda: model)().forward
    return frozenset(inspect.signature(forward).parameters)
