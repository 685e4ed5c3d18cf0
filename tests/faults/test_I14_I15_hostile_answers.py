"""I14: reading an answer takes linear time, whatever it holds. I15: what each way to write a number is read as."""

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from alignmerge.auditor.engines.base import Completion
from alignmerge.auditor.metrics import METRICS
from alignmerge.auditor.scorers.arithmetic import final_number
from alignmerge.auditor.scorers.gsm8k import MATH, flexible, strict
from alignmerge.auditor.scorers.ifeval.verify import KINDS, verdicts
from alignmerge.suites.model import Item, Suite

HOSTILE = {
    "digits": "7" * 1_000_000,
    "stars": "*" * 20_000,
    "starred letters": "*a" * 20_000,
    "think": "<think>" * 20_000,
    "boxed": "\\boxed{" * 5_000,
    "marks": "####" * 20_000,
    "newlines": "\n" * 100_000 + "x",
    "blanks": " " * 200_000 + "x",
    "brackets": "[" * 100_000,
    "angles": "<<" * 50_000,
    "answers": "answer is " * 20_000,
    "sections": "SECTION " * 20_000,
    "p": "p. " * 60_000,
    "commas": "1," * 100_000,
    "dots": "." * 200_000,
    "quotes": '"' * 200_000,
}
SECONDS = 0.1  # for one answer and one metric; quadratic time is hundreds of times that
TRIES = 5  # a busy machine shares its caches, so one slow run says nothing
REFERENCE = {
    "answer": "18",
    "unit": "quarts",
    "constraints": [{"kind": "contains", "word": "a", "times": 1}, {"kind": "sentences", "n": 1}],
}
# Every argument that any kind takes.
ARGUMENTS = {
    "keywords": ["seven", "p"],
    "relation": "at least",
    "keyword": "box",
    "frequency": 3,
    "forbidden_words": ["think", "p"],
    "let_relation": "less than",
    "letter": "x",
    "let_frequency": 2,
    "num_sentences": 3,
    "num_words": 3,
    "num_paragraphs": 2,
    "nth_paragraph": 1,
    "first_word": "x",
    "num_placeholders": 2,
    "postscript_marker": "P.P.S",
    "num_bullets": 2,
    "num_highlights": 2,
    "section_spliter": "SECTION",
    "num_sections": 3,
    "prompt_to_repeat": "p",
    "end_phrase": "p",
    "capital_relation": "at least",
    "capital_frequency": 2,
}
ITEM = Item("a", "p", "f", "c", "test", reference=REFERENCE)
SUITE = Suite("s", "1", "s", lambda split: (ITEM,), (), 8, ends=True)


def spent(run: Callable[[], object], enough: float = 0.0) -> float:
    """Seconds of processor time of the first run that takes less than `enough`, or of the quickest of TRIES."""
    times = []
    for _ in range(TRIES):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
        if times[-1] < enough:
            break
    return min(times)


def reads_in_linear_time(read: Callable[[str], object], text: str, quick: float = SECONDS, most: float = 1.0) -> bool:
    """Whether reading takes less than `quick` seconds; on a slow processor up to `most`, if it grows as the text does.

    An eighth of the text then takes more than a 24th of the time (an eighth if linear, a 64th if quadratic).
    """
    whole = spent(lambda: read(text), quick)
    return whole < quick or whole < min(most, 24 * spent(lambda: read(text[: len(text) // 8])))


def test_I14_quadratic_reading_is_seen() -> None:
    growth = {"quick": 0.0, "most": 60.0}  # growth alone: a quick processor may read either in no time
    assert not reads_in_linear_time(
        lambda text: [text.count("b") for _ in range(len(text) // 8)], "a" * 40_000, **growth
    )
    assert reads_in_linear_time(lambda text: [ord(letter) for letter in text], "a" * 1_000_000, **growth)


@pytest.mark.parametrize("kind", HOSTILE)
def test_I14_every_scorer_reads_hostile_text_in_linear_time(kind: str) -> None:
    for metric in METRICS.values():
        if metric.scorer is None or metric.id.startswith(("prompt_", "instruction_strict", "instruction_loose")):
            continue
        scorer = metric.scorer(SUITE)
        scorer.score(ITEM, Completion((), HOSTILE[kind], "stop"))  # imports

        def read(text: str, scorer: Any = scorer) -> object:
            return scorer.score(ITEM, Completion((), text, "stop"))

        assert reads_in_linear_time(read, HOSTILE[kind]), metric.id


@pytest.mark.parametrize("kind", HOSTILE)
def test_I14_every_instruction_reads_hostile_text_in_linear_time(kind: str) -> None:
    for name in sorted(set(KINDS) - {"language:response_language"}):

        def read(text: str, name: str = name) -> object:
            return verdicts(text, [name], [ARGUMENTS], False)

        assert reads_in_linear_time(read, HOSTILE[kind]), name


def test_I14_language_is_told_from_a_bounded_part() -> None:
    verdicts("warm up the profiles", ["language:response_language"], [{"language": "en"}], False)
    for kind, text in HOSTILE.items():
        seconds = spent(lambda text=text: KINDS["language:response_language"](text, {"language": "en"}), SECONDS)
        assert seconds < SECONDS, kind


NUMBERS = [
    ("1_0", None),
    ("nan", None),
    ("²", None),
    ("½", None),
    ("inf", None),
    ("٤٢", 42),
    ("４２", 42),
    ("1,000", 1000),
    ("1.000,5", None),
    ("1,00", None),
    ("7" * 5_000, None),
    ("-0", 0),
    ("60%", 60),
    ("$42", 42),
    ("−5", -5),
    ("1e3", 3),
    ("0x10", 10),
]


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_I15_the_table_of_number_formats(text: str, value: int | None) -> None:
    expected = None if value is None else Decimal(value)
    assert final_number(text) == expected
    assert flexible(text, False) == expected


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_I15_no_format_raises_anywhere(text: str, value: int | None) -> None:
    strict(f"#### {text}", False)
    for scorer in (metric.scorer(SUITE) for metric in METRICS.values() if metric.scorer is not None):
        scorer.score(ITEM, Completion((), text, "stop"))
    assert MATH.score(ITEM, Completion((), f"#### {text}", "stop")).value in (0.0, None)
