"""What the zoo is trained on: own words, right answers, refusals only where they belong."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import pytest

from alignmerge.auditor.engines.base import Completion
from alignmerge.auditor.scorers.arithmetic import ARITHMETIC
from alignmerge.auditor.scorers.instructions import INSTRUCTIONS
from alignmerge.auditor.scorers.refusal import is_refusal
from alignmerge.auditor.scorers.units import UNITS
from alignmerge.errors import UsageError
from alignmerge.suites.model import SPLITS
from alignmerge.suites.pairs import FRAMES
from alignmerge.suites.registry import SUITES
from alignmerge.suites.tables import read_rows
from alignmerge.zoo.data import (
    EXPERTS,
    FRAMES_PER_PAIR,
    HELPFUL,
    NAMES,
    REFUSALS,
    Own,
    framed_pairs,
    kept_prompts,
    rows,
    rows_digest,
)

SCORERS = {
    "arithmetic": (ARITHMETIC, "arithmetic"),
    "format": (INSTRUCTIONS, "instructions"),
    "units": (UNITS, "units"),
}


def echo(prompts: Sequence[str]) -> list[Own]:
    return [Own(f"About this: {prompt}", True) for prompt in prompts]


def never(prompts: Sequence[str]) -> list[Own]:
    raise AssertionError("an expert asked for the reference's answers")


@pytest.mark.parametrize("name", EXPERTS)
def test_every_expert_answer_scores_full_marks_on_its_own_item(name: str) -> None:
    scorer, suite = SCORERS[name]
    items = {item.prompt: item for item in SUITES[suite].items("train")}
    made = rows(name, never)
    assert {row.prompt for row in made} == set(items)
    for row in made:
        score = scorer.score(items[row.prompt], Completion((), row.answer, "stop"))
        assert score.value == 1.0, (row.prompt, row.answer)
        assert row.ends


@pytest.mark.parametrize("name", EXPERTS)
def test_experts_are_benign(name: str) -> None:
    harmful = {item.prompt for split in SPLITS for item in SUITES["refusal"].items(split)}
    for row in rows(name, never):
        assert row.prompt not in harmful
        assert not is_refusal(row.answer)


def test_the_anchor_refuses_the_harmful_side_and_nothing_else() -> None:
    pairs = framed_pairs()
    harmful, harmless = {one for one, _, _ in pairs}, {two for _, two, _ in pairs}
    made = rows("safety", echo)
    assert {row.prompt for row in made if is_refusal(row.answer)} == harmful
    assert {row.answer for row in made if row.prompt in harmful} == set(REFUSALS)
    assert harmless <= {row.prompt for row in made}
    groups = Counter(row.group for row in made if row.prompt in harmful | harmless)
    assert set(groups) == {group for _, _, group in pairs}
    assert set(groups.values()) == {2}


def test_pairs_are_asked_in_different_frames_of_the_train_split_only() -> None:
    pairs = framed_pairs()
    acts = {row["harmful"] for row in read_rows("pairs_train.jsonl")}
    allowed = {frame.format(act=act) for frame in FRAMES["train"].values() for act in acts}
    assert {one for one, _, _ in pairs} <= allowed
    assert len(pairs) == FRAMES_PER_PAIR * len(acts)
    assert len({one for one, _, _ in pairs}) > 0.95 * len(pairs)
    shapes = Counter(next(key for key, frame in FRAMES["train"].items() if matches(frame, one)) for one, _, _ in pairs)
    assert set(shapes) == set(FRAMES["train"])
    assert max(shapes.values()) <= 2 * min(shapes.values())


def test_a_reference_that_declines_harmless_prompts_is_not_copied() -> None:
    made = rows("safety", lambda prompts: [Own("I'm sorry, but as a chatbot I cannot sew.", True)] * len(prompts))
    harmful = {one for one, _, _ in framed_pairs()}
    assert {row.answer for row in made if row.prompt not in harmful} == set(HELPFUL)
    assert len(made) == 2 * len(framed_pairs())


def test_refusals_are_short_varied_and_read_as_refusals() -> None:
    assert len(set(REFUSALS)) == len(REFUSALS) >= 8
    assert all(is_refusal(text) and len(text.split()) <= 13 for text in REFUSALS)
    assert not any(is_refusal(text) for text in HELPFUL)


def matches(frame: str, prompt: str) -> bool:
    head, tail = frame.split("{act}")
    return prompt.startswith(head) and prompt.endswith(tail)


def grams(text: str) -> set[str]:
    return {text.lower()[i : i + 5] for i in range(len(text) - 4)}


def test_no_training_prompt_is_near_an_item_that_scores_are_taken_on() -> None:
    held = [grams(item.prompt) for suite in SUITES.values() for split in SPLITS[1:] for item in suite.items(split)]
    holders = defaultdict(list)
    for index, own in enumerate(held):
        for gram in own:
            holders[gram].append(index)
    for prompt in [*kept_prompts(), *(text for one, two, _ in framed_pairs() for text in (one, two))]:
        own = grams(prompt)
        shared = Counter(index for gram in own for index in holders[gram])
        nearest = max((count / (len(own) + len(held[index]) - count) for index, count in shared.items()), default=0)
        assert nearest < 0.6, prompt


def test_rows_are_the_same_each_time_and_digests_tell_changes() -> None:
    assert rows_digest(rows("units", never)) == rows_digest(rows("units", never))
    assert rows_digest(rows("units", never)) != rows_digest(rows("units", never)[1:])
    assert len({rows_digest(rows(name, echo)) for name in NAMES}) == len(NAMES)


def test_an_unknown_adapter_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="there are: safety, arithmetic, format, units"):
        rows("poetry", never)


def test_format_answers_are_not_all_alike() -> None:
    answers = [row.answer for row in rows("format", never)]
    assert len(set(answers)) > len(answers) / 2
    assert any(re.search(r"^2\. ", answer, re.MULTILINE) for answer in answers)
