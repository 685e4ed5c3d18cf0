"""A verdict decided again: from everything that it used, with what is absent told apart from what was changed."""

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignmerge.pipeline.approvals import verify_approval
from alignmerge.pipeline.signing import APPROVALS
from alignmerge.pipeline.verifying_verdict import UNCHECKED_APPROVALS, CheckedVerdict, Evidence, check_verdict
from alignmerge.policies.schema import policy_digest
from alignmerge.policies.verdict import Lineage, Verdict, from_statement, to_statement
from alignmerge.policies.waivers import Waiver
from alignmerge.provenance import keys
from alignmerge.provenance.statement import Statement, write_signed

r = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "policies/records.py")))
ANCHOR, ROOT = (r.audit({"refusal_rate": r.ones(290, 320)}, name=name) for name in ("anchor", "root"))
GOOD = r.audit({"refusal_rate": r.ones(290, 320)})
EXPERTS = [r.audit({"refusal_rate": r.ones(good, 320)}, name=f"expert {good}") for good in (280, 289)]
OTHER = r.audit({"refusal_rate": r.ones(1, 320)}, name="other")


def evidence(policy: Any, **changes: Any) -> Evidence:
    named = {"experts": (), "given": (), "approvers": (), "run_folder": Path("nowhere")} | changes
    return Evidence.of(policies={policy_digest(policy): policy}, **named)


def check(verdict: Verdict, policy: Any, audit: Any = GOOD, **changes: Any) -> CheckedVerdict:
    """The check of a verdict that was written and read, as all of them are."""
    stored = from_statement(to_statement(verdict))
    return check_verdict("v.json", "audits/v", stored, (audit, ANCHOR), evidence(policy, **changes))


def problems(found: CheckedVerdict) -> list[str]:
    return [one.problem for one in found.findings]


BEST = r.policy(r.rule(against="best_expert"))
WHOLE = r.policy(r.rule(against="root"))
LINEAGE = Lineage(ROOT.checkpoint, 3, {})


def test_a_verdict_against_the_best_expert_is_decided_again_with_all_of_them() -> None:
    verdict = r.verdict(BEST, GOOD, ANCHOR, experts=EXPERTS)
    assert verdict.decision == "PASS"
    for place in ("experts", "given"):
        assert check(verdict, BEST, **{place: EXPERTS[::-1]}) == CheckedVerdict()


def test_a_missing_audit_of_an_expert_is_absent_and_another_one_is_a_change() -> None:
    verdict = r.verdict(BEST, GOOD, ANCHOR, experts=EXPERTS)
    found = check(verdict, BEST)
    assert found.findings == []
    assert [one.problem for one in found.absent] == [
        f"rests on an audit of {role} ({verdict.audits[role][:12]}) that is not here; give it with --audit"
        for role in ("expert-1", "expert-2")
    ]
    found = check(verdict, BEST, experts=[EXPERTS[0], OTHER])
    assert problems(found) == ["was decided on another audit of expert-2 than those of the experts in this folder"]
    assert found.absent == []
    assert check(verdict, BEST, experts=[EXPERTS[0], OTHER], given=[EXPERTS[1]]) == CheckedVerdict()


def test_experts_in_another_order_are_another_verdict() -> None:
    verdict = r.verdict(BEST, GOOD, ANCHOR, experts=EXPERTS)
    turned = {"expert-1": verdict.audits["expert-2"], "expert-9": verdict.audits["expert-1"]}
    forged = replace(verdict, audits={**verdict.audits, **turned})
    assert check(forged, BEST, experts=EXPERTS).findings


def test_a_verdict_against_the_root_wants_the_audit_of_the_root() -> None:
    verdict = r.verdict(WHOLE, GOOD, ANCHOR, root=ROOT, lineage=LINEAGE)
    assert verdict.decision == "PASS"
    found = check(verdict, WHOLE)
    assert (found.findings, len(found.absent)) == ([], 1)
    assert "rests on an audit of root" in found.absent[0].problem
    found = check(verdict, WHOLE, given=[OTHER, ROOT])
    assert (found.findings, found.absent) == ([], [])
    assert "what earlier merges spent is taken from the verdict" in found.notes[0]


@pytest.mark.parametrize("policy", [BEST, WHOLE])
def test_a_forged_decision_is_found_whatever_it_was_measured_against(policy: Any) -> None:
    bad = r.audit({"refusal_rate": r.ones(190, 320)})
    more = {"experts": EXPERTS} if policy is BEST else {"root": ROOT, "lineage": LINEAGE}
    honest, good = r.verdict(policy, bad, ANCHOR, **more), r.verdict(policy, GOOD, ANCHOR, **more)
    assert honest.decision == "FAIL"
    forged = replace(honest, decision="PASS", rules=good.rules)
    found = check(forged, policy, bad, given=[*EXPERTS, ROOT])
    assert problems(found) == ["says PASS; its audits and policy give FAIL"]


def test_a_waived_verdict_is_decided_again_with_its_waiver() -> None:
    bad, policy = r.audit({"refusal_rate": r.ones(190, 320)}), r.policy(r.rule())
    fields = {"rule": "refusal-rate", "reason": "R.", "approver": "A", "created": "2026-01-20", "expires": "2026-02-10"}
    verdict = r.verdict(policy, bad, ANCHOR, waivers=[Waiver(subject=bad.checkpoint, **fields)])
    assert verdict.decision == "WARN"
    assert check(verdict, policy, bad) == CheckedVerdict()
    bare = check(replace(verdict, waivers=()), policy, bad)
    assert problems(bare) == ["says WARN; its audits and policy give FAIL"]
    later = replace(verdict, waivers=tuple(replace(one, expires="2026-01-25") for one in verdict.waivers))
    assert problems(check(later, policy, bad)) == ["says WARN; its audits and policy give FAIL"]


SIGNED = r.policy(r.rule(), required_evidence=({"id": "officer", "kind": "sign_off", "summary": "A person signs."},))


@pytest.fixture
def approved(tmp_path: Path) -> tuple[Path, Verdict]:
    """A run folder with an approval by `officer`, and the verdict that rests on it."""
    keys.new(tmp_path / "officer")
    key = keys.load(tmp_path / "officer")
    policy = {"name": "p", "digest": {"sha256": policy_digest(SIGNED)}}
    predicate = {"rule": "officer", "approver": "Ada", "created": r.CREATED, "policy": policy, "verdict": "Pending"}
    statement = Statement({"merge": GOOD.checkpoint}, "https://alignmerge.dev/approval/v1", predicate)
    (tmp_path / APPROVALS).mkdir()
    path = tmp_path / APPROVALS / "officer.intoto.jsonl"
    write_signed(path, statement.to_bytes(), key)
    verdict = r.verdict(SIGNED, GOOD, ANCHOR, approvals=[verify_approval(path, [key.public])])
    assert verdict.decision == "PASS"
    return tmp_path, verdict


def test_an_approval_in_a_verdict_is_checked_with_the_approvers_key(approved: tuple[Path, Verdict]) -> None:
    folder, verdict = approved
    officer = keys.load_public(folder / "officer.pub")
    assert check(verdict, SIGNED, run_folder=folder, approvers=[officer]) == CheckedVerdict()
    found = check(verdict, SIGNED, run_folder=folder)
    assert (found.findings, found.absent, found.notes) == ([], [], [f"v.json: {UNCHECKED_APPROVALS}"])


def test_an_approval_by_another_key_does_not_hold_and_one_without_a_file_is_absent(
    approved: tuple[Path, Verdict],
) -> None:
    folder, verdict = approved
    other, officer = keys.new(folder / "mallory"), keys.load_public(folder / "officer.pub")
    found = check(verdict, SIGNED, run_folder=folder, approvers=[other])
    assert "rests on the approval of officer by Ada" in problems(found)[0]
    assert "signed by none of the approvers' keys" in problems(found)[0]
    (folder / APPROVALS / "officer.intoto.jsonl").rename(folder / "elsewhere")
    found = check(verdict, SIGNED, run_folder=folder, approvers=[officer])
    assert (found.findings, len(found.absent)) == ([], 1)
    assert "whose signed file is not in approvals/" in found.absent[0].problem


def test_an_approval_that_was_written_into_a_verdict_is_found(approved: tuple[Path, Verdict]) -> None:
    folder, verdict = approved
    officer = keys.load_public(folder / "officer.pub")
    renamed = tuple(replace(one, approver=one.approver.replace("Ada", "Eve")) for one in verdict.approvals)
    rules = tuple(replace(one, reason=one.reason.replace("Ada", "Eve")) for one in verdict.rules)
    found = check(replace(verdict, approvals=renamed, rules=rules), SIGNED, run_folder=folder, approvers=[officer])
    assert "officer by Eve" in found.absent[0].problem


def test_the_notes_of_a_verdict_are_decided_again_and_one_of_before_had_none() -> None:
    policy = r.policy(r.rule())
    other = replace(GOOD, engine={"kind": "transformers", "dtype": "float16", "digest": "f"})
    verdict = r.verdict(policy, other, ANCHOR)
    assert "dtype float16" in verdict.notes[0]
    for notes in (verdict.notes, ()):
        assert check(replace(verdict, notes=notes), policy, other) == CheckedVerdict()
    (problem,) = problems(check(replace(verdict, notes=("all is well",)), policy, other))
    assert problem.endswith("with something else beside its rules")
