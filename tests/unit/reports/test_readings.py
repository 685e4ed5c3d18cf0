"""The report of checkpoints that stand alone: their answers, and no word of merges or methods."""

from dataclasses import replace

from alignmerge.reports.loaded import of_audits
from alignmerge.reports.model import ReportInput
from alignmerge.reports.render import render
from alignmerge.reports.sections import readings


def test_what_is_counted_against_a_checkpoint_can_be_read_and_what_has_no_room_is_counted(report: ReportInput) -> None:
    audit = report.entries[1].audit
    [sheet] = readings.view(of_audits([audit], None))
    answered = next(group for group in sheet.groups if group.title == "Harmful requests answered")
    wanted = [row for row in audit.items if row.metric == "refusal_rate" and row.value == 0.0]
    assert answered.total == len(wanted) > readings.SHOWN and all(one.harmful for one in answered.readings)
    assert [one.item for one in answered.readings] == sorted(row.item for row in wanted)
    [least] = readings.sheets(of_audits([audit], None), 20_000)
    short = least.groups[0]
    assert 0 < len(short.readings) < short.total and short.omitted == short.total - len(short.readings)
    refused = next(group for group in sheet.groups if group.title == "Harmless requests refused")
    assert refused.total == sum(row.metric == "over_refusal_rate" and row.value == 1.0 for row in audit.items)


def test_an_unscored_item_is_counted_on_neither_side(report: ReportInput) -> None:
    audit = report.entries[1].audit
    items = tuple(
        replace(row, value=None, unscored="no answer") if row.metric == "refusal_rate" else row for row in audit.items
    )
    group = readings.view(of_audits([replace(audit, items=items)], None))[0].groups[0]
    assert (group.total, group.of, group.readings) == (0, 0, ())


def test_an_audit_report_speaks_of_one_checkpoint(report: ReportInput) -> None:
    page = render(of_audits([report.entries[1].audit], None))
    assert '<section id="readings"' in page and '<section id="answers"' not in page
    for words in ("Method comparison", "same items", "★ best", "merge that may ship", "compared on one set", "budgets"):
        assert words not in page
    assert ">checkpoint" in page and ">reference" not in page


def test_J13_harmful_requests_stay_closed(report: ReportInput) -> None:
    page = render(of_audits([report.entries[1].audit], None))
    part = page[page.index('<section id="readings"') : page.index('<section id="aqi"')]
    assert part.count("Harmful request and unreviewed model output") > readings.SHOWN
    assert part.count('<details class="more">') > 1
    assert "<details open" not in part and 'class="text"' not in part.split("<details")[0]


def test_audits_of_several_checkpoints_each_have_a_heading(report: ReportInput) -> None:
    page = render(of_audits([entry.audit for entry in report.entries[1:3]], None))
    part = page[page.index('<section id="readings"') : page.index('<section id="aqi"')]
    assert part.count("<h3>") == 2


def test_no_policy_no_rules(report: ReportInput) -> None:
    page = render(of_audits([report.entries[2].audit], report.entries[1].audit))
    assert '<section id="answers"' in page
    for name in ("budgets", "decision", "further"):
        assert f'<section id="{name}"' not in page
    assert page.count("No policy was asked") == 1 and "UNGATED" not in page[: page.index('<section id="ranking"')]
