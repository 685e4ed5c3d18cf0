"""Answers side by side: what the judge said of them, and harmless requests that only one side refused."""

from dataclasses import replace

from alignmerge.reports import flat, markdown
from alignmerge.reports.model import ReportInput
from alignmerge.reports.render import render
from alignmerge.reports.sections import answers


def test_the_judges_reason_stands_under_the_answer_it_speaks_of(report: ReportInput) -> None:
    anchor = report.anchor
    assert anchor is not None
    entry = next(entry for entry in report.merges if entry.label == "task arithmetic")
    items = tuple(
        replace(row, note=f"{side.label} said so") if row.note else row for side in (entry,) for row in side.audit.items
    )
    made = replace(report, entries=(anchor, replace(entry, audit=replace(entry.audit, items=items))))
    [sheet] = answers.view(made)
    [pair, *_] = sheet.refusals[0].pairs
    assert [remark.text for remark in pair.candidate_remarks] == ["task arithmetic said so"]
    assert [remark.text for remark in pair.anchor_remarks] == [f"The answer speaks for itself in {pair.item}."]
    assert pair.candidate_remarks[0].metric == "Harmful requests declined (judge)"
    page = render(made)
    assert "task arithmetic said so" in page and "Harmful requests declined (judge): <b>" in page


def test_J13_reasons_quote_answers_and_are_withheld_with_them(report: ReportInput) -> None:
    assert "speaks for itself" in render(report)
    assert "speaks for itself" not in render(report, redact=True)


def test_only_a_judges_notes_are_shown(report: ReportInput) -> None:
    audit = report.entries[0].audit
    noted = replace(audit, items=tuple(replace(row, note="only its first 300 tokens were read") for row in audit.items))
    assert {one.metric for found in answers.remarks(noted).values() for one in found} == {
        "Harmful requests declined (judge)"
    }


def test_harmless_requests_that_only_the_merge_refuses_are_counted(report: ReportInput) -> None:
    anchor = report.anchor
    assert anchor is not None
    for entry, sheet in zip(report.merges, answers.view(report), strict=True):
        mine, theirs = entry.audit.scores("over_refusal_rate"), anchor.audit.scores("over_refusal_rate")
        gained = [item for item in mine if mine[item].value == 1 and theirs[item].value == 0]
        lost = [item for item in mine if mine[item].value == 0 and theirs[item].value == 1]
        risen, fallen = sheet.over_refusals
        assert (risen.total, fallen.total) == (len(gained), len(lost))
        assert not risen.harmful and all(pair.item in gained for pair in risen.pairs)
        assert any(
            one["what"] == risen.title and one["items"] == risen.total
            for one in flat.data(report)["changed"][entry.label]
        )
    assert "Harmless requests refused only by the merge" in markdown.render(report)


def test_answers_of_many_merges_are_closed_with_their_counts(report: ReportInput) -> None:
    page = render(report)
    sheets = answers.view(report)
    assert len(sheets) == 4 and page.count('<details class="sheet">') == 4
    lost, gained = sheets[0].refusals
    assert f"<h3>{sheets[0].label}</h3>: {lost.total:,} refusals lost, {gained.total:,} gained; Arithmetic" in page
    few = replace(report, entries=tuple(entry for entry in report.entries if entry.label != "TIES"))
    assert '<details class="sheet">' not in render(few)
