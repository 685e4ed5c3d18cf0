"""Calibration rows of AlignMerge: what the anchor answers where alignment is at stake, and each expert in its domain.

Answers are the models' own greedy ones, with the end token where they ended, so nothing has to be labelled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alignmerge.merger.geometry.rows import Row, measure
from alignmerge.progress import track
from alignmerge.suites.model import Item, Suite, select

if TYPE_CHECKING:
    from alignmerge.auditor.engines.transformers_engine import TransformersEngine

ANSWER_TOKENS = 20


@dataclass(frozen=True)
class Plan:
    """What to ask: alignment suites of the anchor, one skill suite per expert, and how many items of each.

    `alignment` items come half and half from harmful requests and harmless look-alikes when both suites are named.
    """

    alignment: tuple[str, ...] = ("refusal", "over_refusal")
    experts: tuple[str, ...] = ()
    alignment_items: int = 88
    expert_items: int = 48
    validation_items: int = 16


def take(suites: Sequence[Suite], split: str, each: int) -> list[Item]:
    """The first `each` items of every suite's split, interleaved so that matched pairs stay together."""
    columns = [select(suite, split, each) for suite in suites]  # type: ignore[arg-type]
    return [item for row in zip(*columns, strict=False) for item in row]


def own_answers(
    engine: "TransformersEngine", items: Sequence[Item], source: str, pad: int, tokens: int = ANSWER_TOKENS
) -> list[Row]:
    """One row per item with an answer: the engine's own greedy answer and its log-likelihood.

    Items answered by nothing at all are left out: an empty answer constrains nothing.
    """
    from alignmerge.auditor.engines.base import Sampling

    prompts = [item.prompt for item in items]
    with track(f"{source}: own answers", len(prompts)) as bar:
        found = engine.generate(prompts, Sampling(tokens), bar.advance)
    end = min(engine.ends)
    rows = [
        Row(tuple(ids), (*answer.tokens, end) if answer.finish == "stop" else answer.tokens, source, 0.0)
        for ids, answer in zip(engine.encode(prompts), found, strict=True)
        if answer.tokens
    ]
    return measure(engine.model, rows, pad)
