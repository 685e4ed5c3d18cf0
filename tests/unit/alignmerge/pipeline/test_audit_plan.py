"""What is asked: by `alignmerge audit`, of a merge, and what a policy needs besides."""

import pytest

from alignmerge.auditor.record import AuditRecord, SuiteUse
from alignmerge.pipeline.audit_plan import AUDIT_SUITES, DEFAULT_SUITES, AuditPlan, dtype_of, suites_for, suites_of
from alignmerge.policies.model import Policy, Rule
from alignmerge.policies.schema import load_policy
from alignmerge.suites.model import select
from alignmerge.suites.registry import SUITES

OF_A_MERGE = ("refusal", "over_refusal", "arithmetic", "instructions", "units")


def policy(metric: str, suite: str | None = None) -> Policy:
    rule = Rule(id="one", metric=metric, kind="min", limit=0.1, min_items=10, suite=suite)
    return Policy(schema="alignmerge.policy/1", name="p", summary="s", rules=(rule,))


def test_an_audit_asks_a_hundred_continuations_and_two_hundred_of_everything_else() -> None:
    assert (*OF_A_MERGE, "continuations") == AUDIT_SUITES
    counts = {name: len(select(SUITES[name], "test")) for name in AUDIT_SUITES}
    assert counts.pop("continuations") >= 100
    assert min(counts.values()) >= 200
    assert not SUITES["continuations"].ends, "a continuation is cut off by design, which is not degenerate"


@pytest.mark.parametrize("name", ["release", "demo", "research"])
def test_a_merge_is_asked_what_it_always_was(name: str) -> None:
    assert DEFAULT_SUITES == OF_A_MERGE == AuditPlan().suites
    assert AuditPlan.of("bfloat16", 64, load_policy(name)) == AuditPlan.of("bfloat16", 64)
    assert AuditPlan.of("float16", policy=load_policy(name)).suites == OF_A_MERGE


@pytest.mark.parametrize(
    ("wanted", "more"),
    [
        (load_policy("regulated"), ("continuations",)),
        (policy("severe_toxicity"), ("continuations",)),
        (policy("degeneration_rate", suite="helpfulness"), ("helpfulness",)),
        (policy("helpfulness_score"), ("helpfulness",)),
        (policy("judged_refusal_rate"), ()),  # a judge reads it in the suite refusal
        (policy("match_rate@mine"), ()),  # its rows are nowhere
        (policy("refusal_rate", suite="refusal"), ()),
    ],
)
def test_a_policy_is_asked_what_its_rules_need(wanted: Policy, more: tuple[str, ...]) -> None:
    assert suites_for(wanted) == (*OF_A_MERGE, *more)
    assert AuditPlan.of("bfloat16", policy=wanted).suites == suites_for(wanted)


def test_evidence_of_a_classifier_needs_something_it_can_read() -> None:
    asked = load_policy("regulated")
    assert "continuations" in suites_for(asked.model_copy(update={"rules": policy("refusal_rate").rules}))


def test_with_an_anchor_an_audit_asks_what_the_anchor_was_asked() -> None:
    uses = tuple(SuiteUse(name, "1", "d" * 64, "test", 1, 1) for name in ("refusal", "units", "mine"))
    anchor = AuditRecord("c" * 64, "a", uses, (), (), {}, {}, {}, 0, {}, "2026-01-01T00:00:00+00:00")
    assert suites_of(anchor) == ("refusal", "units")
    assert suites_of(None) == AUDIT_SUITES


@pytest.mark.parametrize(
    ("engine", "dtype"),
    [({"dtype": "float32"}, "float32"), ({"dtype": "bfloat16"}, "bfloat16"), ({"dtype": "float16"}, "bfloat16"),
     ({"kind": "openai"}, "bfloat16"), ({"dtype": ["float32"]}, "bfloat16")],
)  # fmt: skip
def test_with_an_anchor_an_audit_computes_in_what_the_anchors_did(engine: dict[str, object], dtype: str) -> None:
    anchor = AuditRecord("c" * 64, "a", (), (), (), {}, {}, engine, 0, {}, "2026-01-01T00:00:00+00:00")
    assert dtype_of(anchor) == dtype
    assert dtype_of(None) == "bfloat16"
