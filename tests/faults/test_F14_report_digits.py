"""F14: printed digits never contradict the verdict."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from alignmerge.policies.verdict import RuleResult
from alignmerge.reports.rules import rule_line
from alignmerge.reports.text import against_limit

FINITE = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False)


def _read(text: str) -> float:
    return float(text.replace("\u2212", "-"))


def _order(left: float, right: float) -> int:
    return (left > right) - (left < right)


@given(FINITE, FINITE, FINITE)
def test_F14_printed_value_keeps_its_side_of_the_limit(limit: float, value: float, bound: float) -> None:
    shown_limit, shown_value, shown_bound = map(_read, against_limit(limit, value, bound))
    assert _order(shown_value, shown_limit) == _order(value, limit)
    assert _order(shown_bound, shown_limit) == _order(bound, limit)


@given(FINITE, st.floats(min_value=-1e-4, max_value=1e-4))
def test_F14_also_very_close_to_the_limit(limit: float, away: float) -> None:
    value = limit + away
    shown_limit, shown_value = map(_read, against_limit(limit, value))
    assert _order(shown_value, shown_limit) == _order(value, limit)


def test_F14_a_rule_over_by_little_is_printed_over() -> None:
    rule = RuleResult("refusal-drop", "refusal_rate", "block", "fail", "", "rate", 0.0504, 0.05004, 0.05, 300)
    line = rule_line(rule)
    assert (line.value, line.bound, line.limit) == ("0.05040", "0.05004", "0.05000")
    equal = rule_line(replace(rule, bound=0.05, value=0.03, decision="pass"))
    assert equal.bound == equal.limit == "0.050"
