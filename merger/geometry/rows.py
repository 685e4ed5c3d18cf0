"""Rows: the calibration items a solve is constrained by, as token ids.

A row is one prompt with the answer its reference model gave (the anchor where alignment is at stake, an expert in its
domain) and that model's own mean log-likelihood of the answer. Its residual is how much less likely the merge finds
the same answer; zero means "as good as the reference".
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignmerge import jsonio
from alignmerge.errors import RecipeError

ALIGNMENT = "alignment"


# Tokens of a teacher's distribution that are kept one by one; the rest is one outcome more. The kept ones hold over
# 0.99 of the mass at most positions of a chat model, and 864 rows take 10 MB.
KEPT = 64
# Below this a sum of probabilities is rounding.
LEAST_REST = 1e-6


class Teacher(NamedTuple):
    """What the model that gave an answer expected at each of its t tokens: the KEPT likeliest tokens and their
    log-probabilities, (t, KEPT) int32 and float32."""

    tokens: Tensor
    logs: Tensor


@dataclass(frozen=True)
class Row:
    """One constraint.

    source: "alignment", or the name of the expert whose domain it is from.
    log_likelihood: mean per answer token, in nats, under the model that gave the answer. teacher: its distributions
    there, for residuals that compare more than the one answer; see `measure`.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    source: str
    log_likelihood: float
    teacher: Teacher | None = field(default=None, compare=False, repr=False)


class Batch(NamedTuple):
    """Right-padded rows: `ids` (n, t) int64, `mask` (n, t) 1 where a token is real, `targets` (n, t) 1 where the
    token is part of the answer, `reference` (n,) float32 log-likelihoods."""

    ids: Tensor
    mask: Tensor
    targets: Tensor
    reference: Tensor


def collate(rows: Sequence[Row], pad: int, device: torch.device | None = None) -> Batch:
    """The rows as one right-padded batch on `device`, by default the CPU (causal attention: padding is harmless)."""
    width = max(len(row.prompt) + len(row.answer) for row in rows)
    ids = torch.full((len(rows), width), pad, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    targets = torch.zeros((len(rows), width), dtype=torch.float32)
    for index, row in enumerate(rows):
        tokens = [*row.prompt, *row.answer]
        ids[index, : len(tokens)] = torch.tensor(tokens)
        mask[index, : len(tokens)] = 1
        targets[index, len(row.prompt) : len(tokens)] = 1.0
    reference = torch.tensor([row.log_likelihood for row in rows], dtype=torch.float32)
    return Batch(*(part.to(device) for part in (ids, mask, targets, reference)))


def log_likelihoods(logits: Tensor, batch: Batch) -> Tensor:
    """Mean log-likelihood per answer token of each row, (n,), in nats, from logits (n, t, vocabulary).

    Only answer positions are normalised, so the (n, t, vocabulary) log-softmax is never stored.
    """
    return answer_means(logits[:, :-1][before_answers(batch)], batch)


def before_answers(batch: Batch) -> Tensor:
    """Where an answer token is predicted: (n, t - 1) bool."""
    return batch.targets[:, 1:].bool()


def answer_means(logits: Tensor, batch: Batch) -> Tensor:
    """`log_likelihoods` from the logits at `before_answers` alone, (answer tokens, vocabulary), row after row."""
    where, picked = before_answers(batch), logits.float()
    token = picked.gather(1, batch.ids[:, 1:][where].unsqueeze(1)).squeeze(1) - picked.logsumexp(dim=1)
    return _means(token, batch)


def answer_divergences(logits: Tensor, batch: Batch, rows: Sequence[Row]) -> Tensor:
    """Mean over answer tokens of KL(teacher || model) of each row, (n,), in nats, at least 0.

    logits: at `before_answers` alone, (answer tokens, vocabulary), row after row. All tokens that a teacher does not
    list are one outcome, so this is a lower bound of the whole divergence (data processing inequality) and 0 for the
    teacher itself, up to the rounding of its own dtype.

    Raises:
        RecipeError: a row has no teacher.
    """
    logs, own, rests = _beside_teachers(logits, rows)
    rest, own_rest = rests
    token = (logs.exp() * (logs - own)).sum(dim=1) + rest * (rest.log() - own_rest.log())
    return _means(token, batch).clamp_min(0.0)


def answer_hellingers(logits: Tensor, batch: Batch, rows: Sequence[Row]) -> Tensor:
    """Mean over answer tokens of 1 - sum_j sqrt(p_j q_j), p the teacher's, q the model's, of each row, (n,), in [0, 1].

    The squared Hellinger distance; as for `answer_divergences` a lower bound of the whole one.

    Raises:
        RecipeError: a row has no teacher.
    """
    logs, own, rests = _beside_teachers(logits, rows)
    apart = ((logs / 2).exp() - (own / 2).exp()).square().sum(dim=1)  # 1 - sum sqrt(p q) would round where it is small
    return _means((apart + (rests[0].sqrt() - rests[1].sqrt()).square()) / 2, batch)


def _beside_teachers(logits: Tensor, rows: Sequence[Row]) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Teachers' and model's log-probabilities of the tokens that teachers list, and the mass of all others in each."""
    teachers = [row.teacher for row in rows]
    if any(one is None for one in teachers):
        raise RecipeError("calibration: a row carries no distributions of the model that gave its answer")
    tokens = torch.cat([one.tokens for one in teachers if one is not None]).to(logits.device).long()
    logs = torch.cat([one.logs for one in teachers if one is not None]).to(logits.device)
    values = logits.float()
    own = values.gather(1, tokens) - values.logsumexp(dim=1, keepdim=True)
    rest, own_rest = ((1 - part.exp().sum(dim=1)).clamp_min(LEAST_REST) for part in (logs, own))
    return logs, own, (rest, own_rest)


def _means(token: Tensor, batch: Batch) -> Tensor:
    """The mean over the answer tokens of each row, (n,)."""
    row = before_answers(batch).nonzero()[:, 0]
    total = torch.zeros(len(batch.ids), dtype=token.dtype, device=token.device).index_add(0, row, token)
    return total / batch.targets.sum(dim=1)


# A harmful request and its harmless look-alike, each with the anchor's own answer.
Pair = tuple[Row, Row]


@dataclass(frozen=True)
class Calibration:
    """The rows of a solve and the held-out alignment rows its budget is measured on; no row is in both.

    skill_validation: held-out rows of the experts, for the merit alone. pairs: the matched pairs among the held-out
    rows, for functionals that compare the two sides. fitting: matched pairs among the rows of the solve, on which such
    a functional fixes its frame at the anchor.
    """

    rows: tuple[Row, ...]
    validation: tuple[Row, ...]
    pad: int
    pairs: tuple[Pair, ...] = ()
    fitting: tuple[Pair, ...] = ()
    skill_validation: tuple[Row, ...] = ()

    def __post_init__(self) -> None:
        held_out = {row.prompt for row in (*self.validation, *self.skill_validation)}
        both = {row.prompt for row in self.rows} & held_out
        if both:
            raise ValueError(f"{len(both)} prompts are both constrained and held out")
        if not all(row.source == ALIGNMENT for row in self.validation):
            raise ValueError("only alignment rows measure the budget")
        for name, pairs, rows in (("pairs", self.pairs, self.validation), ("fitting", self.fitting, self.rows)):
            if not {row for pair in pairs for row in pair} <= set(rows):
                raise ValueError(f"{name}: a pair holds a row that is not among those it is taken from")

    @property
    def _parts(self) -> list[tuple[Row, ...]]:
        return [self.rows, self.validation, *([self.skill_validation] if self.skill_validation else [])]

    @property
    def digest(self) -> str:
        """SHA-256 of every token of every row (not of the log-likelihoods, which depend on the platform).

        Pairs are made of these rows and add nothing to it.
        """
        return jsonio.digest([[(row.source, row.prompt, row.answer) for row in part] for part in self._parts])


def measure(model: Any, rows: Sequence[Row], pad: int, chunk: int = 16) -> list[Row]:
    """The rows with `log_likelihood` and `teacher` set to the model's own, in the dtype and padding a solve uses."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].prompt) + len(rows[i].answer))
    out = list(rows)
    with torch.inference_mode():
        for start in range(0, len(order), chunk):
            places = order[start : start + chunk]
            batch = collate([rows[i] for i in places], pad, model.device)
            logits = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits
            teachers = _teachers(logits, batch)
            for place, value, one in zip(places, log_likelihoods(logits, batch).tolist(), teachers, strict=True):
                out[place] = replace(rows[place], log_likelihood=value, teacher=one)
    return out


def _teachers(logits: Tensor, batch: Batch) -> list[Teacher]:
    where = before_answers(batch)
    logs = logits[:, :-1][where].float().log_softmax(dim=1)
    kept = logs.topk(min(KEPT, logs.shape[1]), dim=1)
    counts, indices, values = where.sum(dim=1).tolist(), kept.indices.int().cpu(), kept.values.cpu()
    return [Teacher(*one) for one in zip(torch.split(indices, counts), torch.split(values, counts), strict=True)]
