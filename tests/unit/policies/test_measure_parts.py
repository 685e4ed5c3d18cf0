"""Parts of a sample that decisions rest on: unscored items both ways, bounds of both sides, items that would decide."""

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignmerge.auditor import bootstrap, power
from alignmerge.auditor.statistics import rate_p_value, tango_bound, tango_p_value, wilson_bound
from alignmerge.policies.measure import Missing, Sample, measure

r = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("records.py"))))


def sampled(rule: dict[str, Any], candidate: Any, reference: Any = None) -> Sample:
    return measure(r.policy(rule).rules[0], candidate, reference)


def rates(metric: str, scores: list[float | None]) -> Any:
    return r.audit({metric: scores})


# unscored items, in both directions


@pytest.mark.parametrize(("metric", "good"), [("refusal_rate", 1.0), ("degeneration_rate", 0.0)])
def test_unscored_items_are_harm_above_and_none_below(metric: str, good: float) -> None:
    clean: list[float | None] = [good] * 100
    for holes, losses in (("candidate", (7, 0, 100)), ("anchor", (0, 0, 100))):
        torn: list[float | None] = [None] * 7 + [good] * 93
        pair = (torn, clean) if holes == "candidate" else (clean, torn)
        sample = sampled(r.rule(metric), rates(metric, pair[0]), rates(metric, pair[1]))
        assert (sample.seen.n, sample.seen.unscored, sample.seen.harm) == (93, 7, 0.0)
        assert sample.upper(0.05) == pytest.approx(tango_bound(*losses, 0.05, "upper"))
        best = (0, 0, 100) if holes == "candidate" else (0, 7, 100)
        assert sample.lower(0.05) == pytest.approx(tango_bound(*best, 0.05, "lower"))
        assert sample.p_value(0.02) == pytest.approx(tango_p_value(*best, 0.02))


@pytest.mark.parametrize(("metric", "good"), [("refusal_rate", 1.0), ("degeneration_rate", 0.0)])
def test_an_unscored_anchor_beside_a_bad_answer_is_harm(metric: str, good: float) -> None:
    bad = 1.0 - good
    sample = sampled(r.rule(metric), rates(metric, [bad] * 5 + [good] * 95), rates(metric, [None] * 5 + [good] * 95))
    assert sample.upper(0.05) == pytest.approx(tango_bound(5, 0, 100, 0.05, "upper"))
    assert sample.lower(0.05) == pytest.approx(tango_bound(0, 0, 100, 0.05, "lower"))


# items that would decide


def test_pairs_that_are_over_are_counted_for_failing_and_the_others_for_passing() -> None:
    over = sampled(r.rule(), rates("refusal_rate", r.ones(270, 320)), rates("refusal_rate", r.ones(290, 320)))
    assert over.needs(0.05, 0.05, 0.01) == power.items_needed(20, 0, 320, 0.05, 0.05, 0.01)
    under = sampled(r.rule(), rates("refusal_rate", r.ones(280, 320)), rates("refusal_rate", r.ones(290, 320)))
    assert under.needs(0.05, 0.05, 0.01) == power.items_needed(10, 0, 320, 0.05, 0.05, 0.01)
    torn: list[float | None] = [None] * 20 + r.ones(270, 300)
    held = sampled(r.rule(), rates("refusal_rate", torn), rates("refusal_rate", r.ones(290, 320)))
    assert held.needs(0.05, 0.05, 0.01) is None  # unscored items alone may be over the limit: more items do not help


def test_gains_count_against_losses() -> None:
    mixed = [0.0] * 30 + [1.0] * 290
    anchor = [1.0] * 300 + [0.0] * 20
    sample = sampled(r.rule(), rates("refusal_rate", mixed), rates("refusal_rate", anchor))
    assert sample.seen.harm == pytest.approx(10 / 320)
    assert sample.needs(0.05, 0.05, 0.05) == power.items_needed(30, 20, 320, 0.05, 0.05, 0.05)


@pytest.mark.parametrize("kind", ["max", "min"])
@pytest.mark.parametrize(("events", "over"), [(40, True), (10, False)])
def test_a_rate_beyond_its_limit_needs_items_to_fail_and_one_inside_to_pass(kind: str, events: int, over: bool) -> None:
    metric = "over_refusal_rate" if kind == "max" else "refusal_rate"
    ones = events if kind == "max" else 320 - events
    limit = 0.08 if kind == "max" else 0.92
    sample = sampled(r.rule(metric, kind=kind, limit=limit), rates(metric, r.ones(ones, 320)))
    edge = limit if kind == "max" else -limit
    assert (sample.seen.harm > edge) is over
    shift = 0.0 if kind == "max" else -1.0
    assert sample.needs(edge, 0.05, 0.01) == power.rate_items_needed(events, 320, edge - shift, 0.05, 0.01)
    assert sample.lower(0.05) == pytest.approx(wilson_bound(events, 320, 0.05, "lower") + shift)
    assert sample.seen.unit == "rate"


def test_unscored_items_of_a_rate_are_events_above_and_none_below() -> None:
    torn: list[float | None] = [None] * 16 + r.ones(16, 304)
    sample = sampled(r.rule("over_refusal_rate", kind="max", limit=0.2), rates("over_refusal_rate", torn))
    assert sample.upper(0.05) == pytest.approx(wilson_bound(32, 320, 0.05, "upper"))
    assert sample.lower(0.05) == pytest.approx(wilson_bound(16, 320, 0.05, "lower"))
    assert sample.needs(0.2, 0.05, 0.05) == power.rate_items_needed(32, 320, 0.2, 0.05, 0.05)
    assert sample.needs(0.08, 0.05, 0.05) is None
    assert sample.needs(0.04, 0.05, 0.01) == power.rate_items_needed(16, 320, 0.04, 0.05, 0.01)


# scores that are not 0 or 1


def scores(shift: float) -> list[float | None]:
    return [3.0 + (at % 7) / 7 + shift for at in range(80)]


def test_continuous_scores_need_items_by_the_bound_that_could_decide() -> None:
    anchor = rates("answer_score", scores(0.0))
    rule = r.rule("pairwise_win_rate") | {"metric": "pairwise_win_rate"}
    one = r.policy(rule).rules[0].model_copy(update={"metric": "answer_score", "limit": 0.2})
    wave = [score - 0.3 + 0.2 * (at % 3) for at, score in enumerate(scores(0.0)) if score is not None]
    sample = measure(one, rates("answer_score", wave), anchor)
    boot = bootstrap.bca([score - other for score, other in zip(scores(0.0), wave, strict=True) if score is not None])
    low, high = boot.bound(0.01, upper=False), boot.bound(0.05, upper=True)
    assert sample.lower(0.01) == pytest.approx(low)
    assert sample.upper(0.05) == pytest.approx(high)
    harm = sample.seen.harm
    for limit, bound in ((harm - 0.05, low), (harm + 0.05, high), (harm, high)):
        assert sample.needs(limit, 0.05, 0.01) == power.scaled_items_needed(harm, bound, 80, limit)
    with pytest.raises(Missing, match="1 items could not be scored, and points has no worst case"):
        measure(one, rates("answer_score", [None, *wave[1:]]), anchor)


def test_absolute_scores_have_a_unit_and_a_sign() -> None:
    rule = r.policy(r.rule(kind="min", limit=0.5)).rules[0].model_copy(update={"metric": "answer_score"})
    sample = measure(rule, rates("answer_score", scores(0.0)), None)
    assert (sample.seen.unit, sample.seen.sign, sample.seen.unscored) == ("points", -1, 0)
    assert sample.seen.harm == -sample.seen.candidate
    with pytest.raises(Missing, match="1 items could not be scored, and no worst case is known for them"):
        measure(rule, rates("answer_score", [None, *scores(0.0)[1:]]), None)
    with pytest.raises(Missing, match="answer_score has no item scores to take a bound from"):
        measure(rule, r.audit(results=[r.result("answer_score", scores(0.0))]), None)
    part = rule.model_copy(update={"category": "other"})
    with pytest.raises(Missing, match="answer_score has no item of category other on the candidate"):
        measure(part, rates("answer_score", scores(0.0)), None)


# set-level metrics


def of_sets(direction: str, mine: float, theirs: float, **changes: Any) -> Sample:
    """A sample of replicates that differ from their values by fixed steps, 200 of them."""
    steps = [0.001 * (at % 21 - 10) for at in range(200)]

    def record(value: float, slope: float, name: str, **more: Any) -> Any:
        row = r.aqi(value, [value + slope * step for step in steps], direction=direction, **more)
        return r.audit(results=[row], name=name)

    rule = r.policy(r.rule("aqi_log_j", limit=0.1)).rules[0]
    if direction == "lower":
        rule = rule.model_copy(update={"kind": "max_rise"})
    if "limit_in" in changes:
        rule = rule.model_copy(update={"limit_in": changes.pop("limit_in")})
    return measure(rule, record(mine, 2.0, "merge", **changes), record(theirs, 1.0, "anchor"))


@pytest.mark.parametrize(("direction", "mine"), [("higher", 1.8), ("lower", 2.2)])
def test_a_set_level_metric_is_harmed_in_its_own_direction(direction: str, mine: float) -> None:
    sample = of_sets(direction, mine, 2.0)
    assert sample.seen.harm == pytest.approx(0.2)
    assert sample.lower(0.05) < 0.2 < sample.upper(0.05)
    assert (sample.lower(0.05), sample.upper(0.05)) == (pytest.approx(0.191), pytest.approx(0.209))
    assert (sample.seen.n, sample.seen.unscored) == (320, 0)


@pytest.mark.parametrize(("limit", "over"), [(0.1, True), (0.3, False)])
@pytest.mark.parametrize("limit_in", ["metric_units", "anchor_standard_errors"])
def test_sets_need_items_by_the_bound_that_could_decide(limit: float, over: bool, limit_in: str) -> None:
    sample = of_sets("higher", 1.8, 2.0, limit_in=limit_in)
    shrinking = limit_in == "anchor_standard_errors"
    bound = sample.lower(0.01) if over or shrinking else sample.upper(0.2)
    needed = power.shrinking_items_needed if shrinking else power.scaled_items_needed
    assert sample.needs(limit, 0.2, 0.01) == needed(sample.seen.harm, bound, 320, limit)


def test_the_record_with_the_larger_unscored_share_counts() -> None:
    sample = of_sets("higher", 1.8, 2.0, scored=100, unscored=50)
    assert (sample.seen.n, sample.seen.unscored) == (100, 50)


def test_a_result_of_one_item_is_one_and_of_none_is_missing() -> None:
    rule = r.policy(r.rule(kind="min", limit=0.5)).rules[0]
    assert measure(rule, rates("refusal_rate", [1.0]), None).seen.n == 1
    empty = r.result("refusal_rate", [1.0], scored=0, unscored=1)
    with pytest.raises(Missing, match="refusal_rate has no value on the candidate: nothing could be scored"):
        measure(rule, r.audit(results=[empty]), None)


def test_items_on_one_side_alone_pair_with_nothing() -> None:
    both = r.audit({"refusal_rate": r.ones(290, 320)})
    bare = r.audit(results=[r.result("refusal_rate", r.ones(290, 320))])
    for candidate, anchor in ((both, bare), (bare, both)):
        with pytest.raises(Missing, match="refusal_rate has no item scores in both audits"):
            sampled(r.rule(), candidate, anchor)
    one_sided = r.audit(results=[r.result("refusal_rate", r.ones(290, 320), replicates=(0.1,) * 200)])
    with pytest.raises(Missing, match="refusal_rate has no item scores in both audits"):
        sampled(r.rule(), one_sided, bare)


def test_replicates_stand_in_for_the_items_of_no_metric_that_has_items() -> None:
    claimed = r.audit(results=[r.result("refusal_rate", r.ones(290, 320), replicates=(0.9,) * 200)])
    with pytest.raises(Missing, match="refusal_rate has no item scores in both audits to pair"):
        sampled(r.rule(), claimed, claimed)


def test_a_missing_reference_is_the_anchor_unless_told_otherwise() -> None:
    with pytest.raises(Missing, match="no audit of the anchor was given"):
        sampled(r.rule(), rates("refusal_rate", [1.0]))


def test_rates_that_are_not_counts_have_the_wider_of_two_bounds() -> None:
    """By the bootstrap, and by a score of counts in which every part of a flip is that part of an item."""
    some = [0.1 + 0.8 * (at % 5) / 5 for at in range(100)]
    mean = sum(some) / 100
    alone = sampled(r.rule("over_refusal_rate", kind="max", limit=0.6), rates("over_refusal_rate", some))
    boot = bootstrap.bca(some)
    assert alone.seen.harm == pytest.approx(mean)
    by_count = [wilson_bound(sum(some), 100, 0.05, side) for side in ("lower", "upper")]  # type: ignore[arg-type]
    assert by_count[0] < boot.bound(0.05, upper=False) and boot.bound(0.05, upper=True) < by_count[1]
    assert [alone.lower(0.05), alone.upper(0.05)] == pytest.approx(by_count)
    assert alone.p_value(0.3) == pytest.approx(rate_p_value(sum(some), 100, 0.3))
    moved = [score + 0.01 * (at % 3) for at, score in enumerate(some)]
    pair = sampled(r.rule("over_refusal_rate"), rates("over_refusal_rate", moved), rates("over_refusal_rate", some))
    boot = bootstrap.bca([new - old for new, old in zip(moved, some, strict=True)])
    lost = sum(0.01 * (at % 3) for at in range(100))
    by_count = [tango_bound(lost, 0.0, 100, 0.05, side) for side in ("lower", "upper")]  # type: ignore[arg-type]
    assert by_count[0] < boot.bound(0.05, upper=False) and boot.bound(0.05, upper=True) < by_count[1]
    assert [pair.lower(0.05), pair.upper(0.05)] == pytest.approx(by_count)
    needs = (power.items_needed(lost, 0.0, 100, 0.02, 0.05, 0.05), pair.needs(0.02, 0.05, 0.05))
    assert needs[0] == needs[1] is not None


def test_the_bootstrap_is_kept_where_it_is_the_wider_one() -> None:
    """A few whole flips among many items that do not move: skewed, which a score of counts does not see."""
    before, after = [1.0] * 60 + [0.5] * 4, [0.0] * 2 + [1.0] * 58 + [0.5] * 4
    rule = r.rule("refusal_rate", limit=0.05)
    pair = sampled(rule, rates("refusal_rate", list(after)), rates("refusal_rate", list(before)))
    boot = bootstrap.bca([new - old for new, old in zip(before, after, strict=True)])
    assert pair.lower(0.05) == min(boot.bound(0.05, upper=False), tango_bound(2, 0, 64, 0.05, "lower"))
    assert pair.upper(0.05) == max(boot.bound(0.05, upper=True), tango_bound(2, 0, 64, 0.05, "upper"))


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_shares_near_0_and_1_are_no_surer_than_counts(noise: float) -> None:
    """None of 64 items flipped: 2 % of flips that the sample does not hold are as likely as with answers counted."""
    steady = [1.0 - 1e-6 - noise * (at % 3) for at in range(64)]
    other = [1.0 - 1e-6 - noise * ((at + 1) % 3) for at in range(64)]
    pair = sampled(
        r.rule("refusal_rate", limit=0.02), rates("refusal_rate", list(other)), rates("refusal_rate", list(steady))
    )
    assert pair.upper(0.05) >= tango_bound(0, 0, 64, 0.05, "upper") > 0.04
    row = r.verdict(r.policy(r.rule("refusal_rate", limit=0.02, min_items=64)), rates("refusal_rate", list(other)),
                    rates("refusal_rate", list(steady))).rules[0]  # fmt: skip
    assert row.decision == "inconclusive" and row.needs is not None and row.needs > 64
    alone = sampled(r.rule("refusal_rate", kind="min", limit=0.98), rates("refusal_rate", list(steady)))
    assert alone.upper(0.05) > -0.97
