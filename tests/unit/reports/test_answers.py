"""Answers side by side: what the judge said of them, and harmless requests that only one side refused."""

from dataclasses import replace

from alignmerge.auditor.record import AuditRecord
from alignmerge.reports import counted, flat, markdown
from alignmerge.reports.loaded import of_audits
from alignmerge.reports.model import ReportInput
from alignmerge.reports.ranking import skills_of
from alignmerge.reports.render import render
from alignmerge.reports.sections import answers, ranked, readings


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
    assert {one.metric for found in counted.remarks(noted).values() for one in found} == {
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
        assert sorted(pair.item for pair in risen.pairs) == sorted(gained)
        assert not any(pair.harmful for pair in risen.pairs)
        told = next(one for one in flat.data(report)["changed"] if one["label"] == entry.label)
        assert any(one["what"] == risen.title and one["items"] == risen.total for one in told["groups"])
    assert "Harmless requests refused only by the merge" in markdown.render(report)


def test_answers_of_many_merges_are_closed_with_their_counts(report: ReportInput) -> None:
    page = render(report)
    sheets = answers.view(report)
    assert len(sheets) == 4 and page.count('<details class="sheet">') == 4
    lost, gained = sheets[0].refusals
    assert f"<h3>{sheets[0].label}</h3>: {lost.total:,} refusals lost, {gained.total:,} gained; Arithmetic" in page
    few = replace(report, entries=tuple(entry for entry in report.entries if entry.label != "TIES"))
    assert '<details class="sheet">' not in render(few)


def flipped(report: ReportInput, label: str, metric: str) -> set[str]:
    """Ids of the items of `metric` that changed from the anchor to the merge called `label`."""
    anchor = report.anchor
    assert anchor is not None
    ours = next(entry for entry in report.merges if entry.label == label).audit.scores(metric)
    theirs = anchor.audit.scores(metric)
    both = [item for item in ours if ours[item].value is not None and theirs[item].value is not None]
    return {item for item in both if ours[item].value != theirs[item].value}


def test_J07_every_answer_that_changed_can_be_read_closed(report: ReportInput) -> None:
    page = render(report)
    for sheet in answers.view(report):
        assert sheet.omitted == 0
        shown = {pair.item for group in sheet.groups for pair in group.pairs}
        for metric in ("refusal_rate", "over_refusal_rate", "arithmetic_accuracy", "degeneration_rate"):
            assert flipped(report, sheet.label, metric) <= shown
    assert page.count('<details class="pair">') > 2000 and "more not shown" not in page
    assert "<details open" not in page and '<details class="more">' in page and len(page.encode()) < 5_000_000
    hidden = [pair for pair in answers.view(report)[0].refusals[0].pairs[answers.WORSE_SHOWN[0] :] if pair.harmful]
    assert hidden and all(pair.prompt in page for pair in hidden)
    assert not any(pair.prompt in render(report, redact=True) for pair in hidden)


def test_what_the_page_has_no_room_for_is_counted_with_where_it_can_be_read(report: ReportInput) -> None:
    few = answers.sheets(report, 60_000)
    kept, whole = (sum(len(group.pairs) for sheet in sheets for group in sheet.groups) for sheets in
                   (few, answers.sheets(report, 10**9)))  # fmt: skip
    assert kept > 20 and sum(sheet.omitted for sheet in few) == whole - kept
    assert min(len(group.pairs) for sheet in few for group in sheet.groups if group.total > group.above) > 0
    assert all(group.total == group.above + len(group.pairs) + group.omitted for one in few for group in one.groups)


def at(audit: AuditRecord, metric: str, suite: str) -> AuditRecord:
    """`audit` with `metric` as the one that `suite` has for itself."""
    name = f"{metric}@{suite}"
    metrics = tuple(replace(row, metric=name, suite=suite) if row.metric == metric else row for row in audit.metrics)
    items = tuple(replace(row, metric=name, suite=suite) if row.metric == metric else row for row in audit.items)
    return replace(audit, metrics=metrics, items=items)


def test_metrics_that_one_suite_has_for_itself_are_shown_and_ranked(report: ReportInput) -> None:
    made = report
    for metric in ("refusal_rate", "arithmetic_accuracy"):
        entries = tuple(replace(one, audit=at(one.audit, metric, "harm_bench")) for one in made.entries)
        made = replace(made, entries=entries)
    for before, after in zip(answers.view(report), answers.view(made), strict=True):
        assert [group.total for group in after.refusals] == [group.total for group in before.refusals]
        assert [group.total for group in after.skills] == [group.total for group in before.skills]
        assert after.refusals[0].title == "Refused by the anchor, answered by the merge (harm bench)"
        assert all(pair.harmful for pair in after.refusals[0].pairs)
    view, plain = ranked.view(made), ranked.view(report)
    assert [(one.skill, one.gain, one.refusal) for one in view.lines] == [
        (one.skill, one.gain, one.refusal) for one in plain.lines
    ]
    assert not view.left_out and view.refusal == "Refusal of harmful requests (harm bench)"
    assert "Arithmetic (harm bench)" in view.skills and "Refusal of harmful requests (harm bench)" in render(made)
    [alone] = readings.view(of_audits([made.entries[1].audit], None))
    assert alone.groups[0].title == "Harmful requests answered (harm bench)" and alone.groups[0].total > 5


def test_a_run_asked_other_suites_has_the_skills_of_those(report: ReportInput) -> None:
    usual = {"arithmetic_accuracy": "strict_accuracy@gsm8k", "instruction_following_rate": "choice_accuracy@mmlu"}
    entries = []
    for entry in report.entries:
        audit = entry.audit
        metrics = tuple(replace(row, metric=usual.get(row.metric, row.metric)) for row in audit.metrics)
        items = tuple(replace(row, metric=usual.get(row.metric, row.metric)) for row in audit.items)
        metrics = tuple(row for row in metrics if row.metric != "units_accuracy")
        entries.append(replace(entry, audit=replace(audit, metrics=metrics, items=items)))
    view = ranked.view(replace(report, entries=tuple(entries)))
    assert view.skills == ("strict accuracy (gsm8k)", "choice accuracy (mmlu)") and not view.left_out
    named = replace(report, entries=tuple(entries), skills=("units_accuracy",))
    assert ranked.view(named).plot is None  # a run's own skills are not replaced


def test_flips_of_judge_and_classifier_are_shown_with_the_reason(report: ReportInput) -> None:
    anchor = report.anchor
    assert anchor is not None
    entry = next(entry for entry in report.merges if entry.label == "linear soup")
    # Refusals by rule are the anchor's, so that the graders alone see a change.
    theirs = anchor.audit.scores("refusal_rate")
    items = tuple(theirs[row.item] if row.metric == "refusal_rate" else row for row in entry.audit.items)
    toxic = tuple(
        replace(row, value=0.9) if row.metric == "toxicity" and row.item.endswith("7") else row for row in items
    )
    made = replace(report, entries=(anchor, replace(entry, audit=replace(entry.audit, items=toxic))))
    [sheet] = answers.view(made)
    groups = {group.title: group for group in sheet.others}
    judged = groups["Harmful requests declined (judge): worse than the anchor"]
    assert judged.total == len([1 for item in flipped(made, "linear soup", "judged_refusal_rate")
                                if made.merges[0].audit.scores("judged_refusal_rate")[item].value == 0])  # fmt: skip
    assert (
        judged.pairs[0].change == "declined → answered"
        and judged.pairs[0].candidate_remarks
        and judged.pairs[0].harmful
    )
    poisoned = groups["Toxicity (Detoxify): 0.5 or more only by the merge"]
    assert poisoned.total == 4 and all(pair.harmful for pair in poisoned.pairs)
    changes = [pair.change for pair in poisoned.pairs] + [
        also for g in sheet.groups for p in g.pairs for also in [p.also]
    ]
    assert sum("→ 0.90" in change for change in changes) == 4
    page = render(made)
    assert "Other metrics" in page and "declined → answered" in page


def test_an_item_that_two_metrics_count_is_printed_once(report: ReportInput) -> None:
    for sheet in answers.view(report):
        keys = [(pair.item, pair.anchor, pair.candidate) for group in sheet.groups for pair in group.pairs]
        assert len(keys) == len(set(keys))
    sheet = answers.view(report)[0]
    twice = next(group for group in sheet.others if group.above)
    assert twice.total == twice.above + len(twice.pairs)
    assert "Harmful requests declined (judge): declined → answered" in {pair.also for pair in sheet.refusals[0].pairs}


def openings(report: ReportInput, entry: int, shift: float) -> AuditRecord:
    """The entry's audit, its refusals read by likelihood in a suite of their own: near 0 and near 1."""
    audit = report.entries[entry].audit
    name, suite = "refusal_likelihood", "refusal_openings"
    rows = tuple(
        replace(row, metric=name, suite=suite, value=0.02 + 0.96 * row.value - shift, answer="I cannot")
        for row in audit.items
        if row.metric == "refusal_rate" and row.value is not None
    )
    plain = audit.result("refusal_rate")
    assert plain is not None
    mean = sum(row.value or 0.0 for row in rows) / len(rows)
    result = replace(plain, metric=name, suite=suite, value=mean, scored=len(rows), unscored=0)
    return replace(audit, metrics=(result,), items=rows)


def test_the_likelihood_form_counts_what_crosses_a_half_and_is_no_skill(report: ReportInput) -> None:
    anchor, merge = openings(report, 0, 0.0), openings(report, 3, 1e-4)
    made = of_audits([merge], anchor)
    mine, theirs = merge.scores("refusal_likelihood"), anchor.scores("refusal_likelihood")
    [sheet] = answers.view(made)
    groups = {group.title: group for group in (*sheet.refusals, *sheet.over_refusals, *sheet.skills, *sheet.others)}
    name = "Openings that decline harmful requests (likelihood)"
    lost = [item for item in mine if (mine[item].value or 0) < 0.5 <= (theirs[item].value or 0)]
    gained = [item for item in mine if (theirs[item].value or 0) < 0.5 <= (mine[item].value or 0)]
    assert groups[f"{name}: 0.5 or more only by the anchor"].total == len(lost) > 0
    assert groups[f"{name}: 0.5 or more only by the merge"].total == len(gained) < len(mine) / 2
    assert all(pair.harmful for group in groups.values() for pair in group.pairs)
    assert skills_of(made) != ("refusal_likelihood",)
    page = render(made)
    assert "Harmful request and unreviewed model output" in page and "wrong" not in counted.said(
        "refusal_likelihood", 0.0
    )
