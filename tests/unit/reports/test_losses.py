"""What got worse and no rule looks at, and what the experts reached by themselves, on the cards."""

from dataclasses import replace

from alignmerge.reports import markdown
from alignmerge.reports.losses import experts_alone, unwatched
from alignmerge.reports.model import Entry, ReportInput
from alignmerge.reports.render import render
from alignmerge.reports.sections import verdicts
from alignmerge.reports.text import number


def passing(report: ReportInput, dropped: str = "", **values: float) -> tuple[Entry, Entry]:
    """AlignMerge and the anchor, some of the former's metrics replaced, without the rules of the metric `dropped`."""
    entry, anchor = next(one for one in report.merges if one.label == "AlignMerge"), report.anchor
    assert entry.verdict is not None and anchor is not None
    metrics = tuple(replace(row, value=values.get(row.metric, row.value)) for row in entry.audit.metrics)
    rules = tuple(row for row in entry.verdict.rules if row.metric != dropped)
    audit = replace(entry.audit, metrics=metrics)
    return replace(entry, audit=audit, verdict=replace(entry.verdict, rules=rules)), anchor


def test_a_fall_without_a_rule_is_named_and_one_with_a_rule_is_not(report: ReportInput) -> None:
    entry, anchor = passing(report, units_accuracy=0.05, refusal_rate=0.1)
    assert entry.verdict is not None and "refusal_rate" in {row.metric for row in entry.verdict.rules}
    assert "Unit conversion from 0.090 to 0.050" in unwatched(entry, anchor)
    assert not any("Refusal" in one for one in unwatched(entry, anchor))
    entry, _ = passing(report, "refusal_rate", refusal_rate=0.1)
    assert "Refusal of harmful requests from 0.820 to 0.100" in unwatched(entry, anchor)


def test_the_direction_of_a_metric_decides_what_is_worse(report: ReportInput) -> None:
    entry, anchor = passing(report, "over_refusal_rate", over_refusal_rate=0.3, units_accuracy=0.9)
    found = unwatched(entry, anchor)
    assert any(one.startswith("Over-refusal of harmless requests") for one in found)
    assert not any(one.startswith("Unit conversion") for one in found)
    better, _ = passing(report, "over_refusal_rate", over_refusal_rate=0.0)
    assert not any(one.startswith("Over-refusal") for one in unwatched(better, anchor))


def test_a_metric_that_is_not_valid_here_and_a_run_without_an_anchor_say_nothing(report: ReportInput) -> None:
    entry, anchor = passing(report, "aqi_log_j", aqi_log_j=-3.0)
    assert any(one.startswith("AQI log-J") for one in unwatched(entry, anchor))
    metrics = tuple(replace(row, valid=False) for row in entry.audit.metrics)
    assert unwatched(replace(entry, audit=replace(entry.audit, metrics=metrics)), anchor) == ()
    assert unwatched(entry, None) == () and unwatched(replace(entry, verdict=None), anchor) == ()


def test_a_rule_on_one_form_of_aqi_looks_at_the_other(report: ReportInput) -> None:
    entry, anchor = passing(report, "aqi_log_j", aqi_log_j=-3.0)
    assert entry.verdict is not None
    rule = replace(entry.verdict.rules[0], metric="aqi_paper", suite=None)
    watched = replace(entry, verdict=replace(entry.verdict, rules=(*entry.verdict.rules, rule)))
    assert not any(one.startswith("AQI") for one in unwatched(watched, anchor))
    assert any(one.startswith("AQI") for one in unwatched(entry, anchor))


def test_the_card_of_what_may_ship_shows_it_on_the_page_and_in_markdown(report: ReportInput) -> None:
    entry, _ = passing(report, units_accuracy=0.05)
    entries = tuple(entry if one.label == entry.label else one for one in report.entries)
    changed = replace(report, entries=entries)
    card = next(one for one in verdicts.view(changed).cards if one.label == entry.label)
    assert "Unit conversion from 0.090 to 0.050" in card.losses
    assert f"no rule looks at it</b>: {card.losses}." in render(changed)
    assert f"no rule looks at it**: {markdown.inert(card.losses)}." in markdown.render(changed)


def test_a_rejected_merge_stands_beside_its_experts_on_the_page_and_in_markdown(report: ReportInput) -> None:
    cards = {one.label: one for one in verdicts.view(report).cards}
    entry = next(one for one in report.merges if one.verdict is not None and one.verdict.decision == "FAIL")
    assert entry.verdict is not None
    decided = next(row for row in entry.verdict.rules if row.decision == "fail" and row.candidate is not None)
    told = cards[entry.label].experts
    for expert in report.experts:
        value = expert.audit.result(decided.metric)
        assert value is not None and value.value is not None
        assert f"{number(value.value)} ({expert.label})" in told
    assert told.endswith(f"; the merge {number(decided.candidate or 0.0)}")
    assert f"The experts alone</b>: {told}." in render(report)
    assert f"The experts alone**: {markdown.inert(told)}." in markdown.render(report)
    assert all(not one.experts for one in cards.values() if one.decision in ("PASS", "WARN"))


def test_without_experts_or_a_measured_rule_nothing_is_said_of_them(report: ReportInput) -> None:
    entry = next(one for one in report.merges if one.verdict is not None and one.verdict.decision == "FAIL")
    assert experts_alone(entry, ()) == ""
    assert entry.verdict is not None
    blind = tuple(replace(row, candidate=None) for row in entry.verdict.rules)
    assert experts_alone(replace(entry, verdict=replace(entry.verdict, rules=blind)), report.experts) == ""
    assert experts_alone(replace(entry, verdict=None), report.experts) == ""


def test_a_pass_names_the_rules_that_could_not_fail(report: ReportInput) -> None:
    entry, anchor = passing(report)
    assert entry.verdict is not None
    rule = next(row for row in entry.verdict.rules if row.metric == "refusal_rate")
    for rate, words in ((0.0, "(harmful-request refusal drop could not fail here)"), (0.9, "limit; the closest:")):
        rows = (replace(rule, anchor=rate),)
        assert words in verdicts.card(replace(entry, verdict=replace(entry.verdict, rules=rows)), anchor).lead
