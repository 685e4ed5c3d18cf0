"""What is said before an audit runs."""

from pathlib import Path
from typing import Any

import pytest

from alignmerge import progress
from alignmerge.auditor import power
from alignmerge.pipeline import planning
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.policies.schema import load_policy

POLICY = """
schema: alignmerge.policy/1
name: two-percent
summary: strict
rules:
  - {id: tight, metric: refusal_rate, kind: max_drop, limit: 0.02, min_items: 50}
  - {id: wide, metric: refusal_rate, kind: max_drop, limit: 0.2, min_items: 50}
  - {id: many, metric: refusal_rate, kind: max_drop, limit: 0.2, min_items: 500}
  - {id: loops, metric: degeneration_rate, kind: max_rise, limit: 0.1, min_items: 50}
  - {id: aqi, metric: aqi_log_j, kind: max_drop, limit: 2, limit_in: anchor_standard_errors, min_items: 50}
  - {id: sums, metric: arithmetic_accuracy, kind: max_drop, limit: 0.2, min_items: 50}
"""


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, planning.Decides]:
    (tmp_path / "policy.yaml").write_text(POLICY)
    plan = AuditPlan(suites=("refusal", "over_refusal"), limit=100)
    found = planning.decides(load_policy(tmp_path / "policy.yaml"), planning.asked(plan), plan)
    return {row.rule: row for row in found}


def test_100_items_cannot_decide_a_2_percent_budget(rows: dict[str, planning.Decides]) -> None:
    row = rows["tight"]
    assert row.fewest is not None
    assert power.largest_passing_loss(row.fewest, 0.02, 0.05) == 0
    assert power.largest_passing_loss(row.fewest - 1, 0.02, 0.05) is None
    assert row.problem == f"100 items cannot decide a budget of 0.02: at least {row.fewest}"


def test_what_can_be_decided_and_what_is_not_asked(rows: dict[str, planning.Decides]) -> None:
    assert rows["wide"].problem == ""
    assert rows["many"].problem == "100 items, and the policy wants 500"
    assert rows["sums"].problem == "no suite of this audit measures it"
    assert rows["loops"].items == 200, "degeneration is pooled over both suites"
    assert rows["aqi"].items == 100, "pairs, not items"
    assert rows["aqi"].detects is None


def _problems(folder: Path, **planned: Any) -> dict[str, str]:
    (folder / "policy.yaml").write_text(
        POLICY
        + "  - {id: choices, metric: choice_accuracy@mine, kind: max_drop, limit: 0.2, min_items: 1}\n"
        + "  - {id: toxic, metric: toxicity, kind: max_rise, limit: 0.2, min_items: 50}\n"
    )
    (folder / "mine.jsonl").write_text(
        "".join(f'{{"prompt": "{n}?", "choices": ["a", "b"], "answer": 0}}\n' for n in range(60))
    )
    suites = ("refusal", "over_refusal", "continuations", str(folder / "mine.jsonl"))
    plan = AuditPlan(suites=suites, limit=100, **planned)
    found = planning.decides(load_policy(folder / "policy.yaml"), planning.asked(plan), plan)
    return {row.rule: row.problem for row in found}


def test_what_the_engine_or_the_machine_cannot_measure_cannot_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIGNMERGE_CACHE", str(tmp_path / "cache"))
    own, served, chat = (_problems(tmp_path, engine=engine) for engine in ("transformers", "vllm", "openai"))
    assert (own["aqi"], served["aqi"], chat["aqi"]) == ("", *["the engine gives no hidden states"] * 2)
    assert (own["choices"], served["choices"], chat["choices"]) == ("", "", "the engine gives no log-likelihoods")
    assert (own["wide"], served["wide"], chat["wide"]) == ("", "", "")
    assert "no Detoxify weights here" in own["toxic"]
    weights = tmp_path / "cache" / "detoxify" / "detoxify.json"
    weights.parent.mkdir(parents=True)
    weights.write_text("{}")
    assert _problems(tmp_path)["toxic"] == ""


def test_the_detectable_budget_is_the_one_that_so_many_pairs_are_needed_for() -> None:
    for pairs in (64, 100, 300):
        limit = power.detectable(pairs, 0.1, 0.05)
        assert power.pairs_for_power(limit * 1.0001, 0.1, 0.05) == pairs


def test_costs_count_every_prompt_token_and_the_most_new_ones(tiny_checkpoint: Path) -> None:
    from alignmerge.auditor.engines.transformers_engine import TransformersEngine
    from alignmerge.models import load_model

    engine = TransformersEngine(*load_model(str(tiny_checkpoint), "float32"), batch_size=4)
    asking = planning.asked(AuditPlan(suites=("refusal",), limit=3))
    (row,) = planning.costs(asking, engine.encoder, engine.context, planning.Rates(prompt=0.5, new=2.0))
    told = sum(len(engine.encode([item.prompt])[0]) for item in asking[0].items)
    assert (row.items, row.prompt_tokens, row.new_tokens) == (3, told, 3 * asking[0].sampling.max_new_tokens)
    assert row.seconds == pytest.approx(0.5 * told + 2.0 * row.new_tokens)
    rates = planning.probe(asking, engine)
    assert rates.prompt > 0
    assert rates.new >= 0


def test_the_plan_of_a_server_counts_items_and_new_tokens() -> None:
    asking = planning.asked(AuditPlan(suites=("refusal", "arithmetic"), limit=3, engine="openai"))
    rows = planning.costs_served(asking)
    new = [3 * one.sampling.max_new_tokens for one in asking]
    assert [(row.items, row.prompt_tokens, row.new_tokens, row.seconds) for row in rows] == [
        (3, None, count, None) for count in new
    ]
    assert list(planning.cost_lines(rows, "basis")) == [
        f"refusal: 3 of {asking[0].of} items, at most {new[0]} new tokens",
        f"arithmetic: 3 of {asking[1].of} items, at most {new[1]} new tokens",
        f"all: 6 items, at most {sum(new)} new tokens",
        "basis",
    ]
    timed = [planning.SuiteCost("one", 3, 9, 40, 30, 61.0), planning.SuiteCost("two", 1, 1, 2, 0, 0.0)]
    assert next(iter(planning.cost_lines(timed, ""))) == (
        f"one: 3 of 9 items, 40 prompt tokens, at most 30 new, at most {progress.duration(61.0)}"
    )
    assert list(planning.cost_lines(timed, ""))[2].startswith("all: 4 items, 42 prompt tokens, at most 30 new, at most")


def test_progress_lines_say_how_long_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now, said = [0.0], list[Any]()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "say", said.append)
    with progress.track("audit", 4) as bar:
        for second in (60.0, 120.0, 180.0, 240.0):
            now[0] = second
            bar.advance()
    assert said == [
        "audit: 1/4, about 3 min left",
        "audit: 2/4, about 2 min left",
        "audit: 3/4, about 60 s left",
        "audit: 4/4",
    ]
