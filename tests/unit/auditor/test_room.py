"""A prompt that is too long is known before the first answer, whichever suite it is in."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from alignmerge.auditor.ask import plan
from alignmerge.auditor.audit import audit
from alignmerge.auditor.engines.base import Answer, Sampling
from alignmerge.auditor.engines.transformers_engine import TransformersEngine
from alignmerge.auditor.room import check_room
from alignmerge.errors import UsageError
from alignmerge.pipeline import planning
from alignmerge.suites.model import Item, Suite


class Counting(TransformersEngine):
    """The engine, counting what it is asked."""

    asked = 0

    def stream(self, prompts: Sequence[str], sampling: Sampling, *, states: bool = False) -> Iterator[Answer]:
        self.asked += len(prompts)
        return super().stream(prompts, sampling, states=states)

    def loglikelihood(self, pairs: Sequence[tuple[str, str]], *, end: bool = True) -> list[float]:
        self.asked += len(pairs)
        return super().loglikelihood(pairs, end=end)


@pytest.fixture
def engine(tiny: tuple[Any, Any]) -> Counting:
    return Counting(*tiny, batch_size=4)


def suite(name: str, prompts: Sequence[str], choices: Sequence[tuple[str, ...]] = (), new_tokens: int = 4) -> Suite:
    rows = [*choices, *[()] * (len(prompts) - len(choices))]
    items = tuple(
        Item(f"{name}{at}", prompt, "f", "c", "test", reference={"answer": 0}, choices=row)
        for at, (prompt, row) in enumerate(zip(prompts, rows, strict=True))
    )
    kind: Any = "likelihood" if choices else "generate"
    metrics = (f"choice_accuracy@{name}",) if choices else (f"refusal_rate@{name}",)
    return Suite(name, "1", "s", lambda split: items if split == "test" else (), metrics, new_tokens, kind=kind)


SHORT = suite("short", ["one", "two"])


@pytest.mark.parametrize(
    "late",
    [
        suite("late", ["three", "x" * 600]),
        suite("late", ["three", "four"], new_tokens=510),
        suite("late", ["three", "x" * 600], [("a", "b")] * 2),
        suite("late", ["three", "four"], [("a", "b"), ("a", "b" * 600)]),
    ],
)
def test_what_is_too_long_ends_an_audit_and_its_plan_before_anything_is_asked(engine: Counting, late: Suite) -> None:
    with pytest.raises(UsageError, match="suite 'late', item 'late[01]': .* exceed the model's context of 512"):
        audit(engine, checkpoint="a" * 64, name="n", suites=[SHORT, late])
    assert engine.asked == 0
    with pytest.raises(UsageError, match="context of 512"):
        planning.costs(plan([SHORT, late], "test", None, 0), engine.encoder, engine.context)


def test_the_longest_prompt_with_its_answer_just_fits(engine: Counting) -> None:
    asking = plan([SHORT, suite("late", ["x" * 300])], "test", None, 0)
    most = check_room(asking, engine.encoder, None)
    assert most == len(engine.encode(["x" * 300])[0]) + 4
    assert check_room(asking, engine.encoder, most) == most
    with pytest.raises(UsageError, match=f"context of {most - 1}"):
        check_room(asking, engine.encoder, most - 1)


def test_a_long_prompt_may_be_weighed_beside_a_long_choice_of_another(engine: Counting) -> None:
    overhead = len(engine.encode(["x"])[0]) - 1
    long, other = "x" * (512 - overhead - 2), "y"
    pairs = [(long, "ab"), (other, "c" * 200)]
    together = engine.loglikelihood(pairs, end=False)
    apart = [value for pair in pairs for value in engine.loglikelihood([pair], end=False)]
    assert together == pytest.approx(apart, rel=1e-5)
    with pytest.raises(UsageError, match="context of 512"):
        engine.loglikelihood([(long, "abc")], end=False)
