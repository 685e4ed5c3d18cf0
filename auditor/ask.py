"""Every prompt of an audit asked once, from the store where it was answered before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import alignmerge
from alignmerge.auditor.engines.base import Advance, Answer, Completion, Engine, Sampling
from alignmerge.auditor.metrics import get_metric
from alignmerge.auditor.store import Asked, CompletionStore, asked
from alignmerge.errors import RecordError, UsageError
from alignmerge.suites.model import Item, Split, Suite, select

if TYPE_CHECKING:
    from torch import Tensor

# A kill loses at most this many answers.
COMMIT_EVERY = 16


@dataclass(frozen=True)
class Asking:
    """A suite, the items of it that are asked, and how."""

    suite: Suite
    items: tuple[Item, ...]
    of: int
    sampling: Sampling


@dataclass
class Answers:
    """Completions by suite name and prompt; states by prompt."""

    completions: dict[tuple[str, str], Completion] = field(default_factory=dict)
    states: dict[str, "Tensor"] = field(default_factory=dict)


def plan(suites: Sequence[Suite], split: Split, limit: int | None, seed: int) -> tuple[Asking, ...]:
    """What an audit will ask.

    Raises:
        UsageError: no suite, a suite named twice, a limit below 1, an unknown metric.
        RecordError: a suite without items in the split, or with two items of one id.
    """
    if not suites or len({suite.name for suite in suites}) < len(suites):
        raise UsageError("an audit needs at least one suite, and each only once")
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}: at least 1 item per suite must be asked")
    out = []
    for suite in suites:
        for name in suite.metrics:
            get_metric(name)
        every = suite.items(split)
        ids = [item.id for item in every]
        if not ids or len(set(ids)) < len(ids):
            fault = "has no items" if not ids else "has two items with one id"
            raise RecordError(f"suite {suite.name!r}, split {split!r}: {fault}")
        out.append(Asking(suite, select(suite, split, limit), len(ids), Sampling(suite.max_new_tokens, seed=seed)))
    return tuple(out)


def ask_all(
    engine: Engine,
    asking: Sequence[Asking],
    checkpoint: str,
    with_states: set[str],
    store: CompletionStore | None,
    progress: Advance | None,
) -> Answers:
    """All answers, and hidden states of the prompts in `with_states` where the engine has them."""
    answers = Answers()
    groups: dict[tuple[Sampling, bool], dict[str, list[str]]] = {}
    for one in asking:
        for item in one.items:
            wanted = groups.setdefault((one.sampling, item.prompt in with_states), {})
            wanted.setdefault(item.prompt, []).append(one.suite.name)
    described = engine.describe()
    for (sampling, states), wanted in groups.items():
        code = f"alignmerge {alignmerge.__version__}"
        key = asked(checkpoint, described, sampling, code)
        for prompt, answer in _answers(engine, list(wanted), sampling, states, key, store):
            for suite in wanted[prompt]:
                answers.completions[suite, prompt] = answer.completion
            if answer.states is not None:
                answers.states[prompt] = answer.states
            if progress is not None:
                progress(len(wanted[prompt]))
    return answers


def _answers(
    engine: Engine, prompts: list[str], sampling: Sampling, states: bool, key: Asked, store: CompletionStore | None
) -> Iterator[tuple[str, Answer]]:
    """Each prompt with its answer: stored ones first, then new ones as they come (stored before the next batch)."""
    left = prompts
    if store is not None:
        left = []
        for prompt in prompts:
            known = store.find(key, prompt, states)
            if known is None:
                left.append(prompt)
            else:
                yield prompt, known
    if not left:
        return
    waiting: list[tuple[str, Answer]] = []
    try:
        for answer in engine.stream(left, sampling, states=states):
            waiting.append((left[answer.index], answer))
            if store is not None and len(waiting) >= COMMIT_EVERY:
                done, waiting = waiting, []
                store.put(key, done)
            yield left[answer.index], answer
    finally:
        if store is not None and waiting:
            store.put(key, waiting)
