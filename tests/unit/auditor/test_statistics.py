"""Intervals and tests for rates, against published numbers, brute force and their own definitions."""

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from alignmerge.auditor import statistics as s

ALPHA = 0.05


def brute_statistic(losses: int, gains: int, n: int, difference: float) -> float:
    """Tango's statistic with the nuisance found by maximising the multinomial likelihood numerically."""
    low, high = max(0.0, -difference), (1.0 - difference) / 2.0

    def loss(q: float) -> float:
        terms = ((losses, q + difference), (gains, q), (n - losses - gains, 1.0 - 2.0 * q - difference))
        return -sum(count * math.log(max(p, 1e-300)) for count, p in terms if count)

    q = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-13}).x
    q = min((low, q, high), key=loss)
    return (losses - gains - n * difference) / math.sqrt(n * (2 * q + difference * (1 - difference)))


@pytest.mark.parametrize(
    ("losses", "gains", "n", "low", "high"),
    [
        (1, 7, 21, -0.5172, -0.0260),  # Bentur et al. 2009 (-0.517 to -0.026 in Fagerland et al. 2014)
        (6, 16, 161, -0.1240, -0.0054),  # Cavo et al. 2012, printed by the R package contingencytables
    ],
)
def test_tango_gives_published_intervals(losses: int, gains: int, n: int, low: float, high: float) -> None:
    interval = s.tango(losses, gains, n)
    assert (round(interval.low, 4), round(interval.high, 4), interval.level) == (low, high, 0.95)


def test_tango_statistic_equals_brute_force_likelihood() -> None:
    for n, losses, gains in [(21, 1, 7), (44, 1, 0), (30, 0, 4), (60, 20, 5), (12, 6, 6), (9, 0, 0)]:
        for difference in (-0.7, -0.3, -0.05, 0.02, 0.2, 0.6):
            expected = brute_statistic(losses, gains, n, difference)
            assert s.tango_statistic(losses, gains, n, difference) == pytest.approx(expected, abs=2e-4), (
                n,
                losses,
                gains,
            )


def test_tango_statistic_at_no_difference_is_mcnemar() -> None:
    assert s.tango_statistic(12, 5, 40, 0.0) == pytest.approx((12 - 5) / math.sqrt(12 + 5))


def test_tango_bounds_solve_the_score_equation() -> None:
    z = stats.norm.ppf(1 - ALPHA)
    for losses, gains, n in [(0, 0, 64), (3, 1, 64), (0, 5, 64), (30, 2, 64), (64, 0, 64), (0, 64, 64), (7, 7, 14)]:
        upper, lower = (s.tango_bound(losses, gains, n, ALPHA, side) for side in ("upper", "lower"))
        if upper < 1 - 1e-9:
            assert s.tango_statistic(losses, gains, n, upper) == pytest.approx(-z, abs=1e-6)
        if lower > -1 + 1e-9:
            assert s.tango_statistic(losses, gains, n, lower) == pytest.approx(z, abs=1e-6)
        assert -1 <= lower <= (losses - gains) / n <= upper <= 1


@pytest.mark.parametrize("n", [1, 64, 300])
def test_tango_has_width_when_no_pair_changes(n: int) -> None:
    z = stats.norm.ppf(1 - ALPHA)
    assert s.tango_bound(0, 0, n, ALPHA, "upper") == pytest.approx(z * z / (n + z * z), abs=1e-9)
    assert s.tango_bound(0, 0, n, ALPHA, "lower") == pytest.approx(-z * z / (n + z * z), abs=1e-9)


def test_tango_at_the_ends() -> None:
    assert s.tango_bound(10, 0, 10, ALPHA, "upper") == pytest.approx(1.0)
    assert s.tango_bound(0, 10, 10, ALPHA, "lower") == pytest.approx(-1.0)
    assert s.tango_statistic(10, 0, 10, 1.0) == 0.0
    assert s.tango_statistic(3, 0, 10, 1.0) == -math.inf
    assert s.tango_statistic(0, 3, 10, -1.0) == math.inf


COUNTS = st.integers(1, 80).flatmap(
    lambda n: st.integers(0, n).flatmap(lambda b: st.tuples(st.just(b), st.integers(0, n - b), st.just(n)))
)


@given(COUNTS, st.sampled_from([0.05, 0.01, 0.2]))
def test_tango_turns_round_with_the_pairs(counts: tuple[int, int, int], alpha: float) -> None:
    losses, gains, n = counts
    mirrored = -s.tango_bound(gains, losses, n, alpha, "lower")
    assert s.tango_bound(losses, gains, n, alpha, "upper") == pytest.approx(mirrored, abs=1e-9)


@pytest.mark.parametrize("side", ["lower", "upper"])
def test_tango_bounds_never_fall_when_a_pair_gets_worse(side: s.Side) -> None:
    for n in (3, 8, 25):
        bounds = {(b, c): s.tango_bound(b, c, n, ALPHA, side) for b in range(n + 1) for c in range(n + 1 - b)}
        for (b, c), bound in bounds.items():
            for worse in ((b + 1, c), (b, c - 1), (b + 1, c - 1)):
                assert bounds.get(worse, 2.0) >= bound - 1e-9, (n, b, c, worse)


@given(COUNTS, st.integers(-900, 900).map(lambda thousandths: thousandths / 1000))
def test_tango_p_value_agrees_with_the_lower_bound(counts: tuple[int, int, int], limit: float) -> None:
    bound = s.tango_bound(*counts, ALPHA, "lower")
    if abs(bound - limit) > 1e-6:
        assert (s.tango_p_value(*counts, limit) < ALPHA) == (bound > limit)


def test_tango_statistic_of_a_vanishing_difference_does_not_underflow() -> None:
    assert s.tango_p_value(0, 0, 1, -2.3e-308) == pytest.approx(0.5)


def test_tango_bound_covers() -> None:
    """At 1,500 draws the one-sided 95 % bound covers at least 93 % and at most 99 % of the time."""
    generator = np.random.default_rng(7)
    for n, p_loss, p_gain in [(64, 0.10, 0.05), (300, 0.05, 0.03), (64, 0.30, 0.10)]:
        draws = generator.multinomial(n, [p_loss, p_gain, 1 - p_loss - p_gain], 1500)
        known = {(b, c): s.tango_bound(b, c, n, ALPHA, "upper") for b, c in {(int(r[0]), int(r[1])) for r in draws}}
        share = np.mean([known[int(b), int(c)] >= p_loss - p_gain for b, c, _ in draws])
        assert 0.93 <= share <= 0.99, (n, p_loss, p_gain, share)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (3, 17), (299, 300), (1, 1)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_equals_scipy(successes: int, n: int, level: float) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    got = s.wilson(successes, n, level)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (got.level, got.method) == (level, "wilson")


def test_rate_p_value_agrees_with_the_wilson_bound() -> None:
    for successes, limit in itertools.product(range(0, 31, 3), (0.05, 0.2, 0.5, 0.9)):
        outside = s.wilson_bound(successes, 30, ALPHA, "lower") > limit
        assert (s.rate_p_value(successes, 30, limit) < ALPHA) == outside


def test_rate_p_value_at_limits_without_variance() -> None:
    assert [s.rate_p_value(k, 10, limit) for k, limit in [(0, 0.0), (1, 0.0), (10, 1.0)]] == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("counts", [(-1, 0, 5), (3, 3, 5), (0, 0, 0), (math.nan, 0, 5), (0, 0, math.inf)])
def test_impossible_counts_are_refused(counts: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match=r"items|item is needed"):
        s.tango_statistic(*counts, 0.1)


@pytest.mark.parametrize("alpha", [0.0, 1.0, math.nan, -0.1])
def test_impossible_confidence_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="inside"):
        s.tango_bound(1, 1, 9, alpha, "upper")


def test_holm_textbook() -> None:
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    assert s.holm(p, 0.05) == {"a", "d"}  # 0.005 <= .05/4, 0.01 <= .05/3, 0.03 > .05/2


def test_holm_stops_at_the_first_that_is_kept() -> None:
    assert s.holm({"a": 0.03, "b": 0.031}, 0.05) == frozenset()
    assert s.holm({"a": 0.025, "b": 0.05}, 0.05) == {"a", "b"}
    assert s.holm({}, 0.05) == frozenset()


def test_holm_never_rejects_nan() -> None:
    assert s.holm({"a": math.nan, "b": 0.001}, 0.05) == {"b"}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_holm_is_between_bonferroni_and_none_whatever_the_order(values: list[float], shuffle: random.Random) -> None:
    p = dict(enumerate(values))
    rows = list(p.items())
    shuffle.shuffle(rows)
    rejected = s.holm(p, ALPHA)
    assert rejected == s.holm(dict(rows), ALPHA)
    assert {key for key, value in p.items() if value <= ALPHA / len(p)} <= rejected
    assert rejected <= {key for key, value in p.items() if value <= ALPHA}
