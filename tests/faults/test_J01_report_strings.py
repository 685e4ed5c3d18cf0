"""J01, J06, J07, J08, J09, J13, J15: nothing that a record says becomes markup, code or an address in the report."""

import re
import runpy
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from alignmerge.reports.loaded import of_audits
from alignmerge.reports.model import ReportInput
from alignmerge.reports.render import render

ROOT = Path(__file__).resolve().parents[2]
# What decides the page's structure is checked where it is read and never free text.
CLOSED = {"role", "decision", "direction", "severity"}
# Ids that sections look up by name: they stay, so that every section has something to print ...
LOOKED_UP = {"metric", "skills"}
PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "]]><script>alert(1)</script>",
    "--><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "</text></svg><iframe src=javascript:alert(1)>",
    "{{7*7}}{% for a in b %}{{ cycler.__init__ }}",
    "&lt;script&gt;&#60;script>",
]


class Dom(HTMLParser):
    """Counts elements and keeps attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parse(page: str) -> Dom:
    dom = Dom()
    dom.feed(page)
    dom.close()
    return dom


def spread(value: Any, text: str, kept: set[str]) -> Any:
    """`value` with `text` around every string in it, keys included, except in fields named in `kept`."""
    if isinstance(value, str):
        return f"{text}{value}{text}"
    if isinstance(value, tuple | list):
        return type(value)(spread(item, text, kept) for item in value)
    if isinstance(value, Mapping):
        return {spread(key, text, set()) if kept else key: spread(item, text, kept) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        changes = {
            field.name: spread(getattr(value, field.name), text, kept)
            for field in fields(value)
            if field.name not in kept
        }
        return replace(value, **changes)
    return value


@pytest.fixture(scope="module")
def small() -> ReportInput:
    """The invented run with few items, so that many renderings stay quick."""
    made = runpy.run_path(str(ROOT / "tests/unit/reports/synthetic.py"))["synthetic_report"]()
    entries = tuple(
        replace(
            entry,
            audit=replace(entry.audit, items=tuple(row for row in entry.audit.items if row.item < f"{row.suite}-0015")),
        )
        for entry in made.entries
    )
    assert isinstance(made, ReportInput)
    return replace(made, entries=entries)


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("kept", [CLOSED | LOOKED_UP, CLOSED], ids=["sections filled", "ids too"])
def test_J01_hostile_text_in_every_string_field(small: ReportInput, payload: str, kept: set[str]) -> None:
    hostile = parse(render(spread(small, payload, kept)))
    benign = parse(render(spread(small, "x" * len(payload), kept)))
    assert hostile.elements == benign.elements
    assert hostile.elements["script"] == 1  # the page's own, whose digest the policy names
    assert not {"iframe", "img", "object", "embed", "link", "base", "form"} & set(hostile.elements)
    assert not [name for _, name, _ in hostile.attributes if name.startswith("on") or name in ("style", "src")]
    assert all(value.startswith("#") for _, name, value in hostile.attributes if name == "href")


@pytest.mark.parametrize("payload", PAYLOADS[:10:3])
@pytest.mark.parametrize("kept", [CLOSED | LOOKED_UP, CLOSED], ids=["sections filled", "ids too"])
def test_J01_hostile_text_in_the_report_of_one_audit(small: ReportInput, payload: str, kept: set[str]) -> None:
    alone = of_audits([next(entry.audit for entry in small.entries if entry.label == "TIES")], None)
    hostile = parse(render(spread(alone, payload, kept)))
    benign = parse(render(spread(alone, "x" * len(payload), kept)))
    assert hostile.elements == benign.elements and hostile.elements["script"] == 1
    assert hostile.elements["details"] > 10 or kept == CLOSED  # its answers are on the page
    assert not [name for _, name, _ in hostile.attributes if name.startswith("on") or name in ("style", "src")]


def said(report: ReportInput, text: str) -> ReportInput:
    """The run with `text` in what graders, set-level metrics and blame say, whose keys stay, so that all is printed."""
    entries = []
    for entry in report.entries:
        metrics = tuple(replace(row, detail=spread(row.detail, text, set())) for row in entry.audit.metrics)
        graders = spread(entry.audit.graders, text, set())
        items = tuple(replace(row, note=text) for row in entry.audit.items)
        blame = entry.blame
        if blame is not None:
            cells = tuple(
                cell.model_copy(update={"contributor": f"{cell.contributor}{text}", "module": text})
                for cell in blame.finite.cells
            )
            blame = blame.model_copy(update={"finite": blame.finite.model_copy(update={"cells": cells})})
        audit = replace(entry.audit, metrics=metrics, graders=graders, items=items)
        entries.append(replace(entry, audit=audit, blame=blame))
    return replace(report, entries=tuple(entries))


@pytest.mark.parametrize("payload", PAYLOADS[:10:3])
def test_J01_hostile_text_in_what_graders_metrics_and_blame_say(small: ReportInput, payload: str) -> None:
    page = render(said(small, payload))
    assert all(f'id="{section}"' in page for section in ("judge", "toxicity", "aqi", "blame"))
    hostile, benign = parse(page), parse(render(said(small, "x" * len(payload))))
    assert hostile.elements == benign.elements and hostile.elements["script"] == 1
    assert not [name for _, name, _ in hostile.attributes if name.startswith("on") or name in ("style", "src")]


def test_J01_the_text_is_there_to_be_read(small: ReportInput) -> None:
    payload = PAYLOADS[0]
    page = render(spread(small, payload, CLOSED | LOOKED_UP))
    assert payload not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert payload in "".join(parse(page).text)


def test_J06_no_external_address(small: ReportInput) -> None:
    page = render(spread(small, "https://evil.example/x.png", CLOSED | LOOKED_UP))
    for tag, name, value in parse(page).attributes:
        if name not in ("xmlns", "aria-label", "content"):
            assert "://" not in value, (tag, name, value)
    benign = render(small)
    assert set(re.findall(r"[a-z]+://[^\s\"'<]+", benign)) == {"http://www.w3.org/2000/svg"}
    assert "url(" not in benign
    assert "@import" not in benign


def test_J07_huge_output_is_cut_with_a_marker_and_digest(small: ReportInput) -> None:
    entries = tuple(
        replace(
            entry,
            audit=replace(
                entry.audit, items=tuple(replace(row, answer="A" * 1_000_000) for row in entry.audit.items[:12])
            ),
        )
        for entry in small.entries
    )
    page = render(replace(small, entries=entries))
    assert len(page) < 1_000_000
    assert "more characters, sha256 of all" in page


def test_J08_invisible_and_reordering_characters_are_escapes(small: ReportInput) -> None:
    hidden = "\u202e\u2066\u200b\x00\ufeff\x1b[31m"
    # A lone surrogate cannot be read into an audit (no digest could be made of it), yet may reach the rest.
    page = render(replace(spread(small, hidden, CLOSED | LOOKED_UP), title="\ud800", notes=(f"{hidden}\udfff",)))
    page.encode("utf-8")
    assert not set("\u202e\u2066\u200b\x00\ud800\ufeff\x1b") & set(page)
    assert "\\u202e\\u2066\\u200b\\x00\\ufeff\\x1b[31m" in page
    assert "<title>\\ud800</title>" in page
    assert "\\x1b[31m\\udfff" in page


def test_J09_chart_labels_are_escaped(small: ReportInput) -> None:
    page = render(spread(small, "<b>", CLOSED | LOOKED_UP))
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert charts
    assert not [chart for chart in charts if "<b>" in chart]
    assert any("&lt;b&gt;" in chart for chart in charts)


def test_J13_harmful_requests_are_closed_until_opened(small: ReportInput) -> None:
    page = render(small)
    outside = re.sub(r"<details.*?</details>", "", page, flags=re.DOTALL)
    assert "Invented refusal request number" in page
    assert "Invented refusal request number" not in outside
    assert "<details open" not in page


def test_J15_template_syntax_stays_literal(small: ReportInput) -> None:
    page = render(spread(small, "{{7*7}}", CLOSED | LOOKED_UP))
    assert "{{7*7}}" in page
    assert "49x" not in page.replace("{{7*7}}", "x")
