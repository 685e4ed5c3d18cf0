"""JUnit XML: what each decision becomes, and that no text of a record becomes markup."""

import runpy
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignmerge.exports.junit import junit
from alignmerge.exports.outcome import Outcome, Problem
from tests.valid_exports import junit_problems

made = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made.py"))))


def read(outcome: Outcome) -> ET.Element:
    text = junit(outcome)
    assert junit_problems(text) == []
    return ET.fromstring(text)


def test_each_rule_is_a_case_and_the_counts_are_those_of_the_cases() -> None:
    root = read(Outcome("run", (made.every(),)))
    (suite,) = root
    assert suite.attrib | {"tests": "5", "failures": "1", "errors": "1", "skipped": "1"} == suite.attrib
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("5", "1", "1")
    found = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
    assert found == {
        "fail-block": ["failure"],
        "inconclusive-block": ["error"],
        "inconclusive-warn": ["skipped"],
        "warn-warn": ["system-out"],
        "pass-block": ["system-out"],
    }
    assert suite.find("testcase/failure").get("message") == "refusal rate fell by 0.1; so it is fail"  # type: ignore[union-attr]
    assert {row.get("name"): row.get("value") for row in suite.iter("property")}["subject"] == made.DIGEST


@pytest.mark.parametrize("decision", ["INCONCLUSIVE", "FAIL"])
def test_a_verdict_that_stops_a_release_is_never_green(decision: str) -> None:
    root = read(Outcome("run", (made.verdict(decision, made.rule("pass")),)))
    assert int(root.get("errors", 0)) + int(root.get("failures", 0)) == 1


def test_K01_problems_are_errors_with_their_place() -> None:
    root = read(Outcome("run", (), (Problem("audits/merge/items.jsonl", "not the items recorded", 5),)))
    case = root.find(".//testcase")
    assert case is not None
    assert case.get("name") == "audits/merge/items.jsonl"
    assert case[0].tag == "error"
    assert case[0].get("type") == "exit 5"


def test_J01_hostile_text_stays_text() -> None:
    text = junit(Outcome("run", (made.hostile(),), (Problem(made.HOSTILE, made.HOSTILE, 5),)))
    assert "<script>" not in text
    root = ET.fromstring(text)
    assert {element.tag for element in root.iter()} <= {
        *("testsuites", "testsuite", "testcase", "properties", "property", "failure", "error"),
    }
    assert root.find("testsuite/testcase").get("name").startswith("\\x1b[31m\\x00]]><script>")  # type: ignore[union-attr]


@given(st.text())
def test_any_text_can_be_a_reason(text: str) -> None:
    outcome = Outcome(text, (made.verdict("FAIL", made.rule("fail", reason=text), subject_name=text),))
    assert len(list(read(outcome).iter("testcase"))) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<failure ", "<failed "),
        (' name="fail-block"', ""),
        ('tests="5"', 'tests="6"'),
        ('time="0"', 'time="soon"'),
        ('timestamp="', 'timestamp="+'),
        ("<properties>", "<system-out>x</system-out><properties>"),
        (' classname="', ' class="'),
    ],
)
def test_the_check_of_documents_finds_what_is_wrong(old: str, new: str) -> None:
    text = junit(Outcome("run", (made.every(),)))
    assert junit_problems(text) == []
    broken = text.replace(old, new, 1).replace("</failure>", "</failed>" if new == "<failed " else "</failure>")
    assert broken != text
    assert junit_problems(broken)
