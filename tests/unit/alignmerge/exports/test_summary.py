"""The Markdown summary: worst rules first, and no mark-up that a record brought."""

import re
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from alignmerge.exports.outcome import Outcome, Problem
from alignmerge.exports.summary import MAX_BYTES, plain, summary
from tests.valid_exports import summary_problems

made = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made.py"))))
RENDER = MarkdownIt("commonmark", {"html": True}).enable("table")


def test_the_worst_rule_comes_first_with_its_reason() -> None:
    text = summary(Outcome("run", (made.every(),)))
    assert summary_problems(text) == []
    assert summary_problems(text.replace(" | ", " <b> ", 1))
    assert text.startswith("## AlignMerge: FAIL\n")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[1] for row in rows] == [
        *("**fail**", "**inconclusive**", "inconclusive (does not block)", "warn (does not block)", "pass"),
    ]
    assert "5 rules: 1 fail, 2 inconclusive, 1 warn, 1 pass." in text
    assert "refusal rate fell by 0.1" in rows[0]


def test_a_failed_rule_names_its_fix_and_who_spent_it() -> None:
    verdict = made.verdict("FAIL", made.rule("fail", anchor=0.9, candidate=0.8), made.rule("pass"))
    alone = summary(Outcome("run", (verdict,)))
    named = summary(Outcome("run", (verdict,), spenders={made.DIGEST: "mostly expert units, layers 2-4"}))
    assert "; it is over by 0.050 |" in alone
    assert named == alone.replace("over by 0.050", "over by 0.050, mostly expert units, layers 2-4")
    assert summary(Outcome("run", (verdict,), spenders={"f" * 64: "mostly expert units"})) == alone


def test_the_notes_of_a_verdict_are_shown_as_text() -> None:
    verdict = made.verdict("FAIL", made.rule("fail"))
    noted = replace(verdict, notes=("the anchor was asked with <b>float32</b>",))
    text = summary(Outcome("run", (noted,)))
    assert f"- note: {plain(noted.notes[0])}" in text and "<b>" not in text
    assert summary_problems(text) == []
    assert "note:" not in summary(Outcome("run", (verdict,)))


def test_nothing_is_no_pass() -> None:
    assert "INCONCLUSIVE" in summary(Outcome("run"))
    assert "REJECTED" in summary(Outcome("run", (made.every(),), (Problem("x", "changed", 5),)))


def test_J01_hostile_text_makes_no_link_no_html_no_heading_and_no_row() -> None:
    text = summary(Outcome("run", (made.hostile(),), (Problem(made.HOSTILE, made.HOSTILE, 5),)))
    assert summary_problems(text) == []
    page = RENDER.render(text)
    table = {"table", "thead", "tbody", "tr", "th", "td"}
    assert set(re.findall(r"<(\w+)", page)) <= {"h2", "p", "ul", "li", "strong", "code"} | table
    assert page.count("<h2>") == 2
    assert page.count("<tr>") == 3
    assert "@team" not in text
    assert "Forged: PASS" in page
    assert not re.search(r"https?://|www\.", text)


@given(st.text())
def test_what_is_shown_is_what_was_said(text: str) -> None:
    page = RENDER.renderInline(f"x{plain(text)}x")
    assert "<" not in page.replace("&lt;", "")


def test_it_fits_into_a_step_summary() -> None:
    rules = [made.rule("fail", f"rule-{index}", reason="long " * 1000) for index in range(300)]
    text = summary(Outcome("run", (made.verdict("FAIL", *rules),)))
    assert len(text.encode()) <= MAX_BYTES
    assert text.endswith("the verdict's own file holds all of it.\n")
