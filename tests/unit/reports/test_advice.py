"""What the verdict's cards say of direction, margin, cause and the next step."""

import re
from dataclasses import replace
from typing import Any

import pytest

from alignmerge.auditor.power import largest_passing_loss
from alignmerge.policies.reasons import figure
from alignmerge.policies.verdict import RuleResult
from alignmerge.reports.advice import allowed, cause, change, margin, next_step, remark, side, sure
from alignmerge.reports.model import ReportInput
from alignmerge.reports.rules import rule_line


def rule(decision: Any, value: float | None, bound: float | None, **more: Any) -> RuleResult:
    row = RuleResult(
        "refusal-drop", "refusal_rate", "block", decision, "why", "rate", value, bound, 0.05, 300, 0.5, 0.6
    )
    return replace(row, **more)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (rule("fail", 0.31, 0.22), "worse than the anchor by 0.310, with confidence worse by at least 0.220"),
        (rule("pass", -0.02, 0.03), "better than the anchor by 0.020, with confidence worse by at most 0.030"),
        (rule("pass", -0.09, -0.04), "better than the anchor by 0.090, with confidence better by at least 0.040"),
        (rule("inconclusive", 0.0, 0.07), "the same as the anchor, with confidence worse by at most 0.070"),
        (rule("fail", 0.1, 0.06, against="best_expert"), "worse than the best expert by 0.100"),
        (rule("inconclusive", 0.05001, 0.07), "worse than the anchor by 0.05001"),
    ],
)
def test_direction_is_said_in_words(row: RuleResult, words: str) -> None:
    assert f"{change(row)}, {sure(row)}".startswith(words)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (rule("pass", 0.01, 0.04), "inside the limit by 0.040 as measured, by at least 0.010 with confidence"),
        (rule("fail", 0.31, 0.22), "past the limit by 0.260 as measured, by at least 0.170 with confidence"),
        (rule("inconclusive", 0.03, 0.09), "inside the limit as measured, at worst over it by 0.040"),
        (rule("inconclusive", 0.08, 0.12), "over the limit by 0.030 as measured, at worst over it by 0.070"),
        (rule("inconclusive", 0.01, 0.02), "inside the limit as measured, inside it even at worst"),
        (rule("inconclusive", 0.06, 0.04), "over the limit by 0.010 as measured, inside it even at worst"),
        (rule("inconclusive", None, None), ""),
        (rule("pass", 0.01, 0.05), "inside the limit by 0.040 as measured, by at least 0.000 with"),
        (rule("pass", 0.01, 0.01, estimate=True), "inside the limit by 0.040 as measured"),
    ],
)
def test_margin_is_counted_from_the_bound_that_decided(row: RuleResult, words: str) -> None:
    assert margin(row).startswith(words)
    assert bool(margin(row)) == bool(words)


def entry_with(report: ReportInput, decision: Any, *rows: RuleResult) -> Any:
    entry = next(one for one in report.merges if one.label == "AlignMerge")
    assert entry.verdict is not None
    suites = tuple(replace(suite, of=5000) for suite in entry.audit.suites)
    verdict = replace(entry.verdict, decision=decision, rules=rows)
    return replace(entry, audit=replace(entry.audit, suites=suites), verdict=verdict, also=(), blame=None)


def test_a_failure_is_not_sent_for_more_items(report: ReportInput) -> None:
    entry = entry_with(report, "FAIL", rule("fail", 0.31, 0.22))
    assert "refusal-drop must come back inside" in next_step(entry)
    assert "Asking this merge more items will not help" in next_step(entry)
    assert "not measured in this run" in cause(entry)


def test_the_confidence_is_the_one_that_the_rule_was_decided_with() -> None:
    failed = rule("fail", 0.31, 0.22, reason="it fell by 0.31; with 98.75 % confidence it fell by at least 0.22")
    assert sure(failed) == "with 98.75 % confidence worse by at least 0.220"
    assert margin(failed).endswith("by at least 0.170 with 98.75 % confidence")
    assert sure(rule("fail", 0.31, 0.22)) == "with confidence worse by at least 0.220"


@pytest.mark.parametrize(
    ("row", "word"),
    [
        (rule("fail", 0.31, 0.22), "at least"),
        (rule("warn", 0.31, 0.22), "at least"),
        (rule("pass", 0.01, 0.04), "at most"),
        (rule("inconclusive", 0.03, 0.09), "at most"),
        (rule("pass", 0.9, 0.85, anchor=None), "at least"),
        (rule("fail", 0.3, 0.4, anchor=None), "at most"),
        (rule("pass", 0.9, 0.9, anchor=None), ""),
        (rule("pass", 0.01, 0.01, estimate=True), ""),
        (rule("inconclusive", None, None), ""),
    ],
)
def test_a_bound_says_from_which_side_it_bounds(row: RuleResult, word: str) -> None:
    assert side(row) == word
    line = rule_line(row)
    assert line.bounded == f"{word} {line.bound}".strip() and f"bound {line.bounded}," in line.numbers


def test_an_undecided_rule_says_that_the_harm_may_be_within_the_limit_too() -> None:
    why = "it fell; with 95 % confidence it fell by at most 0.12; about 92 items would decide"
    over = margin(rule("inconclusive", 0.08, 0.12, reason=why, n=24, needs=92))
    assert "at worst over it by 0.070 (95 % confidence), but it may also be within the limit; 24 items" in over
    assert "24 items are too few, about 92 in all would decide if the" in over
    inside = margin(rule("inconclusive", 0.03, 0.12, reason=why))
    assert "may also" not in inside and inside.startswith("inside the limit as measured")
    # Too few items to look at a bound at all: nothing is known of the other side.
    few = margin(rule("inconclusive", 0.08, 0.12, reason="only 9 items; the policy wants at least 20", n=9, needs=20))
    assert few.endswith("9 items are too few, the policy wants at least 20") and "may also" not in few


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (rule("pass", 0.0, 0.02, anchor=0.04), True),
        (rule("pass", 0.0, 0.02, anchor=0.05), True),
        (rule("pass", 0.0, 0.02, anchor=0.06), False),
        (rule("pass", 0.0, 0.02, anchor=0.04, metric="over_refusal_rate"), False),  # may rise
        (rule("pass", 0.0, 0.02, anchor=0.04, unit="log ratio"), False),
        (rule("pass", 0.0, 0.02, anchor=0.04, against="root"), False),
        (rule("pass", 0.9, 0.85, anchor=None), False),
        (rule("pass", 0.0, 0.02, anchor=0.04, metric="unknown"), False),
    ],
)
def test_a_rule_that_cannot_fail_says_so(row: RuleResult, said: bool) -> None:
    rate = figure(row.anchor, (row.limit,)) if row.anchor is not None else ""
    words = f"cannot fail: the anchor's own rate of {rate} cannot fall by more than the limit"
    assert remark(row) == (words if said else "")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (rule("pass", 0.0, 0.02), "allows a rate down to 0.550"),
        (rule("fail", 0.3, 0.2, anchor=0.04), "allows a rate down to 0.000"),
        (rule("pass", 0.0, 0.02, metric="over_refusal_rate"), "allows a rate up to 0.650"),
        (rule("pass", 0.0, 0.02, metric="over_refusal_rate", anchor=0.98), "allows a rate up to 1.000"),
        (rule("pass", 0.0, 0.02, unit="log ratio"), ""),
        (rule("pass", 0.0, 0.02, against="root"), ""),
        (rule("pass", 0.9, 0.85, anchor=None), ""),
        (rule("pass", 0.0, 0.02, metric="unknown"), ""),
    ],
)
def test_a_limit_on_a_change_says_which_rate_it_allows(row: RuleResult, words: str) -> None:
    assert allowed(row) == words == rule_line(row).allowed


def test_a_failure_names_the_items_that_can_pass_at_all(report: ReportInput) -> None:
    failed = next_step(entry_with(report, "FAIL", rule("fail", 0.31, 0.1, limit=0.02, n=24)))
    found = re.search(r"can pass no merge, .* ask the next one at least (\d+) items for refusal-drop \(95 %", failed)
    assert found is not None
    assert largest_passing_loss(int(found[1]), 0.02, 0.05) == 0
    assert largest_passing_loss(int(found[1]) - 1, 0.02, 0.05) is None
    for enough in (rule("fail", 0.31, 0.1, limit=0.02), rule("fail", 0.31, 0.1, limit=0.02, n=24, unit="log ratio")):
        assert "can pass no merge" not in next_step(entry_with(report, "FAIL", enough))


def test_an_undecided_merge_is_told_how_many_items_and_for_which_rule(report: ReportInput) -> None:
    near = rule("inconclusive", 0.03, 0.09, needs=900)
    over = rule("inconclusive", 0.08, 0.12, needs=1200, rule="reasoning-drop")
    assert next_step(entry_with(report, "INCONCLUSIVE", near)) == (
        "audit again with about 900 items in all for refusal-drop "
        "(the audit's --limit N asks N items of a suite; without it, all)"
    )
    both = next_step(entry_with(report, "INCONCLUSIVE", near, over))
    assert "about 900 items in all for refusal-drop, about 1,200 items in all for reasoning-drop" in both
    assert both.startswith("change the merge first, for 1 rule is over the limit as measured and a FAIL is to be")
    assert both.index("merge --fit") < both.index("; then audit again")
    assert both.endswith(", should its rates still be those of this merge")
    wanted = replace(over, reason="only 9 items; the policy wants at least 1200")
    assert "should its rates" not in next_step(entry_with(report, "INCONCLUSIVE", wanted))
    nothing = next_step(entry_with(report, "INCONCLUSIVE", rule("inconclusive", None, None)))
    assert nothing == "supply what the reasons above say is missing, then decide again"


def test_a_pass_says_whether_the_drift_was_attributed_and_names_the_policies_still_open(report: ReportInput) -> None:
    entry = next(one for one in report.merges if one.label == "AlignMerge")
    assert cause(entry).startswith("not measured in this run")
    assert cause(replace(entry, verdict=None)) == ""
    blamed = next(one for one in report.merges if one.label == "TIES").blame
    assert cause(replace(entry, blame=blamed)).startswith("mostly expert units")
    assert next_step(entry) == (
        "no rule of demo asks for more; whether its limits are right is not measured here; release would still need "
        "more, see below"
    )


def test_what_to_try_names_the_expert_that_the_cause_names(report: ReportInput) -> None:
    entry = next(one for one in report.merges if one.label == "TIES")
    assert entry.blame is not None
    failed = replace(entry_with(report, "FAIL", rule("fail", 0.31, 0.22)), blame=entry.blame)
    assert cause(failed).startswith("mostly expert units (most of it in layers 21-26); this is how far")
    assert "not which expert lost what a rule counts; no interval is known for the shares" in cause(failed)
    assert "inside; give expert units less weight, or leave it out in layers 21-26, or let" in next_step(failed)


def test_a_method_that_spends_most_is_not_called_an_expert(report: ReportInput) -> None:
    entry = next(one for one in report.merges if one.label == "TIES")
    assert entry.blame is not None
    cells = [
        cell.model_copy(update={"contributor": name, "layer": layer, "share": share})
        for cell in entry.blame.finite.cells[:1]
        for name, layer, share in (("method", 3, 0.4), ("format", 2, 0.35), ("units", 9, 0.25))
    ]
    finite = entry.blame.finite.model_copy(update={"cells": tuple(cells)})
    blame = entry.blame.model_copy(update={"finite": finite})
    failed = replace(entry_with(report, "FAIL", rule("fail", 0.31, 0.22)), blame=blame)
    assert cause(failed).startswith("40 % of the drift by the method itself, then 35 % by expert format; this")
    assert "try another method or a smaller scale, or give expert format less weight, or let" in next_step(failed)


def test_an_undecided_merge_that_is_over_is_told_what_to_change(report: ReportInput) -> None:
    entry = next(one for one in report.merges if one.label == "TIES")
    over, near = (rule("inconclusive", value, 0.12, needs=900) for value in (0.08, 0.03))
    doubtful = replace(entry_with(report, "INCONCLUSIVE", over), blame=entry.blame)
    assert "expected: give expert units less weight, or leave it out in layers 21-26, or let" in next_step(doubtful)
    inside = replace(entry_with(report, "INCONCLUSIVE", near), blame=entry.blame)
    assert "less weight" not in next_step(inside)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (rule("fail", 0.797, 0.89, anchor=None, limit=0.98), "measured 0.797, with confidence at most 0.890"),
        (rule("pass", 0.9, 0.85, anchor=None, limit=0.8), "measured 0.900, with confidence at least 0.850"),
        (rule("pass", 0.9, 0.9, anchor=None, limit=0.8, estimate=True), "measured 0.900, "),
    ],
)
def test_a_value_is_said_with_the_side_of_its_bound(row: RuleResult, words: str) -> None:
    assert f"{change(row)}, {sure(row)}" == words


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (rule("fail", 0.7, 0.8, anchor=None, limit=0.9), "short of the limit by 0.200 as measured, by at least 0.100"),
        (rule("pass", 0.95, 0.92, anchor=None, limit=0.9), "inside the limit by 0.050 as measured, by at least 0.020"),
        (
            rule("inconclusive", 0.95, 0.8, anchor=None, limit=0.9),
            "inside the limit as measured, at worst short of it by",
        ),
        (
            rule("inconclusive", 0.85, 0.7, anchor=None, limit=0.9),
            "short of the limit by 0.050 as measured, at worst sh",
        ),
        (
            rule("fail", 0.4, 0.3, anchor=None, limit=0.2, metric="over_refusal_rate"),
            "past the limit by 0.200 as measu",
        ),
        (rule("inconclusive", 0.3, 0.4, anchor=None, limit=0.2, metric="over_refusal_rate"), "over the limit by 0.100"),
        (rule("warn", 0.3, 0.3, estimate=True), "past the limit by 0.250 as measured"),
    ],
)
def test_the_margin_of_a_floor_counts_what_is_lacking(row: RuleResult, words: str) -> None:
    assert margin(row).startswith(words)
    assert "confidence" not in margin(row) or not row.estimate


def test_more_items_than_there_are_cannot_be_asked(report: ReportInput) -> None:
    near, far = (rule("inconclusive", 0.03, 0.09, needs=needs, rule=f"drop-{needs}") for needs in (4000, 8556))
    alone = next_step(entry_with(report, "INCONCLUSIVE", far))
    assert alone == (
        "with the rates of this merge drop-8556 would need about 8,556 items, and only 5,000 are there to ask: "
        "write more, or change the merge"
    )
    both = next_step(entry_with(report, "INCONCLUSIVE", near, far))
    assert both.startswith(f"{alone}; then audit again with about 4,000 items in all for drop-4000 (")
    fraud = next_step(entry_with(report, "INCONCLUSIVE", near, replace(near, category="fraud", rule="fraud-drop")))
    assert "about 4,000 items in all for drop-4000, about 4,000 items of category fraud in all for fraud-drop" in fraud
    wanted = replace(far, reason="only 300 items; the policy wants at least 8556")
    told = next_step(entry_with(report, "INCONCLUSIVE", wanted))
    assert told == "the policy wants at least 8,556 items for drop-8556, and only 5,000 are there to ask: write more"
    over = next_step(entry_with(report, "INCONCLUSIVE", replace(far, value=0.08)))
    assert over.startswith("change the merge first") and "--limit" not in over and "only 5,000 are there" in over
    strict = rule("fail", 0.3, 0.1, limit=0.0004)
    assert re.search(
        r"at least [\d,]+ items for refusal-drop, and only 5,000", next_step(entry_with(report, "FAIL", strict))
    )


def test_a_need_stands_once_beside_its_reason() -> None:
    said = rule("inconclusive", 0.03, 0.09, needs=8556, reason="about 8556 items would decide")
    assert rule_line(said).wanted == ""
    assert rule_line(replace(said, reason="fell (n=8556)")).wanted == "about 8,556 items would decide"
    assert rule_line(replace(said, needs=None)).wanted == ""
