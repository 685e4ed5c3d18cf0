"""SARIF: accepted by the official schema, and a release that is held back is never without a result.

Both schemas are those of `tests/valid_exports.py`: the official one, whose bytes are pinned here, and our own.
"""

import hashlib
import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignmerge.exports.outcome import Outcome, Problem
from alignmerge.exports.sarif import SCHEMA, sarif
from tests.valid_exports import OFFICIAL, SCHEMAS, sarif_problems

made = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("made.py"))))
# sarif-schema-2.1.0.json of OASIS, errata 01
SHA256 = "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e"


def read(outcome: Outcome, shown_at: str = "policies/release.yaml") -> Any:
    text = sarif(outcome, shown_at)
    assert sarif_problems(text) == [[], []]
    return json.loads(text)


def test_the_schemas_are_schemas_and_the_official_one_is_the_one_that_documents_name() -> None:
    assert hashlib.sha256(OFFICIAL).hexdigest() == SHA256
    assert json.loads(OFFICIAL)["id"] == SCHEMA == json.loads(sarif(Outcome("run"), "p.yaml"))["$schema"]
    for schema in SCHEMAS:
        schema.check_schema(schema.schema)


WRONG = {
    "no tool": lambda run: run.pop("tool"),
    "no driver": lambda run: run["tool"].pop("driver"),
    "another level": lambda run: run["results"][0].update(level="fatal"),
    "another kind": lambda run: run["results"][0].update(kind="failed"),
    "no message": lambda run: run["results"][0].pop("message"),
    "an empty message": lambda run: run["results"][0].update(message={}),
    "a text for a number": lambda run: run["results"][0].update(ruleIndex="0"),
    "an unknown key": lambda run: run["results"][0].update(severity="high"),
    "no success": lambda run: run["invocations"][0].pop("executionSuccessful"),
    "line 0": lambda run: run["results"][0]["locations"][0]["physicalLocation"].update(region={"startLine": 0}),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_both_schemas_refuse_what_is_wrong(wrong: str) -> None:
    broken = read(Outcome("run", (made.every(),)))
    WRONG[wrong](broken["runs"][0])
    assert all(sarif_problems(json.dumps(broken)))


def test_levels_and_rules() -> None:
    (run,) = read(Outcome("run", (made.every(),)))["runs"]
    assert [(row["ruleId"], row["level"]) for row in run["results"]] == [
        ("fail-block", "error"),
        ("inconclusive-block", "error"),
        ("inconclusive-warn", "note"),
        ("warn-warn", "warning"),
    ]
    rules = run["tool"]["driver"]["rules"]
    assert all(rules[row["ruleIndex"]]["id"] == row["ruleId"] for row in run["results"])
    assert [rule["id"] for rule in rules][-1] == "pass-block"
    assert run["properties"]["passed"] == 1
    place = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert place == "policies/release.yaml"


def test_fingerprints_are_of_the_rule_and_not_of_the_numbers() -> None:
    def prints(*rules: Any) -> list[str]:
        value = read(Outcome("run", (made.verdict("FAIL", *rules),)))
        return [row["partialFingerprints"]["alignmerge/v1"] for row in value["runs"][0]["results"]]

    first = prints(made.rule("fail", "a"), made.rule("fail", "b"))
    assert len(set(first)) == 2
    assert prints(made.rule("fail", "b", value=0.3, reason="other"))[0] == first[1]


def test_K01_problems_and_nothing_at_all_are_errors_and_not_successful() -> None:
    problem = Problem("model.safetensors", "changed since the manifest was made", 5)
    for outcome in (Outcome("run", (), (problem,)), Outcome("run")):
        (run,) = read(outcome)["runs"]
        assert run["invocations"][0]["executionSuccessful"] is False
        assert run["invocations"][0]["exitCode"] == outcome.exit_code
        assert [row["level"] for row in run["results"]] == ["error"]
    assert "model.safetensors: changed" in json.dumps(read(Outcome("run", (), (problem,))))


def test_J01_hostile_text_is_valid_and_makes_no_link() -> None:
    value = read(Outcome("run", (made.hostile(),), (Problem(made.HOSTILE, made.HOSTILE, 5),)), made.HOSTILE)
    text = value["runs"][0]["results"][0]["message"]["text"]
    assert "\\[a\\](http" in text
    assert "{{0}}" in text
    assert "\x1b" not in json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize("place", ["a b/c%.yaml", "ä.yaml", "C:\\x", "//host/x", "a?b#c"])
def test_any_path_becomes_a_relative_reference(place: str) -> None:
    value = read(Outcome("run", (made.every(),)), place)
    uri = value["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert not set(uri) & set(" ?#\\")


@given(st.text(min_size=1))
def test_any_text_gives_a_valid_log(text: str) -> None:
    read(Outcome(text, (made.verdict("FAIL", made.rule("fail", text, reason=text), subject_name=text),)), text)
