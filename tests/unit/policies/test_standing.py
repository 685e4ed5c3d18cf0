"""Whether an audit may be used: its date in any zone, whose word its digest is, who graded what."""

import runpy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignmerge.policies.model import Evidence
from alignmerge.policies.standing import age_problem, evidence_problem, moment, refused, taken_in

r = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("records.py"))))
NOW = "2026-01-31T12:00:00+00:00"
AUDIT = r.audit({"refusal_rate": r.ones(290, 320)})
ANCHOR = replace(AUDIT, checkpoint="a" * 64, name="anchor")
JUDGE = {"digest": "j", "exam": {"kappa_lower": 0.9, "passed": True}}
JUDGED = r.audit(
    {"judged_harmless_rate": r.ones(300, 320), "refusal_rate": r.ones(290, 320)},
    graders={"judge": {**JUDGE, "metrics": ["judged_harmless_rate"]}},
)
IMPORTED = "lm_eval/gsm8k/exact_match"


@pytest.mark.parametrize("elsewhere", ["Asia/Tokyo", "America/New_York"])
def test_a_moment_is_in_utc_whatever_the_zone_of_this_machine(elsewhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", elsewhere)
    time.tzset()
    try:
        noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
        for text in ("2026-01-31T12:00:00", "2026-01-31T12:00:00+00:00", "2026-01-31T21:00:00+09:00"):
            found = moment(text)
            assert found == noon
            assert found is not None and found.tzinfo is UTC
    finally:
        monkeypatch.undo()
        time.tzset()
    assert moment("soon") is None


def test_clocks_may_differ_by_a_day_and_no_more() -> None:
    assert age_problem("2026-02-01T12:00:00+00:00", 30, NOW) == ""
    assert age_problem("2026-02-01T12:00:01+00:00", 30, NOW) == "is dated 2026-02-01, in the future"
    assert age_problem("2026-01-01T12:00:00+00:00", 30, NOW) == ""
    assert age_problem("2026-01-01T11:59:59+00:00", 30, NOW) == "is 30 days old; the policy takes at most 30"
    assert age_problem("soon", None, NOW) == ""


@pytest.mark.parametrize(
    ("sources", "metric", "found"),
    [
        (({"declared": True},), IMPORTED, True),
        (({},), IMPORTED, True),
        (({"declared": False},), IMPORTED, False),
        (({"declared": False}, {"declared": True}), IMPORTED, True),
        ((), IMPORTED, False),
        (({"declared": True},), "refusal_rate", False),
    ],
)
def test_what_another_tool_measured_is_somebodys_word_unless_it_was_asked_of_these_weights(
    sources: Any, metric: str, found: bool
) -> None:
    record = replace(AUDIT, engine={"digest": "e", "kind": "transformers", "imported": sources})
    assert taken_in(record, metric) is found
    rule = r.policy(r.rule()).rules[0].model_copy(update={"metric": metric})
    word = "the digest of the candidate is declared, not computed from its weights, and this rule wants it measured"
    assert refused(r.policy(r.rule()), rule, "candidate", record, ANCHOR) == (word if found else "")
    own = rule.model_copy(update={"evidence": "declared"})
    assert refused(r.policy(r.rule()), own, "candidate", record, ANCHOR) == ""


def test_a_record_of_no_other_tool_has_taken_in_nothing() -> None:
    assert taken_in(AUDIT, IMPORTED) is False


def toxic(value: float | None, **graders: Any) -> Any:
    reason = None if value is not None else "detoxify was not found; see doctor"
    row = r.MetricResult("toxicity", "s", "rate", "lower", value, 0 if value is None else 3, 0, reason=reason)
    return r.audit(results=[row], graders=graders)


def about(metric: str, record: Any, anchor: Any = ANCHOR) -> str:
    policy = r.policy(r.rule(), judge_floor=0.6)
    return refused(policy, policy.rules[0].model_copy(update={"metric": metric}), "candidate", record, anchor)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (toxic(0.1, detoxify={"digest": "g", "metrics": ("toxicity",)}), ""),
        (toxic(0.1, detoxify={"digest": "g"}), "the record does not say which detoxify read it"),
        (toxic(0.1), "the record does not say which detoxify read it"),
        (toxic(None), "detoxify was not found; see doctor"),
        (r.audit(), "the record does not say which detoxify read it"),
    ],
)
def test_a_graded_metric_without_its_grader_says_why(record: Any, said: str) -> None:
    assert about("toxicity", record) == (f"toxicity of the candidate does not count: {said}" if said else "")


def test_a_judge_that_names_no_metrics_read_none() -> None:
    assert about("refusal_rate", replace(AUDIT, graders={"judge": {"digest": "j"}})) == ""


def test_a_comparison_without_an_anchor_is_none() -> None:
    judge = {"digest": "j", "metrics": ("pairwise_win_rate",), "exam": {"kappa_lower": 0.9, "passed": True}}
    record = r.audit({"pairwise_win_rate": r.ones(320, 320)}, graders={"judge_pairwise": judge})
    assert about("pairwise_win_rate", record, None) == (
        "pairwise_win_rate of the candidate does not count: no audit of the anchor was given, and it compares with one"
    )


def evidence(kind: str, record: Any, days: int | None = None) -> tuple[str, str]:
    one = Evidence.model_validate({"id": "e", "kind": kind, "summary": "s", "max_age_days": days})
    return evidence_problem(r.policy(r.rule(), judge_floor=0.6), one, record, NOW)


def test_evidence_is_either_found_or_a_problem() -> None:
    names = ("toxicity", "insult", "threat", "obscene")
    read = r.audit({name: r.ones(1, 3) for name in names}, graders={"detoxify": {"digest": "g", "metrics": names}})
    assert evidence("toxicity_classifier", read) == ("Detoxify measured insult, obscene, threat", "")
    assert evidence("toxicity_classifier", AUDIT) == ("", "Detoxify did not read the candidate's answers")
    old = replace(read, created="2025-01-31T12:00:00+00:00")
    assert evidence("toxicity_classifier", old, 30) == (
        "", "the audit of the candidate is 365 days old; the policy takes at most 30",
    )  # fmt: skip
    assert evidence("judge_exam", AUDIT) == ("", "no judge read the candidate's answers")
    assert evidence("judge_exam", JUDGED) == ("the judge passed its exam at 0.6", "")
    failed = {"digest": "j", "metrics": (), "exam": {"kappa_lower": 0.9, "passed": False}}
    assert evidence("judge_exam", replace(JUDGED, graders={**JUDGED.graders, "judge_b": failed})) == (
        "", "the judge did not pass its exam",
    )  # fmt: skip
    beside = {"judge_pairwise": {**JUDGE, "metrics": ["pairwise_win_rate"]}, **JUDGED.graders}
    assert evidence("judge_exam", replace(JUDGED, graders=beside)) == ("the judge passed its exam at 0.6", "")


@pytest.mark.parametrize(
    "metrics",
    [None, 5, [], "judged_harmless_rate", ["judged_refusal_rate"], ["pairwise_win_rate"], ["refusal_rate"], [["x"]]],
)
def test_the_exam_of_a_judge_that_read_nothing_is_no_evidence(metrics: Any) -> None:
    grader = {key: value for key, value in {**JUDGE, "metrics": metrics}.items() if value is not None}
    problem = "the judge was examined, and the record holds no answer that it read"
    assert evidence("judge_exam", replace(JUDGED, graders={"judge": grader})) == ("", problem)


def test_readings_are_scored_answers_not_a_summary() -> None:
    claimed = replace(JUDGED, items=())
    unscored = replace(JUDGED, items=tuple(replace(row, value=None, unscored="no reply") for row in JUDGED.items))
    for record in (claimed, unscored):
        assert evidence("judge_exam", record)[0] == ""
    bare = r.audit(results=toxic(0.1).metrics, graders={"detoxify": {"digest": "g", "metrics": ["toxicity"]}})
    assert evidence("toxicity_classifier", bare) == ("", "Detoxify did not read the candidate's answers")


def test_detoxify_is_not_said_to_have_measured_what_others_do() -> None:
    claimed = replace(AUDIT, graders={"detoxify": {"digest": "g", "metrics": ["refusal_rate"]}})
    assert evidence("toxicity_classifier", claimed) == ("", "Detoxify did not read the candidate's answers")


@pytest.mark.parametrize("metrics", [5, None, "toxicity", [["toxicity"]]])
def test_a_classifier_whose_metrics_are_no_names_measured_none(metrics: Any) -> None:
    read = replace(AUDIT, graders={"detoxify": {"digest": "g", "metrics": metrics}})
    assert evidence("toxicity_classifier", read) == ("", "the record does not say which metrics Detoxify measured")
