"""Broken text: empty, looping, cut off; and ordinary text that must not be taken for it."""

import pytest

from alignmerge.auditor.engines.base import Completion, Finish
from alignmerge.auditor.scorers.base import Score
from alignmerge.auditor.scorers.degeneration import degeneration, repeated_share
from alignmerge.suites.model import Item

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


def test_repeated_share_counts_what_was_said_before() -> None:
    assert repeated_share("a b c d e f") == 0.0
    assert repeated_share("a b c a b c") == pytest.approx(1 / 4)
    assert repeated_share("a b") == 0.0


@pytest.mark.parametrize(("value", "reason"), [(None, None), (1.0, "x"), (float("nan"), None), (float("inf"), None)])
def test_I10_a_score_is_a_finite_value_or_a_reason(value: float | None, reason: str | None) -> None:
    with pytest.raises(ValueError):
        Score(value, reason)
