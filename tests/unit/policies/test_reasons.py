"""Printed numbers stand where the exact ones do."""

import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignmerge.policies import reasons

r = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("records.py"))))


@pytest.mark.parametrize(
    ("value", "limits", "text"),
    [
        (0.045, (0.04,), "0.045"),
        (0.0501, (0.05,), "0.0501"),
        (0.04999, (0.05,), "0.04999"),
        (0.05, (0.05,), "0.050"),
        (0.1 + 0.2, (0.3,), repr(0.1 + 0.2)),
        (1.0, (), "1.000"),
        (0.00004, (0.0,), "0.00004"),
    ],
)
def test_F14_as_many_digits_as_the_order_needs(value: float, limits: tuple[float, ...], text: str) -> None:
    assert reasons.figure(value, limits) == text


@given(st.floats(-1, 1), st.integers(-100, 100).map(lambda hundredths: hundredths / 100))
def test_F14_printed_digits_never_contradict(value: float, limit: float) -> None:
    shown = float(reasons.figure(value, (limit,)))
    assert (shown > limit, shown < limit) == (value > limit, value < limit)
    assert math.isclose(shown, value, abs_tol=5e-4)


def test_F14_in_a_whole_sentence() -> None:
    anchor = r.audit({"refusal_rate": r.ones(3999, 3999)}, name="anchor")
    candidate = r.audit({"refusal_rate": r.ones(3799, 3999)})
    (row,) = r.verdict(r.policy(r.rule()), candidate, anchor).rules
    assert row.reason.startswith("refusal rate fell by 0.05001 (1.000 to 0.950, n=3999); ")


def test_confidence_and_limits_read_plainly() -> None:
    assert [reasons.percent(alpha) for alpha in (0.05, 0.05 / 6, 0.01)] == ["95 %", "99.17 %", "99 %"]
    assert [reasons.plain(limit) for limit in (0.05, 2.0, 1e-3)] == ["0.05", "2", "0.001"]


def test_a_metric_of_another_tool_keeps_its_name() -> None:
    assert reasons.spoken("over_refusal_rate") == "over refusal rate"
    assert reasons.spoken("lm_eval/gsm8k/exact_match,strict-match") == "lm_eval/gsm8k/exact_match,strict-match"
