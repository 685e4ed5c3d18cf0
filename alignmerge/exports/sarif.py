"""SARIF 2.1.0, which code-scanning pages show: one result per rule that does not pass, one per problem.

Notable decisions:
- A rule that blocks and is not decided is a result of kind `fail` and level `error`. SARIF's own word would be kind
  `open`, whose level must be `none`, and pages that go by the level would show a release held back as nothing at all.
- Rules that pass are listed as rules without a result.
- A result needs a file to be shown at: the policy in the repository, the verdict, whatever the caller names.

Source: OASIS Static Analysis Results Interchange Format 2.1.0, sections 3.14, 3.20, 3.27, 3.58.
"""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from alignmerge import __version__
from alignmerge.exports.outcome import Outcome, Problem, fingerprint
from alignmerge.policies.reasons import spoken
from alignmerge.policies.verdict import RuleResult, Verdict
from alignmerge.terminal import printable

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
HOME = "https://alignmerge.dev"
PROBLEM = "alignmerge/rejected"
_SHORT = {"fail": "over its limit", "inconclusive": "not decided", "warn": "warning", "pending": "waiting"}


def sarif(outcome: Outcome, shown_at: str) -> str:
    """The log as JSON text. `shown_at`: path of the file, relative to the repository, that results are shown at."""
    runs = [_run(verdict, shown_at) for verdict in outcome.verdicts]
    if outcome.problems or not runs:
        runs.append(_rejected(outcome.problems, shown_at))
    value = {"$schema": SCHEMA, "version": "2.1.0", "runs": runs}
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _run(verdict: Verdict, shown_at: str) -> dict[str, Any]:
    results = [_result(verdict, index, rule, shown_at) for index, rule in enumerate(verdict.rules)]
    held = [result for result in results if result is not None]
    complete = verdict.decision in ("PASS", "WARN", "FAIL")
    return {
        "tool": _tool([_descriptor(rule) for rule in verdict.rules], verdict.version),
        "automationDetails": {"id": f"alignmerge/{quote(verdict.policy_name)}/{quote(verdict.subject_name)}/"},
        "invocations": [{"executionSuccessful": complete, "exitCode": verdict.exit_code}],
        "results": held,
        "properties": {
            "decision": verdict.decision,
            "subject": {"sha256": verdict.subject},
            "policy": {"sha256": verdict.policy},
            "passed": len(verdict.rules) - len(held),
        },
    }


def _tool(rules: Sequence[dict[str, Any]], version: str) -> dict[str, Any]:
    return {"driver": {"name": "AlignMerge", "informationUri": HOME, "version": printable(version), "rules": rules}}


def _descriptor(rule: RuleResult) -> dict[str, Any]:
    return {
        "id": printable(rule.rule),
        "shortDescription": {"text": printable(f"{spoken(rule.metric)}, limit {rule.limit:.6g} {rule.unit}")},
        "defaultConfiguration": {"level": "error" if rule.severity == "block" else "warning"},
    }


def _level(rule: RuleResult) -> str:
    if rule.decision == "warn":
        return "warning"
    if rule.severity == "block":
        return "error"
    return "warning" if rule.decision == "fail" else "note"


def _result(verdict: Verdict, index: int, rule: RuleResult, shown_at: str) -> dict[str, Any] | None:
    if rule.decision == "pass":
        return None
    short = _SHORT.get(rule.decision, rule.decision)
    return {
        "ruleId": printable(rule.rule),
        "ruleIndex": index,
        "kind": "fail",
        "level": _level(rule),
        "message": {"text": _plain(f"{verdict.subject_name} ({verdict.subject[:12]}), {short}: {rule.reason}")},
        "locations": _locations(shown_at),
        "partialFingerprints": {"alignmerge/v1": fingerprint(verdict, rule)},
        "properties": {
            "decision": rule.decision,
            "metric": rule.metric,
            "value": rule.value,
            "bound": rule.bound,
            "limit": rule.limit,
            "items": rule.n,
        },
    }


def _rejected(problems: Sequence[Problem], shown_at: str) -> dict[str, Any]:
    """A run that decided nothing. It says so even where nobody knows why."""
    rows = problems or (Problem("verdict", "there is no verdict, so nothing was decided", 4),)
    text = {"text": "A record, model or input could not be used"}
    rule = {"id": PROBLEM, "shortDescription": text, "defaultConfiguration": {"level": "error"}}
    results = [
        {
            "ruleId": PROBLEM,
            "ruleIndex": 0,
            "kind": "fail",
            "level": "error",
            "message": {"text": _plain(_told(row))},
            "locations": _locations(shown_at),
        }
        for row in rows
    ]
    return {
        "tool": _tool([rule], __version__),
        "invocations": [{"executionSuccessful": False, "exitCode": rows[0].exit_code}],
        "results": results,
    }


def _told(problem: Problem) -> str:
    return problem.text if problem.text.startswith(problem.where) else f"{problem.where}: {problem.text}"


def _plain(text: str) -> str:
    """`text` as a SARIF message, in which brackets would make links and braces placeholders."""
    shown = printable(text)
    for mark in "\\[]":
        shown = shown.replace(mark, f"\\{mark}")
    return shown.replace("{", "{{").replace("}", "}}")


def _locations(shown_at: str) -> list[dict[str, Any]]:
    place = {"artifactLocation": {"uri": quote(shown_at)}, "region": {"startLine": 1}}
    return [{"physicalLocation": place}]
