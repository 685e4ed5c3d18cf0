"""What the page says."""

import re
from dataclasses import replace
from html import unescape
from typing import Any

import pytest

from alignmerge.policies.verdict import RuleResult
from alignmerge.reports.account import find, flatten, trace_rows
from alignmerge.reports.drawing import Drawing, Shape, polyline
from alignmerge.reports.model import Entry, ReportInput
from alignmerge.reports.render import environment, render
from alignmerge.reports.rules import deciding
from alignmerge.reports.sections import SECTIONS, answers, budgets, comparison, method, provenance, verdicts


@pytest.fixture(scope="module")
def page(report: ReportInput) -> str:
    return render(report)


def text_of(page: str) -> str:
    """The page without tags, with single blanks."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_the_verdict_comes_first_and_counts_what_may_ship(page: str) -> None:
    text = text_of(page[page.index("<main") :])
    assert text.index("1 of 4 merges may ship under policy demo (digest ") < 120
    assert [text.index(card) for card in ("May ship", "Rejected", "Budgets")] == sorted(
        text.index(card) for card in ("May ship", "Rejected", "Budgets")
    )


def test_a_rejected_merge_is_shown_with_rule_value_bound_and_limit(report: ReportInput) -> None:
    card = next(card for card in verdicts.view(report).cards if card.label == "TIES")
    assert (card.decision, card.headline) == ("FAIL", "Rejected")
    first = card.rules[0]
    assert (first.rule, first.value, first.bound, first.limit) == (
        "harmful-request refusal drop",
        "0.720",
        "0.670",
        "0.150",
    )


def test_sections_come_in_a_reviewers_order_and_are_linked(report: ReportInput, page: str) -> None:
    here = [section for section in SECTIONS if section.shown(report)]
    assert {section.id for section in SECTIONS} - {section.id for section in here} == {"readings"}
    places = [page.index(f'<section id="{section.id}"') for section in here]
    assert places == sorted(places)
    for section in here:
        assert f'href="#{section.id}"' in page
    for target in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{target}"' in page


def test_ids_are_unique(page: str) -> None:
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_every_table_has_a_caption_and_scoped_headings(page: str) -> None:
    tables = re.findall(r"<table.*?</table>", page, re.DOTALL)
    assert tables
    for table in tables:
        assert "<caption>" in table
        assert not re.search(r"<th(?![^>]*scope=)[\s>]", table)
    assert not re.search(r"<svg(?![^>]*aria-labelledby)", page)


def test_what_could_not_be_scored_says_why(report: ReportInput, page: str) -> None:
    text = text_of(page)
    assert "unscored: hidden states are constant on one side" in text
    assert "5 unscored: the answer is empty" in text
    rows = comparison.view(report).rows
    assert not any(cell.value == "" and not cell.missing for row in rows for cell in row.cells)


def test_best_is_marked_with_a_word_and_only_among_merges(report: ReportInput) -> None:
    view = comparison.view(report)
    for row in view.rows:
        if row.role != "merge":
            assert not any(cell.best for cell in row.cells)
    column = [column.metric for column in view.columns].index("degeneration_rate")
    best = [row.label for row in view.rows if row.cells[column].best]
    assert best == ["linear soup", "AlignMerge"]  # equal as printed: both


def test_nothing_is_best_where_all_print_the_same(report: ReportInput) -> None:
    one = next(entry for entry in report.entries if entry.label == "AlignMerge")
    twins = replace(report, entries=(one, replace(one, label="twin")))
    assert not any(cell.best for row in comparison.view(twins).rows for cell in row.cells)


def test_flipped_refusals_come_first_and_the_rest_is_counted(report: ReportInput) -> None:
    sheet = next(sheet for sheet in answers.view(report) if sheet.label == "task arithmetic")
    flipped, regained = sheet.refusals
    assert flipped.title.startswith("Refused by the anchor")
    assert all(pair.harmful for pair in flipped.pairs) and flipped.sight == answers.WORSE_SHOWN[0]
    assert len(flipped.pairs) == flipped.total and flipped.omitted == 0
    assert flipped.total - regained.total == 246 - 21  # 0.82 and 0.07 of 300
    few = next(sheet for sheet in answers.sheets(report, 50_000) if sheet.label == "task arithmetic").refusals[0]
    assert 0 < len(few.pairs) < few.total and few.omitted == few.total - len(few.pairs)
    lost, gained = sheet.skills[:2]
    assert gained.total - lost.total == 111 - 48  # 0.37 and 0.16 of 300


def test_different_items_are_called_out(report: ReportInput, page: str) -> None:
    assert "was asked the same items" in page
    first = report.entries[0]
    suites = tuple(replace(suite, digest="0" * 64) for suite in first.audit.suites[:1]) + first.audit.suites[1:]
    changed = replace(first, audit=replace(first.audit, suites=suites))
    other = render(replace(report, entries=(changed, *report.entries[1:])))
    assert f"not asked the same items of {suites[0].name}" in other or "Not all checkpoints were asked" in other


def test_trace_and_drift_are_shown_where_recorded(report: ReportInput, page: str) -> None:
    view = method.view(report)
    assert [solve.label for solve in view.solves] == ["AlignMerge"]
    assert view.solves[0].ended == "gap inside the budget"
    assert {drift.key for drift in view.drifts} == {"", "absolute", "relative", "before", "after", "name"}
    assert "L_align" in page
    for table in view.tables:
        held = {(one.label, one.key or "value"): one.value for one in view.drifts if one.name == table.name}
        shown = {
            (label, column): cell
            for label, cells in table.rows
            for column, cell in zip(table.columns, cells, strict=True)
        }
        assert {place: cell for place, cell in shown.items() if cell} == held


def test_a_run_with_nothing_still_says_so(report: ReportInput) -> None:
    empty = replace(report, entries=(), policy_summary=(), notes=())
    text = text_of(render(empty))
    for words in (
        "holds no merge",
        "No merge of this run was put to a policy",
        "AQI was not measured",
        "No further policy",
    ):
        assert words in text
    bare = tuple(
        replace(
            entry,
            verdict=None,
            merge=None,
            also=(),
            audit=replace(entry.audit, metrics=(), items=(), aqi_reference=None),
        )
        for entry in report.entries
    )
    text = text_of(render(replace(report, entries=bare)))
    assert "None of 4 merges may ship" in text
    assert "Ungated" in text
    assert "Not drawn, because skill or refusal was not measured" in text


def test_single_entry_charts_are_drawn(report: ReportInput) -> None:
    only = tuple(entry for entry in report.entries if entry.label in ("safety anchor", "AlignMerge"))
    assert render(replace(report, entries=only)).count("<svg") > 8


def rule(name: str, decision: Any, bound: float | None, severity: Any = "block") -> RuleResult:
    return RuleResult(name, "refusal_rate", severity, decision, "why", "rate", bound, bound, 0.05, 300, 0.5, 0.6)


def test_the_deciding_rule_is_the_one_furthest_over(report: ReportInput) -> None:
    base = next(entry.verdict for entry in report.entries if entry.verdict is not None)
    assert base is not None
    rules = (rule("a", "fail", 0.06), rule("b", "pass", 0.01), rule("c", "fail", 0.4), rule("d", "warn", 0.9, "warn"))
    assert [line.rule for line in deciding(replace(base, decision="FAIL", rules=rules))] == ["c", "a"]
    passing = (rule("a", "pass", 0.01), rule("b", "pass", 0.049))
    assert [line.rule for line in deciding(replace(base, decision="PASS", rules=passing))] == ["b"]
    open_ = (rule("a", "inconclusive", None), rule("b", "inconclusive", 0.07), rule("c", "inconclusive", 9.0, "warn"))
    assert [line.rule for line in deciding(replace(base, decision="INCONCLUSIVE", rules=open_))] == ["a", "b"]


def test_provenance_names_every_digest(report: ReportInput, page: str) -> None:
    view = provenance.view(report)
    for source in view.sources:
        assert source.checkpoint in page
        assert source.audit in page
        for _, digest in source.policies:
            assert digest in page
    software = {row.key: row for row in view.settings}
    assert software["software.torch"].who == "all"


def test_account_is_found_at_any_depth_and_hostile_shapes_are_ignored() -> None:
    rows = [{"step": 0, "geo": 1.0, "ok": True, "name": "x"}, {"geo": 2.0}, "text", None]
    assert trace_rows({"account": {"deep": {"trace": {"steps": rows}}}}) == ({"step": 0.0, "geo": 1.0},)
    assert trace_rows({"trace": "none"}) == ()
    assert trace_rows(None) == ()
    nested: dict[str, Any] = {}
    inner = nested
    for _ in range(5000):
        inner["a"] = {}
        inner = inner["a"]
    assert find(nested, "missing") is None
    assert [text for _, text in flatten(nested)] == ["nested deeper than a report shows"]
    assert list(flatten({"b": [1, 2], "a": {"c": None, "d": True}, "e": [{"f": 0.5}], "g": {}})) == [
        ("a.c", "none"),
        ("a.d", "yes"),
        ("b", "1, 2"),
        ("e[0].f", "0.5"),
        ("g", "empty"),
    ]


def test_a_path_of_many_points_is_printed_whole() -> None:
    d = polyline([(float(x), 1.0) for x in range(5000)])
    drawing = Drawing("many", "title", "words", 10.0, (Shape(d, "front"),))
    macro = environment().get_template("marks.html.j2").module.chart
    assert f'd="{d}"' in macro(drawing)


def test_the_table_says_from_which_side_a_bound_bounds_and_which_rule_cannot_fail(report: ReportInput) -> None:
    entry = next(one for one in report.merges if one.label == "TIES")
    assert entry.verdict is not None
    rows = tuple(replace(row, anchor=0.04, limit=0.05) for row in entry.verdict.rules if row.metric == "refusal_rate")
    empty = replace(entry, verdict=replace(entry.verdict, rules=rows))
    changed = replace(report, entries=tuple(empty if one is entry else one for one in report.entries))
    text = unescape(text_of(render(changed)))
    [line] = next(one.rules for one in budgets.view(changed) if one.label == "TIES")
    assert line.side == "at least" and f" {line.value} at least {line.bound} {line.limit} " in text
    assert f"Remark : {line.remark}" in text and line.remark.startswith("cannot fail")
    assert f"bound at least {line.bound}," in render(changed)


def test_policies_of_one_name_are_told_apart_by_their_digest(report: ReportInput) -> None:
    digests = {entry.verdict.policy for entry in report.merges if entry.verdict is not None}
    assert len(digests) == 1
    assert verdicts.view(report).summary.endswith(f" under policy demo (digest {digests.pop()[:12]}).")
    entries = tuple(
        replace(entry, verdict=replace(entry.verdict, policy="f" * 64)) if entry.label == "TIES" else entry
        for entry in report.entries
    )
    assert verdicts.view(replace(report, entries=entries)).summary.endswith(" under policy demo.")


def test_the_validity_gate_of_aqi_is_said_once(report: ReportInput) -> None:
    def with_gate(entry: Entry, words: dict[str, str]) -> Entry:
        metrics = tuple(
            replace(row, valid=True, valid_reason=words[row.metric]) if row.metric in words else row
            for row in entry.audit.metrics
        )
        return replace(entry, audit=replace(entry.audit, metrics=metrics))

    def page(**words: str) -> str:
        return text_of(render(replace(report, entries=tuple(with_gate(entry, words) for entry in report.entries))))

    same = page(aqi_log_j="above the base GATE", aqi_paper="above the base GATE")
    assert same.count("Validity gate, the same for both forms: passed: above the base GATE.") == 1
    assert same.count("GATE.") == 1
    other = page(aqi_log_j="above the base GATE", aqi_paper="elsewhere GATE")
    assert other.count("GATE.") == 2
    assert "above the base, the unaligned model it was made from" in same


def test_the_counts_of_aqi_are_pairs(report: ReportInput) -> None:
    counts = {column.metric: column.n for column in comparison.columns(report)}
    assert counts["aqi_log_j"].endswith(" pairs") and not counts["refusal_rate"].endswith(" pairs")
