"""Every prompt of an audit asked once, from the store where it was answered before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import alignmerge
from alignmerge import jsonio
from alignmerge.auditor.engines.base import Advance, Answer, Completion, Engine, Sampling, Unsupported
from alignmerge.auditor.metrics import get_metric
from alignmerge.auditor.room import check_room
from alignmerge.auditor.store import Asked, CompletionStore, asked
from alignmerge.errors import RecordError, UsageError
from alignmerge.suites.model import Item, Split, Suite, select

if TYPE_CHECKING:
    from torch import Tensor

# A kill loses at most this many answers.
COMMIT_EVERY = 16
NO_LIKELIHOODS = "the engine gives no log-likelihoods"
# In the place of a sampling's digest: how a choice's likelihood is read. The end token does not belong to a choice.
LIKELIHOOD = jsonio.digest({"likelihood": 1, "end": False})


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
        UsageError: no suite, a suite named twice, a limit below 1, an unknown metric, one metric filled by two suites.
        RecordError: a suite without items in the split, with two items of one id, or with items that do not fit its
            kind.
    """
    if not suites or len({suite.name for suite in suites}) < len(suites):
        raise UsageError("an audit needs at least one suite, and each only once")
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}: at least 1 item per suite must be asked")
    out: list[Asking] = []
    filled: dict[str, str] = {}
    for suite in suites:
        for name in suite.metrics:
            if get_metric(name).level == "item" and (other := filled.setdefault(name, suite.name)) != suite.name:
                raise UsageError(f"suites {other!r} and {suite.name!r} both fill {name}; audit them apart")
        every = suite.items(split)
        ids = [item.id for item in every]
        if not ids or len(set(ids)) < len(ids):
            fault = "has no items" if not ids else "has two items with one id"
            raise RecordError(f"suite {suite.name!r}, split {split!r}: {fault}")
        _check_kind(suite, every)
        out.append(Asking(suite, select(suite, split, limit), len(ids), Sampling(suite.max_new_tokens, seed=seed)))
    return tuple(out)


def _check_kind(suite: Suite, items: Sequence[Item]) -> None:
    known: dict[str, Item] = {}
    for item in items:
        if (len(item.choices) > 1) != (suite.kind == "likelihood"):
            raise RecordError(f"suite {suite.name!r}: item {item.id!r} has {len(item.choices)} choices ({suite.kind})")
        other = known.setdefault(item.prompt, item)
        if other.choices != item.choices:
            raise RecordError(f"suite {suite.name!r}: items {other.id!r} and {item.id!r} give one prompt other choices")


def ask_all(
    engine: Engine,
    asking: Sequence[Asking],
    checkpoint: str,
    with_states: set[str],
    store: CompletionStore | None,
    progress: Advance | None,
) -> Answers:
    """All answers, and hidden states of the prompts in `with_states` where the engine has them.

    Raises:
        UsageError: something does not fit into the model's context; nothing was asked yet.
    """
    if engine.encoder is not None:
        check_room(asking, engine.encoder, engine.context)
    answers = Answers()
    groups: dict[tuple[Sampling, bool], dict[str, list[str]]] = {}
    for one in asking:
        for item in one.items if one.suite.kind == "generate" else ():
            wanted = groups.setdefault((one.sampling, item.prompt in with_states), {})
            wanted.setdefault(item.prompt, []).append(one.suite.name)
    described = engine.describe()
    for one in asking:
        if one.suite.kind == "likelihood":
            for prompt, completion in _chosen(engine, one, checkpoint, described, store, progress):
                answers.completions[one.suite.name, prompt] = completion
    for (sampling, states), wanted in groups.items():
        key = asked(checkpoint, described, sampling, _code())
        for prompt, answer in _answers(engine, list(wanted), sampling, states, key, store):
            for suite in wanted[prompt]:
                answers.completions[suite, prompt] = answer.completion
            if answer.states is not None:
                answers.states[prompt] = answer.states
            _tell(progress, len(wanted[prompt]))
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
            if answer.completion.fault is None:
                waiting.append((left[answer.index], answer))
            if store is not None and len(waiting) >= COMMIT_EVERY:
                done, waiting = waiting, []
                store.put(key, done)
            yield left[answer.index], answer
    finally:
        if store is not None and waiting:
            store.put(key, waiting)


def _chosen(
    engine: Engine,
    one: Asking,
    checkpoint: str,
    described: Mapping[str, object],
    store: CompletionStore | None,
    progress: Advance | None,
) -> Iterator[tuple[str, Completion]]:
    """Each prompt of a likelihood suite with the log-likelihoods of its choices; none where the engine has none."""
    key = Asked(checkpoint, str(described["template"]), LIKELIHOOD, str(described["digest"]), _code())
    left: dict[str, tuple[str, ...]] = {}
    counts: dict[str, int] = {}
    for item in one.items:
        counts[item.prompt] = counts.get(item.prompt, 0) + 1
        left[item.prompt] = item.choices
    for prompt, choices in list(left.items()):
        known = store.find_likelihoods(key, prompt, choices) if store is not None else None
        if known is not None:
            del left[prompt]
            yield prompt, _likeliest(choices, known)
            _tell(progress, counts[prompt])
    order = sorted(left, key=lambda prompt: (-len(prompt), prompt))
    for start in range(0, len(order), COMMIT_EVERY):
        prompts = order[start : start + COMMIT_EVERY]
        try:
            values = iter(engine.loglikelihood([(p, choice) for p in prompts for choice in left[p]], end=False))
        except Unsupported:
            yield from ((prompt, Completion((), "", "fault", fault=NO_LIKELIHOODS)) for prompt in order[start:])
            return
        rows = [(prompt, left[prompt], tuple(next(values) for _ in left[prompt])) for prompt in prompts]
        if store is not None:
            store.put_likelihoods(key, rows)
        for prompt, choices, found in rows:
            yield prompt, _likeliest(choices, found)
            _tell(progress, counts[prompt])


def _likeliest(choices: Sequence[str], found: tuple[float, ...]) -> Completion:
    return Completion((), choices[found.index(max(found))], "stop", choices=found)


def _tell(progress: Advance | None, count: int) -> None:
    if progress is not None:
        progress(count)


def _code() -> str:
    return f"alignmerge {alignmerge.__version__}"
