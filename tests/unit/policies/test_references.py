"""Whom a rule measures from, as its row says it: the root of a lineage, by whose word, and how far back."""

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignmerge.errors import RecordError
from alignmerge.policies.references import References, check_root, needs_experts, needs_lineage
from alignmerge.policies.verdict import Lineage, Spent

r = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("records.py"))))
ANCHOR = r.audit({"refusal_rate": r.ones(290, 320)}, name="anchor")
ROOT = r.audit({"refusal_rate": r.ones(310, 320)}, name="root")
GOOD = r.audit({"refusal_rate": r.ones(305, 320)})
FROM_ROOT = r.rule(against="root")
UNMEASURED = replace(ROOT, metrics=(), items=())


def decided(rule: dict[str, Any], **given: Any) -> Any:
    (row,) = r.verdict(r.policy(rule), GOOD, ANCHOR, **given).rules
    return row


@pytest.mark.parametrize(("merges", "told"), [(1, "1 earlier merge back"), (3, "3 earlier merges back")])
def test_a_root_that_the_ledger_knows_is_named_with_its_distance(merges: int, told: str) -> None:
    row = decided(FROM_ROOT, lineage=Lineage(ROOT.checkpoint, merges), root=ROOT)
    assert (row.decision, row.anchor) == ("pass", 310 / 320)
    assert row.reason.endswith(f"; compared with the root anchor, {ROOT.checkpoint[:12]}, {told}")


@pytest.mark.parametrize("lineage", [None, Lineage(ROOT.checkpoint, 1)])
def test_F09_what_the_root_lacks_is_said_of_the_root(lineage: Any) -> None:
    row = decided(FROM_ROOT, lineage=lineage, root=UNMEASURED)
    assert (row.decision, row.reason) == ("inconclusive", "refusal_rate was not measured on the root anchor")


def test_F09_what_an_anchor_that_is_the_root_lacks_is_said_of_the_root() -> None:
    bare = replace(UNMEASURED, checkpoint=ANCHOR.checkpoint)
    (row,) = r.verdict(r.policy(FROM_ROOT), GOOD, bare, lineage=Lineage(bare.checkpoint, 0)).rules
    assert row.reason == "refusal_rate was not measured on the root anchor"


def test_an_anchor_that_is_its_own_root_after_merges_needs_no_note() -> None:
    lineage = Lineage(ANCHOR.checkpoint, 2, {"refusal_rate": Spent(0.5, 0.5)})
    found = References(GOOD, ANCHOR, (), None, lineage).of(r.policy(FROM_ROOT).rules[0])
    assert (found.record, found.role, found.note, found.spent) == (ANCHOR, "root anchor", "", None)


def test_an_audit_of_another_checkpoint_is_no_root_and_both_are_named() -> None:
    message = f"the audit of the root is of {ROOT.checkpoint[:12]}, not {'f' * 12}"
    with pytest.raises(RecordError) as found:
        check_root(ROOT, Lineage("f" * 64, 1))
    assert str(found.value) == message
    check_root(ROOT, Lineage(ROOT.checkpoint, 1))


@pytest.mark.parametrize(
    ("against", "experts", "lineage"), [("anchor", False, False), ("best_expert", True, False), ("root", False, True)]
)
def test_what_a_policy_needs_besides_the_anchor(against: str, experts: bool, lineage: bool) -> None:
    policy = r.policy(r.rule(against=against), r.rule("degeneration_rate"))
    assert (needs_experts(policy), needs_lineage(policy)) == (experts, lineage)


@pytest.mark.parametrize(
    ("against", "given", "role"),
    [("root", {"root": GOOD}, "root anchor"), ("best_expert", {"experts": [GOOD]}, "best expert")],
)
def test_a_candidate_that_is_compared_with_itself_is_said_to_be(against: str, given: dict[str, Any], role: str) -> None:
    row = decided(r.rule(against=against), **given)
    assert (row.decision, row.value) == ("pass", 0.0)
    assert row.reason.endswith(f"; candidate and {role} are the same checkpoint")
