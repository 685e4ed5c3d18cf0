"""J04, J07, J10: large runs, and what is made of a record beside the page: cells and links."""

import csv
import io
import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from alignmerge.auditor.record import ItemScore, MetricResult
from alignmerge.reports import flat, markdown
from alignmerge.reports.model import Entry, ReportInput
from alignmerge.reports.render import render

ROOT = Path(__file__).resolve().parents[2]
ITEMS = 20_000
MOST_BYTES = 5_000_000


@pytest.fixture(scope="module")
def made() -> ReportInput:
    """The anchor and a merge of the invented run."""
    found = runpy.run_path(str(ROOT / "tests/unit/reports/synthetic.py"))["synthetic_report"]()
    assert isinstance(found, ReportInput)
    entries = [entry for entry in found.entries if entry.role == "anchor" or entry.label == "task arithmetic"]
    return replace(found, entries=tuple(entries))


def grown(entry: Entry, answer: str) -> Entry:
    """The entry with ITEMS items of each of two metrics, all refused by the anchor and answered by the merge."""
    value = 1.0 if entry.role == "anchor" else 0.0
    items = tuple(
        ItemScore("refusal", f"item-{at:06d}", metric, value, None, f"request {at}", answer, "stop", "fraud", "so")
        for metric in ("refusal_rate", "judged_refusal_rate")
        for at in range(ITEMS)
    )
    metrics = tuple(
        MetricResult(metric, "refusal", "rate", "higher", value, ITEMS, 0)
        for metric in ("refusal_rate", "judged_refusal_rate")
    )
    return replace(entry, audit=replace(entry.audit, items=items, metrics=metrics))


@pytest.fixture(scope="module")
def large(made: ReportInput) -> ReportInput:
    return replace(made, entries=tuple(grown(entry, "word " * 400) for entry in made.entries))


def test_J07_twenty_thousand_items_stay_small_and_none_is_dropped_silently(large: ReportInput) -> None:
    page = render(large)
    assert len(page.encode()) < MOST_BYTES
    shown = page.count('<details class="pair">')
    found = re.search(r"([\d,]+) more not shown; all are in the audit&#39;s|([\d,]+) more not shown", page)
    assert found is not None
    omitted = int((found[1] or found[2]).replace(",", ""))
    assert f'<span class="count">{ITEMS} of {ITEMS}</span>' in page
    assert omitted + shown == ITEMS
    assert len(flat.items_csv(large).splitlines()) == 1 + 2 * 2 * ITEMS
    assert f"{ITEMS:,}" in markdown.render(large)


def test_J10_no_cell_of_a_record_is_a_formula(made: ReportInput) -> None:
    entries = []
    for entry in made.entries:
        row = replace(entry.audit.items[0], prompt='=HYPERLINK("x")', answer="@SUM(1)", note="+1", category="-1")
        entries.append(replace(entry, label="=1+1", audit=replace(entry.audit, items=(row,))))
    rows = list(csv.reader(io.StringIO(flat.items_csv(replace(made, entries=tuple(entries))))))
    assert len(rows) == 3
    cells = [cell for row in rows[1:] for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert '\'=HYPERLINK("x")' in cells and "'=1+1" in cells


def test_J04_no_address_is_made_of_what_a_record_says(made: ReportInput) -> None:
    bad = "javascript:alert(1) data:text/html,x https://evil.example [a](https://evil.example)"
    report = replace(made, title=bad, notes=(bad,), policy_name=bad)
    assert set(re.findall(r'(?:href|src)="([^#][^"]*)"', render(report))) == set()
    assert not re.search(r"\]\(|https://|(?<!&#58;)javascript:|data:", markdown.render(report))
