"""The embedded engine: a transformers model in this process, on CPU or GPU."""

import hashlib
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any

import torch

from alignmerge import jsonio
from alignmerge.auditor.engines.base import DEFAULT_BATCH_SIZE, Advance, Answer, Completion, Sampling, in_order
from alignmerge.auditor.engines.decode import Decoder, Row
from alignmerge.auditor.engines.likelihood import likelihoods
from alignmerge.auditor.engines.prompts import Encoder, shared_prefix, template_of
from alignmerge.auditor.template import ChatTemplate, check_template
from alignmerge.devices import model_of
from alignmerge.errors import TensorMismatch, UsageError
from alignmerge.products import ROUNDED, announce, is_quickened

# Raised whenever a change to this folder may change an answer: stored answers of the older version are not reused.
CODE_VERSION = 1


class TransformersEngine:
    """Answers with an already loaded causal language model.

    The model is used as it is, in eval mode and in `dtype`; its weights may change between calls, nothing is kept.
    `batch_size` rows are computed at once. In bfloat16, answers can differ in rare ties with the batch they are in.

    Raises:
        UnsafeFormat: the chat template is missing, hostile or broken.
    """

    gives_states = True

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        dtype: torch.dtype | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        template: str | None = None,
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}: it must be at least 1")
        own = template_of(tokenizer) if template is None else None
        self._template = own or ChatTemplate(str(template), {})
        check_template(self._template.source, self._template.tokens)
        self.model = (model if dtype is None else model.to(dtype)).eval()
        self.dtype, self.batch_size = model.dtype, batch_size
        self.encoder = Encoder(tokenizer, self._template)
        self._ends = _end_tokens(model, tokenizer)
        if is_quickened(self.model):
            announce()

    @cached_property
    def _description(self) -> dict[str, Any]:
        body = {
            "kind": "transformers",
            "code": CODE_VERSION,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": self.model.device.type,
            "batch_size": self.batch_size,
            "attention": str(getattr(self.model.config, "_attn_implementation", None)),
            "ends": sorted(self._ends),
            "torch": torch.__version__,
            "transformers": version("transformers"),
            "template": self._template.digest,
        }
        if self.model.device.type == "cuda":  # one product rounds otherwise than another
            body["gpu"] = model_of(self.model.device)
        if is_quickened(self.model):
            body["products"] = ROUNDED
        return {**body, "digest": jsonio.digest(body)}

    def describe(self) -> Mapping[str, Any]:
        """What answers depend on besides weights and prompt; `template` and `digest` are SHA-256."""
        return dict(self._description)

    def stream(self, prompts: Sequence[str], sampling: Sampling, *, states: bool = False) -> Iterator[Answer]:
        """Every answer once, in the order they finish, longest prompts first.

        Raises:
            UsageError: a prompt and its answer do not fit into the model's context.
            TensorMismatch: the model's output is not finite.
        """
        ids = self._encode(prompts, sampling.max_new_tokens)
        prefix = shared_prefix(ids)
        decoder = Decoder(self.model, ids[0][:prefix] if ids else (), sampling, self._ends)
        order = sorted(range(len(ids)), key=lambda place: (-len(ids[place]), place))
        queue = [Row(place, ids[place][prefix:], draws=_draws(sampling, prompts[place])) for place in order]
        active = None
        while queue or active is not None:
            room = self.batch_size - (len(active.rows) if active else 0)
            # Joining copies the batch's memory once; a quarter of the rows makes that worth it.
            if queue and (active is None or (decoder.can_join() and room >= max(1, self.batch_size // 4))):
                fresh, queue = queue[:room], queue[room:]
                new = decoder.prefill(fresh, states=states)
                yield from map(self._answer, decoder.drop(new))
                active = decoder.join(active, new) if active is not None and new.rows else (active or new)
            if active is not None and active.rows:
                decoder.step(active)
                yield from map(self._answer, decoder.drop(active))
            if active is not None and not active.rows:
                active = None

    def generate(self, prompts: Sequence[str], sampling: Sampling, progress: Advance | None = None) -> list[Completion]:
        """One completion per prompt, in the order of `prompts`."""
        return in_order(self.stream(prompts, sampling), len(prompts), progress)

    def hidden_states(self, prompts: Sequence[str], layers: Sequence[int] | None = None) -> torch.Tensor:
        """Residual stream after each of `layers` (1-based; the last one after the final norm) at the last prompt token.

        Shape (n, layers, d), in the model's dtype. Nothing is generated.
        """
        ids = self._encode(prompts, 1)
        prefix = shared_prefix(ids)
        decoder = Decoder(self.model, ids[0][:prefix] if ids else (), Sampling(1), self._ends)
        rows = [
            Row(place, ids[place][prefix:]) for place in sorted(range(len(ids)), key=lambda place: -len(ids[place]))
        ]
        for start in range(0, len(rows), self.batch_size):
            decoder.prefill(rows[start : start + self.batch_size], states=True, choose=False)
        rows.sort(key=lambda row: row.index)
        stacked = torch.stack([row.states for row in rows if row.states is not None])  # (n, layers, d)
        return stacked if layers is None else stacked[:, [layer - 1 for layer in layers]]

    def loglikelihood(self, pairs: Sequence[tuple[str, str]], *, end: bool = True) -> list[float]:
        """Natural-log probability of each (prompt, answer)'s answer: the sum over its tokens.

        With `end`, the end token belongs to it.

        Raises:
            UsageError: a prompt and its answer do not fit into the model's context, or an answer has no tokens.
            TensorMismatch: the model's output is not finite.
        """
        tail = [min(self._ends)] if end else []
        answers = [[*self.encoder.text(answer), *tail] for _, answer in pairs]
        if not all(answers):
            raise UsageError("an answer without tokens has no likelihood")
        asked = self.encode([prompt for prompt, _ in pairs])
        for (prompt, _), row, answer in zip(pairs, asked, answers, strict=True):
            self._check_room(prompt, row, len(answer))
        prefix = shared_prefix(asked)
        longest = max(map(len, answers), default=1)
        decoder = Decoder(self.model, asked[0][:prefix] if asked else (), Sampling(longest), self._ends)
        if decoder.can_join():
            rows = [(tuple(ids[prefix:]), tuple(answer)) for ids, answer in zip(asked, answers, strict=True)]
            return likelihoods(decoder, rows, self.batch_size)
        return self._scored_whole(asked, answers)

    def _scored_whole(self, asked: list[list[int]], answers: list[list[int]]) -> list[float]:
        """For models whose memory cannot be shared: each prompt run again with each answer."""
        order = sorted(range(len(asked)), key=lambda place: -len(asked[place]) - len(answers[place]))
        out = [0.0] * len(asked)
        for start in range(0, len(order), self.batch_size):
            places = order[start : start + self.batch_size]
            values = self._score([asked[place] for place in places], [answers[place] for place in places])
            for place, value in zip(places, values, strict=True):
                out[place] = value
        return out

    @torch.inference_mode()
    def _score(self, asked: list[list[int]], answers: list[list[int]]) -> list[float]:
        both = list(zip(asked, answers, strict=True))
        rows = [prompt + answer for prompt, answer in both]
        longest = max(map(len, rows))
        ids = torch.zeros((len(rows), longest), dtype=torch.long)
        mask = torch.zeros((len(rows), longest), dtype=torch.bool)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = True
        ids, mask = ids.to(self.model.device), mask.to(self.model.device)
        # Only the positions that are read: logits of all would need batch x length x vocabulary numbers.
        keep = sorted({len(prompt) - 1 + step for prompt, answer in both for step in range(len(answer))})
        where = {position: column for column, position in enumerate(keep)}
        logits = self.model(
            input_ids=ids, attention_mask=mask, logits_to_keep=torch.tensor(keep, device=ids.device)
        ).logits
        values = []
        for place, (prompt, answer) in enumerate(both):
            columns = [where[len(prompt) - 1 + step] for step in range(len(answer))]
            read = logits[place, columns].float().log_softmax(dim=-1)
            chosen = read.gather(1, torch.tensor(answer, device=read.device)[:, None])
            values.append(float(chosen.double().sum()))
        if not all(map(math.isfinite, values)):
            raise TensorMismatch("model: its output is not finite; a weight is NaN, infinite or far too large")
        return values

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt in the chat template, as every other method asks it."""
        return self._encode(prompts, 1)

    @property
    def context(self) -> int | None:
        """How many tokens a prompt and its answer may have together; None where the model does not say."""
        limit: int | None = getattr(self.model.config, "max_position_embeddings", None)
        return limit

    @property
    def ends(self) -> frozenset[int]:
        """The token ids that end an answer."""
        return self._ends

    def _encode(self, prompts: Sequence[str], new_tokens: int) -> list[list[int]]:
        ids = self.encoder.encode(prompts) if prompts else []
        for prompt, row in zip(prompts, ids, strict=True):
            self._check_room(prompt, row, new_tokens)
        return ids

    def _check_room(self, prompt: str, row: Sequence[int], new_tokens: int) -> None:
        if self.context is not None and len(row) + new_tokens > self.context:
            raise UsageError(
                f"prompt {prompt[:60]!r}: {len(row)} tokens and {new_tokens} for the answer exceed "
                f"the model's context of {self.context}"
            )

    def _answer(self, row: Row) -> Answer:
        stopped = row.tokens[-1] in self._ends
        tokens = row.tokens[:-1] if stopped else row.tokens
        text = self.encoder.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Answer(row.index, Completion(tuple(tokens), text, "stop" if stopped else "length"), row.states)


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    found: set[int] = set()
    for owner in (getattr(model, "generation_config", None), model.config, tokenizer):
        value = getattr(owner, "eos_token_id", None)
        found.update(value if isinstance(value, list | tuple) else [] if value is None else [value])
    if not found:
        raise UsageError("model and tokenizer name no end token: answers could never end")
    return frozenset(int(token) for token in found)


def _draws(sampling: Sampling, prompt: str) -> torch.Generator | None:
    if sampling.temperature == 0:
        return None
    seed = f"{sampling.seed}/{sampling.repeat}" if sampling.repeat else str(sampling.seed)
    name = hashlib.sha256(f"{seed}:{prompt}".encode("utf-8", "surrogatepass")).digest()
    return torch.Generator().manual_seed(random.Random(name).getrandbits(63))  # noqa: S311  reproducible, not secret
