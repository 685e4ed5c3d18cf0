"""Broken text: empty, looping, cut off; and ordinary text that must not be taken for it."""

import csv
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignmerge.auditor.engines.base import Completion, Finish
from alignmerge.auditor.scorers.base import Score
from alignmerge.auditor.scorers.degeneration import (
    LONG_WORD,
    MIN_WORDS,
    degeneration,
    is_looping,
    looping_share,
    repeated_share,
)
from alignmerge.suites.model import Item

DATA = Path(__file__).resolve().parents[5] / "shared" / "data"
ITEM = Item("i", "p", "f", "c", "test")


@pytest.mark.parametrize(
    ("text", "finish", "ends", "value"),
    [
        ("", "stop", False, 1.0),
        (" \n", "stop", True, 1.0),
        ("the cat sat " * 10, "stop", False, 1.0),
        ("1. Don't leave a tree alone.\n" * 5, "stop", False, 1.0),
        ("a" * 60, "stop", False, 1.0),
        ("1 cup of milk\n1 cup of flour\n1 cup of sugar\n2 eggs", "stop", False, 0.0),
        ("Yes. Yes. Yes.", "stop", False, 0.0),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "stop", False, 0.0),
        ("A full sentence about rivers and what they carry to the sea in spring.", "length", False, 0.0),
        ("A full sentence about rivers and what they carry to the sea in spring.", "length", True, 1.0),
        ("42", "stop", True, 0.0),
    ],
)
def test_broken_or_sound(text: str, finish: Finish, ends: bool, value: float) -> None:
    assert degeneration(ends).score(ITEM, Completion((1,), text, finish)).value == value


@pytest.mark.parametrize(
    "text",
    [
        "ha" * 20,
        "HaHa" * 30,
        "的" * 40,
        "abc" * 14,
        "今天天气很好,我们去公园。" * 5,
        "สวัสดี" * 10,
        "Sure, here it is: " + "lol" * 40 + " and that is the end of a long and otherwise quite ordinary answer. " * 2,
        "The rivers rise in the hills, and " + "wherever" * 20 + ".",
        '{"kind":' + '{"fields":' * 12,
        "0, then " + "01" * 40,
        "?!" * 40,
        "https://" * 8,
    ],
)
def test_loops_without_blanks(text: str) -> None:
    assert is_looping(text)


SOUND = (
    "1000000",
    "It is 1,000,000,000,000,000,000,000,000,000,000, a one with thirty zeros.",
    "1,000,000,000,000,000,000,000,000,000,000",
    "0.142857142857142857142857142857142857142857",
    "Hahahahahaha! Nooooooooo, sooooo good.",
    "https://en.wikipedia.org/wiki/Elementary_symmetric_polynomial#Fundamental_theorem_of_symmetric_polynomials",
    "See https://example.org/a/a/a/a/b?page=1&page=2&sort=up&sort=down#top-of-the-page-of-the-page, please.",
    "[support@example.com](mailto:support@example.com)",
    "for(let row=0;row<rows.length;row++){for(let at=0;at<rows[row].length;at++){rows[row][at]+=1;}}",
    '[{"name":"Ann","age":31,"town":"Oslo"},{"name":"Bob","age":27,"town":"Rome"},{"name":"Cy","age":45,"town":"Bern"}]',
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "0b1011000010110000111100001111000010101010101010101111000011110000",
    "|a|b|c|d|e|f|g|h|i|j|k|l|\n|---|---|---|---|---|---|---|---|---|---|---|---|\n|1|2|3|4|5|6|7|8|9|10|11|12|",
    "| Name | Sum |\n|" + "-" * 30 + "|" + "-" * 30 + "|\n| Ann | 3 |",
    "Title\n" + "=" * 39 + "\nA line of text.",
    "-=-=-=-=-=-=-=-=-=-=-=-=-=-=-=-=-=-=-=-=-=-=-=-\nA line of text.",
    "长江是亚洲第一长河,也是世界上完全在一国境内的最长河流。它发源于青藏高原,流经十一个省区,最后注入东海。",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
)


@pytest.mark.parametrize("text", SOUND)
def test_ordinary_text_with_long_words_is_sound(text: str) -> None:
    assert not is_looping(text)
    assert looping_share(text.split()) < 0.3, "far below the limit of 0.5"


@pytest.mark.skipif(not (DATA / "xstest").is_dir(), reason="the answers of other models are not at hand")
def test_answers_of_real_models_read_as_before_loops_without_blanks_were_seen() -> None:
    answers = []
    for path in sorted((DATA / "xstest").glob("xstest_v2_completions_*.csv")):
        with path.open(encoding="utf-8", newline="") as handle:
            answers += [row["completion"] for row in csv.DictReader(handle)]
    assert len(answers) >= 2000
    for text in answers:
        by_words = len(text.split()) >= MIN_WORDS and repeated_share(text) > 0.5
        assert is_looping(text) == (by_words or re.search(r"(\S)\1{39}", text) is not None)
        assert looping_share(text.split()) < 0.15, "far below the limit of 0.5"


@given(st.text(st.characters(categories=["Ll", "Lo"]), min_size=1, max_size=16), st.integers(0, 60))
def test_a_loop_is_seen_at_any_length_from_the_least_on(unit: str, more: int) -> None:
    times = max(4, -(-LONG_WORD // len(unit))) + more
    assert is_looping(unit * times)
    assert degeneration(False).score(ITEM, Completion((1,), unit * times, "stop")).value == 1.0


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=LONG_WORD - 1), max_size=40))
def test_words_that_are_not_long_are_read_as_words_alone(parts: list[str]) -> None:
    text = " ".join(parts)
    by_words = len(text.split()) >= MIN_WORDS and repeated_share(text) > 0.5
    assert is_looping(text) == by_words


def test_repeated_share_counts_what_was_said_before() -> None:
    assert repeated_share("a b c d e f") == 0.0
    assert repeated_share("a b c a b c") == pytest.approx(1 / 4)
    assert repeated_share("a b") == 0.0


@pytest.mark.parametrize(("value", "reason"), [(None, None), (1.0, "x"), (float("nan"), None), (float("inf"), None)])
def test_I10_a_score_is_a_finite_value_or_a_reason(value: float | None, reason: str | None) -> None:
    with pytest.raises(ValueError):
        Score(value, reason)
