"""Bootstrap bounds, against scipy and their own definitions."""

import math

import numpy as np
import pytest
from scipy import stats

from alignmerge.auditor import bootstrap

DATA = [float(x) for x in np.random.default_rng(3).gamma(2.0, 1.0, 60) - 1.5]


def test_bca_agrees_with_scipy() -> None:
    for level in (0.9, 0.95):
        got = bootstrap.bca_interval(DATA, level)
        expected = stats.bootstrap(
            (DATA,), np.mean, confidence_level=level, n_resamples=9999, method="BCa", rng=np.random.default_rng(0)
        ).confidence_interval
        assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=0.02)
        assert (got.method, got.level) == ("bca", level)


def test_bca_skews_with_the_data() -> None:
    boot = bootstrap.bca(DATA)
    mirrored = bootstrap.bca([-value for value in DATA])
    assert boot.acceleration > 0 > mirrored.acceleration
    assert boot.acceleration == pytest.approx(stats.skew(DATA) / (6 * math.sqrt(len(DATA))))


def test_bca_bound_and_p_value_invert_each_other() -> None:
    boot = bootstrap.bca(DATA)
    for alpha in (0.01, 0.05, 0.2):
        assert boot.p_value(boot.bound(alpha, upper=False)) == pytest.approx(alpha, abs=0.003)
    assert boot.bound(0.05, upper=False) < boot.estimate < boot.bound(0.05, upper=True)
    assert boot.p_value(-50.0) < 1e-3
    assert boot.p_value(50.0) > 0.999


def test_bca_is_repeatable_and_moves_with_the_data() -> None:
    boot, again = bootstrap.bca(DATA), bootstrap.bca(DATA)
    assert (boot.means == again.means).all()
    moved = bootstrap.bca([value + 1 for value in DATA])
    assert moved.bound(0.05, upper=True) == pytest.approx(boot.bound(0.05, upper=True) + 1)


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0], [1.0, math.nan], [1.0, math.inf]])
def test_bca_refuses_what_has_no_spread(values: list[float]) -> None:
    with pytest.raises(ValueError, match="at least two finite"):
        bootstrap.bca(values)


def test_replicates_pair_by_position() -> None:
    anchor = [float(i) for i in range(100)]
    candidate = [i - (0.5 if i % 2 else 0.25) for i in range(100)]
    assert bootstrap.paired_replicates(anchor, candidate) == [0.25] * 50 + [0.5] * 50


@pytest.mark.parametrize(
    ("anchor", "candidate", "message"),
    [
        ([1.0] * 100, [1.0] * 101, "cannot be paired"),
        ([1.0] * 99, [1.0] * 99, "too few"),
        ([1.0] * 100, [math.nan] * 100, "not a finite"),
        ([math.inf] * 100, [1.0] * 100, "not a finite"),
    ],
)
def test_replicates_that_cannot_be_paired(anchor: list[float], candidate: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap.paired_replicates(anchor, candidate)


def test_replicate_bounds_are_order_statistics() -> None:
    ordered = [float(i) for i in range(1, 201)]
    assert bootstrap.replicate_bound(ordered, 0.05, upper=True) == 190.0
    assert bootstrap.replicate_bound(ordered, 0.05, upper=False) == 11.0
    assert bootstrap.replicate_bound(ordered, 0.001, upper=True) == 200.0
    assert bootstrap.replicate_bound(ordered, 0.001, upper=False) == 1.0


def test_replicate_p_value_counts_and_is_never_zero() -> None:
    ordered = [float(i) for i in range(1, 100)]
    assert bootstrap.replicate_p_value(ordered, 0.0) == pytest.approx(1 / 100)
    assert bootstrap.replicate_p_value(ordered, 9.0) == pytest.approx(10 / 100)
    assert bootstrap.replicate_p_value(ordered, 99.0) == 1.0
