"""Text and numbers as a report prints them."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignmerge.reports.text import against_limit, clean, decimals_for, escape_hidden, moment, number, signed

MINUS = "\u2212"


@pytest.mark.parametrize(
    ("value", "decimals", "expected"),
    [(0.0, 3, "0.000"), (-0.0001, 3, "0.000"), (-0.05, 2, f"{MINUS}0.05"), (1.0, 0, "1"), (12.3456, 1, "12.3")],
)
def test_number(value: float, decimals: int, expected: str) -> None:
    assert number(value, decimals) == expected


def test_signed_marks_rises_and_falls_but_not_zero() -> None:
    assert [signed(value) for value in (0.2, -0.2, 0.0, -0.0001)] == ["+0.200", f"{MINUS}0.200", "0.000", "0.000"]


def test_clean_leaves_plain_text_alone() -> None:
    text = "Größe: 3 × 4 = 12, naïve café, 日本語, 🙂\n\tnext"
    assert clean(text) == text


@pytest.mark.parametrize(
    "char", ["\x00", "\x1b", "\r", "\u202e", "\u2066", "\u200b", "\ufeff", "\ud800", "\u2028", "\U000e0041"]
)
def test_hidden_characters_become_escapes(char: str) -> None:
    shown = clean(f"a{char}b")
    assert char not in shown
    assert shown == "a" + char.encode("unicode_escape").decode() + "b"
    shown.encode("utf-8")


@pytest.mark.parametrize("char", ["\u3164", "\u115f", "\u2800", "\U000e0101"])
def test_letters_drawn_as_nothing_become_escapes(char: str) -> None:
    assert char not in escape_hidden(f"x{char}")


def test_a_cut_is_visible_and_names_the_whole() -> None:
    text = "abc\ud800" * 1000
    whole = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    shown = clean(text, 100)
    assert "3,900 more characters" in shown
    assert whole in shown
    assert len(shown) < 400


@given(st.text(alphabet=st.characters(), max_size=60))
def test_cleaning_is_idempotent_and_valid_utf8(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    once.encode("utf-8")


def test_no_more_decimals_than_needed() -> None:
    assert against_limit(0.05, 0.31, None) == ("0.050", "0.310", "not measured")
    assert against_limit(0.05, 0.05004) == ("0.05000", "0.05004")
    assert decimals_for(0.0, 1e-20) is None
    assert against_limit(0.0, 1e-20) == ("0.0", "1e-20")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31 12:00:00 UTC"),
        ("2026-01-31T12:00:00.25+00:00", "2026-01-31 12:00:00 UTC"),
        ("2026-01-31T12:00:00+02:00", "2026-01-31T12:00:00+02:00"),
        ("<b>T12:00:00Z", "<b>T12:00:00Z"),
        ("2026-01-31T12:00:00Z\n", "2026-01-31T12:00:00Z\n"),
    ],
)
def test_times_read_as_people_write_them(written: str, shown: str) -> None:
    assert moment(written) == shown
