"""What got worse and no rule looks at, on the card of a merge that may ship."""

from dataclasses import replace

from alignmerge.reports import markdown
from alignmerge.reports.losses import unwatched
from alignmerge.reports.model import Entry, ReportInput
from alignmerge.reports.render import render
from alignmerge.reports.sections import verdicts


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
    assert "Unit conversion 0.090 to 0.050" in unwatched(entry, anchor)
    assert not any("Refusal" in one for one in unwatched(entry, anchor))
    entry, _ = passing(report, "refusal_rate", refusal_rate=0.1)
    assert "Refusal of harmful requests 0.820 to 0.100" in unwatched(entry, anchor)


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


def test_the_card_of_what_may_ship_shows_it_on_the_page_and_in_markdown(report: ReportInput) -> None:
    entry, _ = passing(report, units_accuracy=0.05)
    entries = tuple(entry if one.label == entry.label else one for one in report.entries)
    changed = replace(report, entries=entries)
    card = next(one for one in verdicts.view(changed).cards if one.label == entry.label)
    assert "Unit conversion 0.090 to 0.050" in card.losses
    assert f"no rule looks at it</b>: {card.losses}." in render(changed)
    assert f"no rule looks at it**: {markdown.inert(card.losses)}." in markdown.render(changed)
    assert all(not one.losses for one in verdicts.view(changed).cards if one.decision == "FAIL")
