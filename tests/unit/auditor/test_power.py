"""How many items would decide: each answer decides, and one fewer does not."""

import pytest

from alignmerge.auditor import power
from alignmerge.auditor.statistics import tango_bound, wilson_bound


@pytest.mark.parametrize(("losses", "gains", "n", "limit"), [(3, 1, 64, 0.05), (0, 0, 30, 0.02), (9, 9, 100, 0.05)])
def test_items_needed_to_pass_is_the_smallest(losses: int, gains: int, n: int, limit: float) -> None:
    size = power.items_needed(losses, gains, n, limit, 0.05, 0.01)
    assert size is not None
    assert size > n
    inside = [tango_bound(losses * m / n, gains * m / n, m, 0.05, "upper") <= limit for m in (size - 1, size, 4 * size)]
    assert inside == [False, True, True]


def test_items_needed_to_fail_uses_the_stricter_level() -> None:
    size = power.items_needed(8, 1, 64, 0.05, 0.05, 0.01)
    assert size is not None
    assert tango_bound(8 * size / 64, size / 64, size, 0.01, "lower") > 0.05
    assert tango_bound(8 * (size - 1) / 64, (size - 1) / 64, size - 1, 0.01, "lower") <= 0.05
    looser = power.items_needed(8, 1, 64, 0.05, 0.05, 0.05)
    assert looser is not None
    assert looser < size


def test_no_number_of_items_decides_at_the_limit() -> None:
    assert power.items_needed(16, 0, 64, 0.25, 0.05, 0.05) is None
    assert power.rate_items_needed(16, 64, 0.25, 0.05, 0.05) is None
    assert power.scaled_items_needed(1.0, 2.0, 50, 1.0) is None
    assert power.items_needed(3.2000001, 0, 64, 0.05, 0.05, 0.05) is None  # more than a million


def test_rate_items_needed_both_ways() -> None:
    passing = power.rate_items_needed(1, 50, 0.1, 0.05, 0.05)
    failing = power.rate_items_needed(10, 50, 0.1, 0.05, 0.05)
    assert passing is not None
    assert failing is not None
    assert (
        wilson_bound(passing / 50, passing, 0.05, "upper")
        <= 0.1
        < wilson_bound((passing - 1) / 50, passing - 1, 0.05, "upper")
    )
    assert (
        wilson_bound(failing / 5, failing, 0.05, "lower")
        > 0.1
        >= wilson_bound((failing - 1) / 5, failing - 1, 0.05, "lower")
    )


def test_scaled_items_follow_the_square_root_law() -> None:
    assert power.scaled_items_needed(0.0, 0.2, 50, 0.1) == 200
    assert power.scaled_items_needed(0.5, 0.25, 50, 0.375) == 200
    assert power.scaled_items_needed(0.0, 1.0, 50, 1e-3) is None


def test_a_limit_in_standard_errors_shrinks_too() -> None:
    # -1 with a width of 4 against 2: at s times the square root, -s + 4 <= 2 from s = 2.
    assert power.shrinking_items_needed(-1.0, 3.0, 100, 2.0) == 400
    # +1 with a width of 2 against 2: s - 2 > 2 from s = 4.
    assert power.shrinking_items_needed(1.0, -1.0, 100, 2.0) == 1600
    assert power.shrinking_items_needed(0.0, 1.0, 100, 2.0) is None
    assert power.shrinking_items_needed(1e-9, -1.0, 100, 2.0) is None


def test_what_release_can_decide_with_300_pairs() -> None:
    assert power.largest_passing_loss(300, 0.05, 0.05) == 8
    assert tango_bound(8, 0, 300, 0.05, "upper") <= 0.05 < tango_bound(9, 0, 300, 0.05, "upper")
    failing = power.smallest_failing_loss(300, 0.05, 0.05)
    assert failing is not None
    assert tango_bound(failing, 0, 300, 0.05, "lower") > 0.05 >= tango_bound(failing - 1, 0, 300, 0.05, "lower")
    assert power.largest_passing_loss(20, 0.02, 0.05) is None
    assert power.smallest_failing_loss(5, 1.0, 0.05) is None


def test_pairs_for_power_follows_the_margin() -> None:
    assert power.pairs_for_power(0.05, 0.1, 0.05) == 248
    assert power.pairs_for_power(0.1, 0.1, 0.05) == 62
