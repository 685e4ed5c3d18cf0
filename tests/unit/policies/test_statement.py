"""Verdict files: what `to_statement` writes, `from_statement` reads, and nothing else."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from alignmerge import jsonio
from alignmerge.errors import RecordError
from alignmerge.policies.verdict import VERDICT_FIELD, RuleResult, Verdict, from_statement, to_statement
from alignmerge.policies.waivers import WaiverUse

RULE = RuleResult("refusal-drop", "refusal_rate", "block", "fail", "fell", "rate", 0.3, 0.2, 0.05, 300, 0.5, 0.8)
MISSING = RuleResult("aqi-drop", "aqi_log_j", "warn", "inconclusive", "none", "unknown", None, None, 2.0, 0, needs=40)
VERDICT = Verdict(
    subject="a" * 64,
    subject_name="soup",
    decision="FAIL",
    rules=(RULE, MISSING),
    policy="b" * 64,
    policy_name="demo",
    audits={"anchor": "c" * 64, "candidate": "d" * 64},
    created="2026-01-31T12:00:00Z",
    version="0.1.0",
)


def written() -> Any:
    return jsonio.loads(jsonio.canonical(to_statement(VERDICT)))


def test_reading_gives_back_what_was_written() -> None:
    assert from_statement(written()) == VERDICT


def test_the_summary_has_what_the_specification_requires() -> None:
    # Source: SLSA Verification Summary v1: required fields, and the levels of a summary that claims none.
    predicate = written()["predicate"]
    assert {"verifier", "timeVerified", "resourceUri", "policy", "verificationResult", "verifiedLevels"} < set(
        predicate
    )
    assert predicate["resourceUri"] == "ni:///sha-256;" + "qqqq" * 10 + "qqo"
    assert predicate["verifiedLevels"] == ["FAILED"]
    passed = to_statement(replace(VERDICT, decision="WARN"))["predicate"]
    assert passed["verificationResult"] == "PASSED"
    assert passed["verifiedLevels"] == ["SLSA_BUILD_LEVEL_UNEVALUATED"]


def _inner(value: Any) -> Any:
    return value["predicate"][VERDICT_FIELD]


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda v: v.update(predicateType="https://slsa.dev/provenance/v1"),
        lambda v: v["predicate"].pop(VERDICT_FIELD),
        lambda v: v.pop("predicate"),
        lambda v: v.update(predicate=[]),
        lambda v: v.update(extra=1),
        lambda v: v["predicate"].update(verificationResult="PASSED"),
        lambda v: v["subject"][0]["digest"].update(sha256="e" * 64),
        lambda v: v["subject"].append({"name": "other", "digest": {"sha256": "f" * 64}}),
        lambda v: v["predicate"]["policy"]["digest"].update(sha256="e" * 64),
        lambda v: v["predicate"]["inputAttestations"].pop(),
        lambda v: _inner(v).update(decision="PASS"),
        lambda v: _inner(v).update(decision="maybe"),
        lambda v: _inner(v).update(surprise=True),
        lambda v: _inner(v).update(subject="z" * 64),
        lambda v: _inner(v)["audits"].update(anchor="anchor"),
        lambda v: _inner(v).pop("rules"),
        lambda v: _inner(v)["rules"][0].update(limit="0.05"),
        lambda v: _inner(v)["rules"][0].update(n=True),
        lambda v: _inner(v)["rules"][0].update(surprise=1),
        lambda v: _inner(v)["rules"][0].pop("reason"),
    ],
)
def test_anything_else_is_refused(change: Callable[[Any], None]) -> None:
    value = copy.deepcopy(written())
    change(value)
    with pytest.raises(RecordError, match=r"^here: "):
        from_statement(value, "here")


@pytest.mark.parametrize("value", [None, [], "text", 3, {}])
def test_not_a_statement_at_all(value: Any) -> None:
    with pytest.raises(RecordError, match="in-toto"):
        from_statement(value)


def test_whole_numbers_are_read_as_the_numbers_they_are() -> None:
    text = json.dumps(written()).replace("2.0", "2")
    assert from_statement(jsonio.loads(text)) == VERDICT


WAIVER = WaiverUse("refusal-drop", "a" * 64, "Known.", "R. Meyer", "2026-01-30", "2026-02-10", True, "applied")


def test_a_waiver_is_read_back() -> None:
    waived = replace(VERDICT, waivers=(WAIVER,))
    assert from_statement(jsonio.loads(jsonio.canonical(to_statement(waived)))) == waived


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"audits": {}}, "it names no audit of the candidate"),
        ({"audits": {"anchor": "c" * 64}}, "it names no audit of the candidate"),
        ({"created": "yesterday"}, "created: 'yesterday' is no time"),
        ({"waivers": (replace(WAIVER, rule="Not One"),)}, "its waiver of 'Not One' could stand in no file of waivers"),
        ({"waivers": (replace(WAIVER, expires="soon"),)}, "its waiver of 'refusal-drop' could stand in no file"),
        ({"waivers": (replace(WAIVER, expires="2026-13-41"),)}, "its waiver of 'refusal-drop' could stand in no file"),
        ({"waivers": (replace(WAIVER, expires="2026-01-01"),)}, "its waiver of 'refusal-drop' expires before"),
    ],
)
def test_what_cannot_be_decided_again_is_malformed(changes: dict[str, Any], problem: str) -> None:
    value = jsonio.loads(jsonio.canonical(to_statement(replace(VERDICT, **changes))))
    with pytest.raises(RecordError, match=f"v.json: malformed verdict: {problem}"):
        from_statement(value, "v.json")
