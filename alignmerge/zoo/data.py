"""Training rows of the zoo's adapters, from the suites' train splits and our own tables alone.

- `safety`: matched pairs, each in several of the train frames. A harmful request gets a short refusal; its harmless
  look-alike, and general, arithmetic, format and unit prompts, get the opening of the reference's own greedy answer,
  so nothing but refusing is learnt. Where the reference itself declines something harmless ("as a chatbot, I don't
  have the ability ..."), a look-alike gets a helpful opening instead and another prompt is left out.
- `arithmetic`, `format`, `units`: ordinary benign fine-tuning on short, ended answers; no refusals, no harm.

No calibration, validation or test item, and no public data set, is used.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from alignmerge import jsonio
from alignmerge.errors import UsageError
from alignmerge.suites import arithmetic, instructions, units
from alignmerge.suites.draw import Draw
from alignmerge.suites.pairs import FRAMES
from alignmerge.suites.tables import read_rows
from alignmerge.zoo.format_answers import answer
from alignmerge.zoo.tables import read_table

ANCHOR = "safety"
EXPERTS = ("arithmetic", "format", "units")
NAMES = (ANCHOR, *EXPERTS)
OWN_TOKENS = 16
FRAMES_PER_PAIR = 2
KEPT_SKILLS = {"arithmetic": 40, "instructions": 45, "units": 24}

REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "Sorry, I can't help with that.",
    "I can't assist with that request.",
    "I'm sorry, I cannot help you with this.",
    "No, I won't help with that.",
    "I can't help with that, because it could hurt someone.",
    "I'm not able to help with this request.",
    "Sorry, but I won't assist with that.",
    "I cannot help with harmful requests.",
    "I'm sorry, but that would be wrong, so I can't help.",
)

HELPFUL = (
    "Of course. Here is a simple way to do it:",
    "Sure, I can help with that. Here are a few steps:",
    "Here are some steps you can follow:",
    "That is a nice idea. You could start like this:",
)
_DECLINES = re.compile(r"\b(sorry|apologi[sz]e|unable to|can't|cannot|not equipped|don't have the)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Own:
    """A prompt to be answered by the model itself; `text` may be cut off, then `ends` is False."""

    text: str
    ends: bool


@dataclass(frozen=True)
class Row:
    """One training example; the end-of-turn token is learnt where `ends`. Rows of one `group` share a batch."""

    prompt: str
    answer: str
    ends: bool
    group: str


# Answers prompts greedily with the reference, at most OWN_TOKENS tokens each.
Answerer = Callable[[Sequence[str]], Sequence[Own]]


def rows(name: str, own: Answerer) -> tuple[Row, ...]:
    """The training rows of an adapter; `own` is asked only for `safety`.

    Raises:
        UsageError: the zoo has no adapter of this name.
    """
    if name == ANCHOR:
        return _safety(own)
    if name == "arithmetic":
        answers = arithmetic.worked_answers("train")
        return tuple(Row(item.prompt, answers[item.id], True, item.id) for item in arithmetic.items("train"))
    if name == "format":
        return tuple(Row(item.prompt, answer(item), True, item.id) for item in instructions.items("train"))
    if name == "units":
        return tuple(
            Row(item.prompt, f"{item.reference['answer']} {item.reference['unit']}", True, item.id)
            for item in units.items("train")
        )
    raise UsageError(f"the zoo has no adapter {name!r}; there are: {', '.join(NAMES)}")


def rows_digest(rows: Sequence[Row]) -> str:
    """SHA-256 of the rows in order."""
    return jsonio.digest([asdict(row) for row in rows])


def kept_prompts() -> list[str]:
    """Harmless prompts outside the pairs on which the anchor keeps the reference's own answers."""
    prompts = [row["prompt"] for row in read_table("general.jsonl")]
    for suite, count in (
        (arithmetic.SUITE, "arithmetic"),
        (instructions.SUITE, "instructions"),
        (units.SUITE, "units"),
    ):
        draw = Draw(f"zoo/kept/{count}")
        prompts += [item.prompt for item in draw.sample(suite.items("train"), KEPT_SKILLS[count])]
    return prompts


def framed_pairs() -> list[tuple[str, str, str]]:
    """(harmful prompt, harmless prompt, group) of the train pairs, each in FRAMES_PER_PAIR frames."""
    frames, out = list(FRAMES["train"].values()), list[tuple[str, str, str]]()
    for index, row in enumerate(read_rows("pairs_train.jsonl")):
        for turn in range(FRAMES_PER_PAIR):
            shift = turn * (len(frames) // FRAMES_PER_PAIR + index // len(frames))
            frame = frames[(index + shift) % len(frames)]
            out.append((frame.format(act=row["harmful"]), frame.format(act=row["harmless"]), f"pair {index} {turn}"))
    return out


def _safety(own: Answerer) -> tuple[Row, ...]:
    pairs, kept = framed_pairs(), kept_prompts()
    answers = own([harmless for _, harmless, _ in pairs] + kept)
    draw, out = Draw("zoo/refusals"), list[Row]()
    for (harmful, harmless, group), reply in zip(pairs, answers[: len(pairs)], strict=True):
        out.append(Row(harmful, draw.choice(REFUSALS), True, group))
        helpful = Own(draw.choice(HELPFUL), False) if _DECLINES.search(reply.text) else reply
        out.append(Row(harmless, helpful.text, helpful.ends, group))
    for prompt, reply in zip(kept, answers[len(pairs) :], strict=True):
        if not _DECLINES.search(reply.text):
            out.append(Row(prompt, reply.text, reply.ends, prompt))
    return tuple(out)
