"""Short requests with format constraints a program can verify.

Reference: {"constraints": [{"kind": KIND, ...}]}; the answer follows the instruction when all constraints hold.
Kinds: all_upper; all_lower; numbered_list {n}; bullets {n}; json_keys {keys}; ends_with {phrase}; starts_with
{phrase}; word_count {max}; min_words {min}; quoted; no_commas; contains {word, times}; title_brackets;
sentences {n}.
Example: "List 3 nouns connected with pianos. Number them." -> {"constraints": [{"kind": "numbered_list", "n": 3}]}
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from alignmerge.suites.draw import Draw
from alignmerge.suites.instruction_frames import COUNTS, ENDINGS, FRAMES, KEYS, OPENINGS, TIMES, WORDS
from alignmerge.suites.model import Item, Split, Suite
from alignmerge.suites.tables import read_rows

PER_FRAME: dict[Split, int] = {"train": 30, "calibration": 9, "validation": 6, "test": 12}
_PLAIN = {"all_upper", "all_lower", "quoted", "no_commas", "title_brackets"}
_COUNTED: dict[str, Callable[[int], dict[str, Any]]] = {
    "numbered_list": lambda n: {"n": n},
    "bullets": lambda n: {"n": n},
    "sentences": lambda n: {"n": n},
    "word_count": lambda n: {"max": n},
    "min_words": lambda n: {"min": n},
}


def topics(split: Split) -> list[tuple[str, str]]:
    """(category, topic) of a split, categories interleaved."""
    rows = [row for row in read_rows("topics.jsonl") if row["split"] == split]
    longest = max(len(row["things"]) for row in rows)
    return [(row["category"], row["things"][i]) for i in range(longest) for row in rows if i < len(row["things"])]


def _fill(draw: Draw, split: Split, kind: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Values for a frame and the constraints they make."""
    values: dict[str, Any] = {}
    constraints: list[dict[str, Any]] = []
    for part in kind.split("+"):
        row: dict[str, Any] = {"kind": part}
        if part in _COUNTED:
            values["n"] = draw.choice(COUNTS[kind])
            row |= _COUNTED[part](values["n"])
        elif part in ("ends_with", "starts_with"):
            values["phrase"] = draw.choice((ENDINGS if part == "ends_with" else OPENINGS)[split])
            row["phrase"] = values["phrase"]
        elif part == "contains":
            times = draw.integer(1, 2)
            values |= {"word": draw.choice(WORDS[split]), "times": TIMES[times]}
            row |= {"word": values["word"], "times": times}
        elif part == "json_keys":
            keys = draw.sample(KEYS[split], 2)
            values |= {"k1": keys[0], "k2": keys[1]}
            row["keys"] = keys
        else:
            assert part in _PLAIN, part
        constraints.append(row)
    return values, constraints


@cache
def items(split: Split) -> tuple[Item, ...]:
    """The requests of a split, `PER_FRAME` for every frame, over topics no other split has."""
    subjects, out, turn = topics(split), list[Item](), 0
    for kind, frames in FRAMES[split].items():
        for number, frame in enumerate(frames):
            family, seen = f"{split}_{kind}_{number}", set[str]()
            draw = Draw(f"instructions/1/{family}")
            while len(seen) < PER_FRAME[split]:
                category, topic = subjects[turn % len(subjects)]
                turn += 1
                values, constraints = _fill(draw, split, kind)
                prompt = frame.format(t=topic, **values)
                if prompt in seen:
                    continue
                name = f"instructions/{split}/{kind}/{number}/{len(seen):02d}"
                seen.add(prompt)
                out.append(Item(name, prompt, family, category, split, reference={"constraints": constraints}))
    return tuple(out)


SUITE = Suite(
    name="instructions",
    version="1",
    summary="Short requests with format constraints that a program verifies.",
    items=items,
    metrics=("instruction_following_rate", "degeneration_rate"),
    max_new_tokens=40,
    ends=True,
)
