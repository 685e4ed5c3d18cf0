"""Numbers and sums: the defined table, hostile text, and round trips."""

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignmerge.auditor.engines.base import Completion
from alignmerge.auditor.scorers.arithmetic import ARITHMETIC, final_number
from alignmerge.auditor.scorers.numbers import reference_number
from alignmerge.auditor.scorers.units import ALIASES, UNITS, amount
from alignmerge.suites.model import Item

SUM = Item("i", "p", "f", "c", "test", reference={"answer": "1000"})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", "42"),
        ("1,000", "1000"),
        ("1,000.50", "1000.5"),
        ("12,345,678", "12345678"),
        ("1.000,5", None),
        ("1,00", None),
        ("1_0", None),
        ("nan", None),
        ("inf", None),
        ("\u00b2", None),
        ("\u0664\u0662", "42"),
        ("\uff14\uff12", "42"),
        ("-0", "0"),
        ("\u22127", "-7"),
        ("60%", "60"),
        ("$42.", "42"),
        ("= 42", "42"),
        ("5-3", "3"),
        ("9" * 5000, None),
        ("", None),
        ("none", None),
        ("7kg", "7"),
        ("-3.5", "-3.5"),
        ("3 + 4 = 7. So there are 7 in all", "7"),
    ],
)
def test_I15_what_a_final_number_is(text: str, value: str | None) -> None:
    assert final_number(text) == (None if value is None else Decimal(value))


@pytest.mark.parametrize(
    ("text", "cut_off", "value"),
    [
        ("The answer is 6. There were 3 friends.", False, "6"),
        ("The answer is 2 * 3 = 6.", False, "6"),
        ("#### 12", False, "12"),
        (r"Thus \boxed{1,200}", False, "1200"),
        ("Answer: 5\nAnswer: 8", False, "8"),
        ("3 + 4 = 7", True, None),
        ("The answer is 7.", True, "7"),
        ("The answer is 7", True, None),
        ("The answer is 7 apples", True, "7"),
        ("The answer is unknown. 5", False, "5"),
    ],
)
def test_a_stated_answer_comes_before_the_last_number(text: str, cut_off: bool, value: str | None) -> None:
    assert final_number(text, cut_off) == (None if value is None else Decimal(value))


@given(st.integers(-(10**12), 10**12))
def test_every_number_is_read_in_either_notation(value: int) -> None:
    for text in (f"The answer is {value}.", f"so {value:,}", f"we get {value}.0"):
        assert final_number(text) == value


def test_right_wrong_and_unscored() -> None:
    assert ARITHMETIC.score(SUM, Completion((1,), "1,000", "stop")).value == 1.0
    assert ARITHMETIC.score(SUM, Completion((1,), "999", "stop")).value == 0.0
    assert ARITHMETIC.score(SUM, Completion((), "", "stop")).value == 0.0
    for bad in ({}, {"answer": 1000}, {"answer": "many"}, {"answer": "1 or 2"}):
        item = Item("i", "p", "f", "c", "test", reference=bad)
        assert "no number" in str(ARITHMETIC.score(item, Completion((1,), "1000", "stop")).unscored)


def test_I14_hostile_text_takes_linear_time() -> None:
    start = time.perf_counter()
    for text in ("9" * 10**6, "*" * 20_000, "<think>" * 20_000, r"\boxed{" * 5_000, "answer is " * 10**5, "1," * 10**6):
        final_number(text)
        amount(text, "minutes")
    assert time.perf_counter() - start < 1.0


def test_reference_numbers_are_exact_decimal_text() -> None:
    assert reference_number("0.5") == Decimal("0.5")
    assert [reference_number(bad) for bad in (5, None, "5 km", "1e3", "")] == [None] * 5


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("24 quarts", "quarts", "24"),
        ("24 quart.", "quarts", "24"),
        ("6 gallons = **24** quarts", "quarts", "24"),
        ("24 quarts make 6 gallons", "quarts", "24"),
        ("24", "quarts", None),
        ("24 quartz", "quarts", None),
        ("It is 3 feet tall", "feet", "3"),
        ("1 foot", "feet", "1"),
        ("540min", "minutes", "540"),
        ("$24", "dollars", "24"),
        ("24 dollars", "dollars", "24"),
        ("2 boxes", "boxes", "2"),
        ("1 box", "boxes", "1"),
        ("60 minutes per hour, so 540 minutes", "minutes", "540"),
        ("5 m", "minutes", None),
        ("30 miles per hour", "mph", "30"),
    ],
)
def test_an_amount_needs_its_unit(text: str, unit: str, value: str | None) -> None:
    assert amount(text, unit) == (None if value is None else Decimal(value))


def test_no_spelling_stands_for_two_units() -> None:
    every = [(name, unit) for unit, names in ALIASES.items() for name in names]
    assert len({name for name, _ in every}) == len(every)


def test_units_are_within_one_percent() -> None:
    item = Item("i", "p", "f", "c", "test", reference={"answer": "200", "unit": "grams"})
    given_ = {"202 g": 1.0, "198 grams": 1.0, "203 grams": 0.0, "200": 0.0, "200 meters": 0.0}
    assert {text: UNITS.score(item, Completion((1,), text, "stop")).value for text in given_} == given_
    assert UNITS.score(item, Completion((1,), "200 grams of", "length")).value == 0.0
    bare = Item("i", "p", "f", "c", "test", reference={"answer": "200"})
    assert UNITS.score(bare, Completion((1,), "200 g", "stop")).unscored
