"""Which choice an answer names: a place, a letter or a text, and never one of two silently."""

import pytest

from alignmerge.errors import RecordError
from alignmerge.suites.choices import options_of
from alignmerge.suites.definition import Choices
from alignmerge.suites.rows import Row

TEXTS, LETTERS = Choices(column="options"), Choices(column="options", letters=True)


def place(how: Choices, options: list[object], answer: object) -> int:
    found = options_of(how, Row("mine.jsonl:1", 1, {"options": options}, "mine"), "Which?", "c", answer)
    assert found is not None
    return found.answer


@pytest.mark.parametrize(
    ("options", "answer", "wanted"),
    [
        (["x", "y"], 1, 1),
        (["x", "y"], "1", 1),
        (["x", "y"], "B", 1),
        (["x", "y"], "y", 1),
        ([10, 20], 20, 1),
        ([0, 1], 1, 1),  # its place and its text
        (["1", "2", "3", "4"], 2, 2),  # a number among texts is a place
        (["A", "B"], "B", 1),
    ],
)
def test_an_answer_names_one_choice(options: list[object], answer: object, wanted: int) -> None:
    assert place(TEXTS, options, answer) == place(LETTERS, options, answer) == wanted


@pytest.mark.parametrize(
    ("options", "answer"), [([1, 2, 3, 4], 2), (["1", "2", "3", "4"], "2"), (["B", "A"], "A"), (["AB", "A"], "A")]
)
def test_an_answer_that_names_two_choices_is_refused(options: list[object], answer: object) -> None:
    with pytest.raises(RecordError, match=r"mine\.jsonl:1: the answer '.' names two choices, .*; write"):
        place(TEXTS, options, answer)


@pytest.mark.parametrize(
    ("options", "answer", "wanted"),
    [
        (["0", "2", "1", "3"], "1", 1),  # a row of MMLU
        (["0", "2", "1", "3"], 1, 1),
        (["AB", "A", "B", "O"], "A", 0),
        (["8", "2", "24", "120"], "24", 2),
    ],
)
def test_where_the_choices_are_letters_a_place_or_letter_goes_before_a_text(
    options: list[object], answer: object, wanted: int
) -> None:
    assert place(LETTERS, options, answer) == wanted
