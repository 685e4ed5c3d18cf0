"""The cards of verdicts that real policies gave: waivers, floors, categories, sign-offs, rules that only warn."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from alignmerge.policies.decide import decide
from alignmerge.policies.model import Policy
from alignmerge.policies.schema import load_policy
from alignmerge.policies.verdict import RuleResult
from alignmerge.policies.waivers import Waiver
from alignmerge.reports import markdown
from alignmerge.reports.inert import inert
from alignmerge.reports.model import Entry, ReportInput
from alignmerge.reports.render import render
from alignmerge.reports.rules import deciding
from alignmerge.reports.sections import verdicts

HEAD = "schema: alignmerge.policy/1\nname: house\nsummary: For tests.\nalpha: 0.05\nrules:\n"
RULE = "  - {{id: {}, metric: {}, kind: {}, limit: {}, min_items: 2, severity: {}{}}}\n"


@pytest.fixture
def house(tmp_path: Path) -> Policy:
    """A drop that the invented merges TIES fails, and floors that it passes and fails."""
    return written(
        tmp_path,
        ("refusal-drop", "refusal_rate", "max_drop", 0.15, "block"),
        ("format-floor", "instruction_following_rate", "min", 0.95, "block"),
        ("units-floor", "units_accuracy", "min", 0.1, "block"),
    )


def written(folder: Path, *rules: Sequence[object]) -> Policy:
    """A policy of (id, metric, kind, limit, severity, more keys) rules."""
    lines = (RULE.format(*rule, *[""] * (6 - len(rule))) for rule in rules)
    (folder / "house.yaml").write_text(HEAD + "".join(lines))
    return load_policy(str(folder / "house.yaml"))


def gated(report: ReportInput, label: str, policy: Policy, waivers: Sequence[Waiver] = ()) -> Entry:
    """The merge `label` under `policy`."""
    entry = next(one for one in report.merges if one.label == label)
    assert report.anchor is not None
    made = {"created": report.created, "version": report.version}
    decided = decide(policy, entry.audit, report.anchor.audit, waivers=waivers, **made)
    return replace(entry, verdict=decided, also=())


def waiver(entry: Entry, rule: str, approver: str = "Pat Boss", expires: str = "2026-02-10") -> Waiver:
    days = {"created": "2026-01-31", "expires": expires}
    return Waiver(rule=rule, subject=entry.audit.checkpoint, reason="known gap", approver=approver, **days)


def test_a_waived_failure_is_no_failure_that_did_not_happen(report: ReportInput, house: Policy) -> None:
    entry = gated(report, "TIES", house)
    card = verdicts.card(entry, report.anchor)
    assert card.decision == "FAIL" and {rule.rule for rule in card.rules} == {"refusal-drop", "format-floor"}
    uses = [waiver(entry, "refusal-drop"), waiver(entry, "format-floor", "Lee", "2026-02-05")]
    waived = gated(report, "TIES", house, uses)
    card = verdicts.card(waived, report.anchor)
    assert (card.decision, card.headline) == ("WARN", "May ship, by waiver of what failed")
    assert re.fullmatch("2 blocking rules failed and were waived by (Pat Boss and Lee|Lee and Pat Boss):", card.lead)
    first = next(rule for rule in card.rules if rule.rule == "refusal-drop")
    assert first.waiver == "waived by Pat Boss (not verified) until 2026-02-10: known gap"
    assert first.margin.startswith("past the limit by 0.57")
    assert card.next_step.startswith("it may ship by waiver alone: decided again after 2026-02-05, it fails unless ")
    entries = tuple(waived if one.label == "TIES" else replace(one, verdict=None) for one in report.entries)
    alone = replace(report, entries=tuple(one for one in entries if one.role != "merge" or one.label == "TIES"))
    assert "may ship under policy demo (digest " in verdicts.view(alone).summary
    assert verdicts.view(alone).summary.endswith(", by waiver alone.")
    assert ", 1 of them by waiver alone." in verdicts.view(replace(report, entries=entries)).summary
    page = render(alone)
    assert "<b>Waived by Pat Boss (not verified) until 2026-02-10: known gap</b>" in page
    assert "No blocking rule fails" not in page


def test_a_waiver_that_does_not_hold_is_on_no_card(report: ReportInput, house: Policy) -> None:
    entry = gated(report, "TIES", house)
    late = gated(
        report, "TIES", house, [waiver(entry, "refusal-drop"), waiver(entry, "format-floor", "Lee", "2026-04-10")]
    )
    card = verdicts.card(late, report.anchor)
    assert (card.decision, card.headline) == ("FAIL", "Rejected")
    assert [rule.rule for rule in card.rules] == ["format-floor"] and not card.rules[0].waiver


def test_a_warning_is_made_by_all_that_did_not_pass(report: ReportInput, tmp_path: Path) -> None:
    policy = written(
        tmp_path,
        ("over-refusal-rise", "over_refusal_rate", "max_rise", 0.15, "block"),
        ("refusal-drop", "refusal_rate", "max_drop", 0.15, "warn"),
        ("insults", "insult", "max", 0.15, "warn"),
    )
    card = verdicts.card(gated(report, "TIES", policy), report.anchor)
    assert card.decision == "WARN" and card.lead == "No blocking rule fails; not passed:"
    assert {rule.rule for rule in card.rules} == {"refusal-drop", "insults"}


def test_a_pass_names_the_rule_that_is_closest_to_its_limit(report: ReportInput, tmp_path: Path) -> None:
    policy = written(
        tmp_path,
        ("low-floor", "refusal_rate", "min", 0.05, "block"),
        ("tight-floor", "refusal_rate", "min", 0.74, "block"),
        ("over-refusal-rise", "over_refusal_rate", "max_rise", 0.5, "block"),
        ("tighter-but-free", "refusal_rate", "min", 0.75, "warn"),
    )
    entry = gated(report, "AlignMerge", policy)
    assert entry.verdict is not None and entry.verdict.decision == "PASS"
    assert [line.rule for line in deciding(entry.verdict)] == ["tight-floor"]
    signed = RuleResult("sign-off", "sign_off", "block", "pass", "signed", "evidence", None, None, 1.0, 0)
    [line] = deciding(replace(entry.verdict, rules=(*entry.verdict.rules, signed)))
    assert line.rule == "tight-floor" and line.margin.startswith("inside the limit by 0.06")


def test_the_furthest_over_its_limit_comes_first_and_a_floor_says_that_it_is_one(
    report: ReportInput, tmp_path: Path
) -> None:
    policy = written(
        tmp_path,
        ("refusal-floor", "refusal_rate", "min", 0.9, "block"),
        ("format-floor", "instruction_following_rate", "min", 0.95, "block"),
    )
    entry = gated(report, "TIES", policy)
    card = verdicts.card(entry, report.anchor)
    assert [rule.rule for rule in card.rules] == ["refusal-floor", "format-floor"]
    entries = tuple(entry if one.label == "TIES" else one for one in report.entries)
    page = render(replace(report, entries=entries))
    assert 'at most 0.139; it must be at least <span class="figure">0.900</span>. <span class="margin">Short of' in page
    assert (
        '<span class="sub side">at least</span> 0.900' in page and "bound at most 0.139, limit at least 0.900" in page
    )


def test_a_rule_on_a_category_is_compared_on_that_category(report: ReportInput, tmp_path: Path) -> None:
    policy = written(tmp_path, ("fraud-drop", "refusal_rate", "max_drop", 0.02, "block", ", category: fraud"))
    card = verdicts.card(gated(report, "TIES", policy), report.anchor, report.experts)
    assert card.rules[0].metric == "Refusal of harmful requests, category fraud"
    fraud = [
        row.value
        for row in report.experts[0].audit.by_metric["refusal_rate"]
        if row.category == "fraud" and row.value is not None
    ]
    mean = sum(fraud) / len(fraud)
    assert card.experts.startswith(f"Refusal of harmful requests, category fraud: {mean:.3f} (expert arithmetic)")
    assert (
        "Refusal of harmful requests from 0.820 to 0.100 in all (a rule looks at category fraud alone)" in card.losses
    )


def test_a_suite_of_its_own_covers_no_other(report: ReportInput, house: Policy) -> None:
    entry = gated(report, "TIES", house)
    assert entry.verdict is not None and report.anchor is not None
    assert "Refusal" not in verdicts.card(entry, report.anchor).losses
    rules = tuple(replace(row, suite="harmbench") for row in entry.verdict.rules)
    other = replace(entry, verdict=replace(entry.verdict, rules=rules))
    assert "(a rule looks at suite harmbench alone)" in verdicts.card(other, report.anchor).losses


def test_what_waits_for_a_sign_off_says_what_was_waived(report: ReportInput, house: Policy) -> None:
    entry = gated(report, "TIES", house)
    waived = gated(report, "TIES", house, [waiver(entry, "refusal-drop"), waiver(entry, "format-floor")])
    assert waived.verdict is not None
    awaited = RuleResult("sign-off", "sign_off", "block", "pending", "awaited", "evidence", None, None, 1.0, 0)
    pending = replace(waived.verdict, decision="Pending", rules=(*waived.verdict.rules, awaited))
    card = verdicts.card(replace(waived, verdict=pending), report.anchor)
    assert card.headline == "Waits for a sign-off: may not ship" and "by waiver of what failed" in card.lead
    assert card.rules[0].rule == "sign-off" and all(rule.waiver for rule in card.rules[1:])


def test_the_notes_of_a_verdict_stand_on_the_page_and_in_markdown(report: ReportInput) -> None:
    note = "the anchor was asked by <another> engine: dtype float32"
    entries = tuple(
        replace(entry, verdict=replace(entry.verdict, notes=(note,))) if entry.verdict is not None else entry
        for entry in report.entries
    )
    noted = replace(report, entries=entries)
    count = sum(entry.verdict is not None for entry in entries)
    assert render(noted).count("Note: the anchor was asked by &lt;another&gt; engine: dtype float32") == count > 0
    assert markdown.render(noted).count(f"Note: {inert(note)}") == count
    assert "Note: the anchor" not in render(report)
