"""The page over many runs: its rows, its links, its lineage."""

import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from alignmerge.commands.report import command
from alignmerge.errors import RecordError, UsageError
from alignmerge.provenance.ledger import Entry as LedgerEntry
from alignmerge.reports import index, lineage
from alignmerge.reports.model import ReportInput
from alignmerge.reports.text import number

WRITE = runpy.run_path(str(Path(__file__).with_name("test_model.py")))["write_run"]


@pytest.fixture(scope="module")
def small(report: ReportInput) -> ReportInput:
    """The anchor and two merges of the invented run."""
    held = [entry for entry in report.entries if entry.role == "anchor" or entry.label in ("TIES", "AlignMerge")]
    return replace(report, entries=tuple(held))


@pytest.fixture(scope="module")
def runs(small: ReportInput, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs, one of them below a name that means something in addresses."""
    root = tmp_path_factory.mktemp("runs")
    for name in ("first", 'b "2" #?<x>'):
        WRITE(small, root / name)
        (root / name / "report.html").write_text("page")
    return root


def test_every_merge_of_every_run_has_a_row_and_a_relative_link(runs: Path) -> None:
    folders = sorted(path for path in runs.iterdir() if path.is_dir())
    done = CliRunner().invoke(command, [*map(str, folders), "--index", "-o", str(runs / "index.html")])
    assert done.exception is None
    page = (runs / "index.html").read_text()
    links = re.findall(r'<a href="(\./[^"]*)"', page)
    assert links == ["./b%20%222%22%20%23%3F%3Cx%3E/report.html"] * 2 + ["./first/report.html"] * 2
    assert page.count("<tr>") == 1 + 4 and "2 runs · 4 merges" in page
    again = index.render(index.load_runs(folders), runs)
    assert again == page


def test_a_report_outside_the_pages_folder_is_named_but_not_linked(runs: Path, tmp_path: Path) -> None:
    page = index.render(index.load_runs([runs / "first"]), tmp_path)
    assert "Three experts merged into the safety anchor" in page and "<a href=" not in page.split("<main", 1)[1]
    (tmp_path / "out.html").symlink_to(runs / "first/report.html")
    assert index.link_to(tmp_path / "out.html", tmp_path) == ""
    assert index.link_to(tmp_path / "absent.html", tmp_path) == ""


def test_J01_a_hostile_title_stays_text(small: ReportInput, runs: Path) -> None:
    bad = "<script>x</script>\"'{{7*7}}\u202e"
    entries = tuple(replace(entry, label=f"{entry.label}{bad}") for entry in small.entries)
    one = [(runs / "first", replace(small, title=bad, created=bad, policy_name=bad, entries=entries))]
    page, plain = index.render(one, runs), index.render([(runs / "first", small)], runs)
    assert page.count("<script") == plain.count("<script") == 1 and "\u202e" not in page and "{{7*7}}" in page
    assert re.findall(r"<[a-z]+", page) == re.findall(r"<[a-z]+", plain)


def test_a_merge_that_is_the_next_anchor_joins_two_runs(small: ReportInput) -> None:
    first = next(entry for entry in small.merges if entry.label == "AlignMerge")
    second = next(entry for entry in small.merges if entry.label == "TIES")
    later = replace(small, entries=(replace(first, role="anchor", label="base"), second))
    earlier = replace(small, entries=tuple(entry for entry in small.entries if entry.label != "TIES"))
    for order in ((earlier, later), (later, earlier)):
        [root] = lineage.lineage(order)
        assert root.checkpoint == small.entries[0].audit.checkpoint
        [middle] = root.below
        [told] = middle.verdicts
        assert (middle.name, told.decision) == ("AlignMerge", "PASS") and "reasoning drop" in told.spent
        assert [node.name for node in middle.below] == ["TIES"]


def ledger(subject: str, anchor: str, name: str) -> LedgerEntry:
    return LedgerEntry("gate", subject, name, "2026-01-31T12:00:00Z", "PASS", {"anchor": anchor})


def test_the_ledger_adds_what_the_runs_do_not_hold(small: ReportInput) -> None:
    top = small.entries[0].audit.checkpoint
    [root] = lineage.lineage([small], [ledger(top, "0" * 64, "an older merge")])
    assert (root.name, root.checkpoint) == ("checkpoint of no run", "0" * 64)
    assert [node.name for node in root.below] == ["an older merge"]
    assert {node.name for node in root.below[0].below} == {"TIES", "AlignMerge"}


def test_circles_and_long_chains_end(small: ReportInput) -> None:
    ring = [ledger("a" * 64, "b" * 64, "a"), ledger("b" * 64, "a" * 64, "b"), ledger("c" * 64, "c" * 64, "self")]
    assert lineage.lineage([], ring) == ()
    chain = [ledger(f"{at + 1:064d}", f"{at:064d}", f"m{at}") for at in range(300)]
    [node] = lineage.lineage([], chain)
    names: list[Any] = []
    while node.below:
        [node] = node.below
        names.append(node.name)
    assert len(names) == lineage.DEEPEST + 1 and names[-1] == "more merges below, not shown"


def test_what_does_not_go_with_an_index_is_said(runs: Path, tmp_path: Path) -> None:
    for more in (["--index"], ["--index", "-o", "x", "--format", "csv"], ["--index", "-o", "x", "--redact"]):
        done = CliRunner().invoke(command, [str(runs / "first"), *more])
        assert isinstance(done.exception, UsageError) and "-o" in str(done.exception)
    with pytest.raises(RecordError, match="an index is over runs"):
        index.load_runs([tmp_path])


def test_what_a_branch_spent_so_far_is_the_sum_of_its_steps(small: ReportInput) -> None:
    first = next(entry for entry in small.merges if entry.label == "AlignMerge")
    second = next(entry for entry in small.merges if entry.label == "TIES")
    assert first.verdict is not None and second.verdict is not None
    later = replace(small, entries=(replace(first, role="anchor", label="base"), second))
    earlier = replace(small, entries=tuple(entry for entry in small.entries if entry.label != "TIES"))
    [root] = lineage.lineage([earlier, later])
    [middle] = root.below
    [last] = middle.below
    [first_told], [last_told] = middle.verdicts, last.verdicts
    assert (root.verdicts, first_told.so_far) == ((), "")  # the first step is its own sum
    steps = {row.rule: row.value for row in first.verdict.rules if row.anchor is not None}
    for row in second.verdict.rules:
        before = steps.get(row.rule)
        if row.anchor is not None and row.value is not None and before is not None:
            assert f"{row.rule} {number(before + row.value)} of {number(row.limit)}" in last_told.so_far
    assert last_told.so_far and last_told.so_far in index.render([(Path(), earlier), (Path(), later)], Path())
    ungated = replace(earlier, entries=tuple(replace(entry, verdict=None) for entry in earlier.entries))
    assert lineage.lineage([ungated, later])[0].below[0].below[0].verdicts[0].so_far == ""


def test_a_checkpoint_of_several_runs_keeps_every_verdict_in_any_order(small: ReportInput) -> None:
    ties = next(entry for entry in small.merges if entry.label == "TIES")
    assert ties.verdict is not None
    house = replace(ties.verdict, policy="a" * 64, policy_name="house", decision="PASS")
    others = tuple(entry for entry in small.entries if entry.label != "TIES")
    runs = [
        replace(small, title=title, entries=(*others, replace(ties, verdict=verdict)))
        for title, verdict in (("first", ties.verdict), ("second", None), ("third", house), ("copy", ties.verdict))
    ]
    for order in (runs, runs[::-1]):
        [root] = lineage.lineage(order)
        node = next(one for one in root.below if one.name == "TIES")
        told = {one.decision: one for one in node.verdicts}
        assert len(node.verdicts) == 2 and set(told) == {"FAIL", "PASS"}
        assert told["PASS"].policy == "house (aaaaaaaaaaaa)" and told["PASS"].source == "third"
        assert set(told["FAIL"].source.split(" and ")) == {"first", "copy"}
        assert "harmful-request refusal drop 0.720 of 0.150" in told["FAIL"].spent == told["PASS"].spent
        page = index.render([(Path(), run) for run in order], Path())
        assert "under house (aaaaaaaaaaaa), in third" in page and "under demo (" in page
    [root] = lineage.lineage(runs[1:2])
    assert [one.decision for node in root.below for one in node.verdicts] == ["PASS", "UNGATED"]


def test_the_ledger_says_nothing_twice_and_hides_nothing(small: ReportInput) -> None:
    anchor, ties = small.entries[0].audit.checkpoint, next(one for one in small.merges if one.label == "TIES")
    same, other = (
        replace(ledger(ties.audit.checkpoint, anchor, "TIES"), decision=decision, policy=policy)
        for decision, policy in (("FAIL", "demo"), ("PASS", "house"))
    )
    [root] = lineage.lineage([small], [same, other])
    node = next(one for one in root.below if one.name == "TIES")
    assert [(one.decision, one.source) for one in node.verdicts] == [
        ("FAIL", small.title),
        ("PASS", "the ledger"),
    ]


def test_a_verdict_from_another_anchor_says_so_and_is_in_no_sum(small: ReportInput, report: ReportInput) -> None:
    ties = next(entry for entry in small.merges if entry.label == "TIES")
    other = next(entry for entry in report.entries if entry.role == "reference")
    away = replace(small, title="away", entries=(replace(other, role="anchor"), ties))
    [root, *_] = lineage.lineage([small, away])
    node = next(one for one in root.below if one.name == "TIES")
    assert [one.aside for one in node.verdicts] == ["", other.audit.checkpoint[:12]]
    assert "measured from another anchor, " + other.audit.checkpoint[:12] in index.render(
        [(Path(), small), (Path(), away)], Path()
    )


def test_the_larger_change_is_added_where_two_runs_differ(small: ReportInput) -> None:
    first = next(entry for entry in small.merges if entry.label == "AlignMerge")
    second = next(entry for entry in small.merges if entry.label == "TIES")
    assert first.verdict is not None and second.verdict is not None
    rows = tuple(replace(row, value=None if row.value is None else row.value + 0.1) for row in first.verdict.rules)
    worse = replace(first, verdict=replace(first.verdict, rules=rows))
    later = replace(small, entries=(replace(first, role="anchor", label="base"), second))
    earlier = [replace(small, entries=(small.entries[0], one)) for one in (first, worse)]
    for order in (earlier, earlier[::-1]):
        [root] = lineage.lineage([*order, later])
        [middle] = root.below
        [last] = middle.below
        assert len(middle.verdicts) == 2
        before, now = rows[0].value, second.verdict.rules[0].value
        assert before is not None and now is not None
        assert f"{rows[0].rule} {number(before + now)} of " in last.verdicts[0].so_far
