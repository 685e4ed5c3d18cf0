"""Whole audits of a tiny model: what the record says, what is asked again and what is not."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from alignmerge.auditor import record
from alignmerge.auditor.audit import audit
from alignmerge.auditor.engines.base import Answer, Sampling
from alignmerge.auditor.metrics import METRICS, get_metric
from alignmerge.auditor.pairs import pair_states
from alignmerge.auditor.record import AuditRecord
from alignmerge.auditor.scorers.aqi_validity import WeakerModel
from alignmerge.auditor.statistics import wilson
from alignmerge.auditor.store import CompletionStore
from alignmerge.errors import RecordError, TensorMismatch, UsageError
from alignmerge.pipeline.audit_showing import metric_lines
from alignmerge.suites.continuations import LABELS
from alignmerge.suites.model import Suite, items_digest

CLOCK = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Counting:
    """An engine that counts what it is asked, and may fail after some answers."""

    def __init__(self, engine: Any, fail_after: int | None = None) -> None:
        self.engine, self.asked, self.fail_after = engine, list[str](), fail_after

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def stream(self, prompts: Sequence[str], sampling: Sampling, *, states: bool = False) -> Iterator[Answer]:
        for answer in self.engine.stream(prompts, sampling, states=states):
            if self.fail_after is not None and len(self.asked) >= self.fail_after:
                raise TensorMismatch("out of order")
            self.asked.append(prompts[answer.index])
            yield answer


def run(engine: Any, suites: Sequence[Suite], **knobs: Any) -> AuditRecord:
    knobs = {"checkpoint": "a" * 64, "name": "tiny", "aqi_fit_pairs": 12, "clock": lambda: CLOCK} | knobs
    return audit(engine, suites=suites, **knobs)


def test_the_record_says_what_was_asked_and_found(tiny_engine: Any, suites: tuple[Suite, ...], tmp_path: Path) -> None:
    told: list[int] = []
    found = run(tiny_engine, suites, progress=told.append)
    assert sum(told) == 36
    assert [metric.metric for metric in found.metrics] == [
        "refusal_rate",
        "over_refusal_rate",
        "arithmetic_accuracy",
        "degeneration_rate",
        "aqi_log_j",
        "aqi_paper",
    ]
    assert len(found.items) == 36 * 2
    for use, suite in zip(found.suites, suites, strict=True):
        assert use.digest == items_digest(suite, suite.items("test"))
        assert (use.items, use.of, use.split) == (12, 12, "test")
    assert found.created == "2026-01-02T03:04:05+00:00"
    assert found.template["digest"] == tiny_engine.describe()["template"]
    assert found.engine["digest"] == tiny_engine.describe()["digest"]
    assert record.load(record.save(found, tmp_path)) == found
    assert found == run(tiny_engine, suites)


def test_rates_are_means_of_their_items_with_wilson_intervals(tiny_engine: Any, suites: tuple[Suite, ...]) -> None:
    found = run(tiny_engine, suites)
    for metric in found.metrics[:4]:
        values = [row.value for row in found.items if row.metric == metric.metric and row.value is not None]
        assert (metric.scored, metric.unscored) == (len(values), 0)
        assert metric.value == sum(values) / len(values)
        assert metric.interval == wilson(sum(values), len(values), 0.95)
        assert (metric.unit, metric.direction) == ("rate", METRICS[metric.metric].direction)


def test_categories_add_up_to_the_metric_and_have_intervals_of_their_own(
    tiny_engine: Any, suites: tuple[Suite, ...], tmp_path: Path
) -> None:
    items = suites[2].items("test")
    assert len({item.category for item in items}) == 1
    named = [replace(item, category=f"level_{index % 3}") for index, item in enumerate(items)]
    named[0] = replace(named[0], reference={})  # nothing to read the answer by
    levels = replace(suites[2], items=lambda split: tuple(named))
    found = run(tiny_engine, [levels])
    result = found.result("arithmetic_accuracy")
    assert result is not None and result.detail is not None
    categories = result.detail["categories"]
    assert set(categories) == {"level_0", "level_1", "level_2"}
    for name, one in categories.items():
        values = [row.value for row in found.items if row.metric == result.metric and row.category == name]
        scored = [value for value in values if value is not None]
        assert (one["scored"], one["unscored"]) == (len(scored), len(values) - len(scored))
        assert one["value"] == sum(scored) / len(scored)
        interval = wilson(sum(scored), len(scored), 0.95)
        assert (one["low"], one["high"]) == (interval.low, interval.high)
    assert categories["level_0"]["unscored"] == 1
    assert sum(one["scored"] for one in categories.values()) == result.scored
    assert record.load(record.save(found, tmp_path)) == found
    pooled = found.result("degeneration_rate")
    assert pooled is not None and pooled.detail is None
    alone = run(tiny_engine, suites).result("arithmetic_accuracy")
    assert alone is not None and alone.detail is None
    shown = list(metric_lines(found))
    assert shown[0].startswith("arithmetic_accuracy ")
    assert [line.split()[0] for line in shown[1:4]] == ["level_0", "level_1", "level_2"]
    assert shown[1].endswith("n=3, unscored=1")


def test_degeneration_pools_all_suites_under_distinct_ids(tiny_engine: Any, suites: tuple[Suite, ...]) -> None:
    found = run(tiny_engine, suites)
    rows = found.scores("degeneration_rate")
    assert len(rows) == 36
    assert all(name.startswith(f"{row.suite}/") for name, row in rows.items())


def test_nothing_scored_is_no_value(tiny_engine: Any, suites: tuple[Suite, ...]) -> None:
    items = tuple(replace(item, reference={}) for item in suites[2].items("test"))
    unreadable = replace(suites[2], items=lambda split: items)
    result = run(tiny_engine, [unreadable]).result("arithmetic_accuracy")
    assert result is not None
    assert (result.value, result.interval, result.scored, result.unscored) == (None, None, 0, 12)
    assert "no number" in str(result.reason)


def test_a_smaller_audit_is_part_of_a_larger_one(tiny_engine: Any, suites: tuple[Suite, ...]) -> None:
    small, large = run(tiny_engine, suites, limit=9), run(tiny_engine, suites)
    assert {row.item for row in small.items} < {row.item for row in large.items}
    harmful, harmless = ({row.item.split("/")[-1] for row in small.items if row.suite == s.name} for s in suites[:2])
    assert len(harmful) == 9
    assert harmful == harmless
    result = small.result("aqi_log_j")
    assert result is not None
    assert result.scored == 9


def test_I09_batch_size_does_not_change_scores(tiny: tuple[Any, Any], suites: tuple[Suite, ...]) -> None:
    from alignmerge.auditor.engines.transformers_engine import TransformersEngine

    one, many = (run(TransformersEngine(*tiny, batch_size=size), suites) for size in (1, 32))
    assert one.items == many.items
    assert one.metrics[:4] == many.metrics[:4]


def test_I09_item_order_does_not_change_the_record(tiny_engine: Any, suites: tuple[Suite, ...]) -> None:
    backwards = [replace(suite, items=lambda split, suite=suite: suite.items(split)[::-1]) for suite in suites]  # type: ignore[misc]
    assert run(tiny_engine, backwards) == run(tiny_engine, suites)


def test_I04_a_broken_run_goes_on_where_it_stopped(tiny_engine: Any, suites: tuple[Suite, ...], tmp_path: Path) -> None:
    whole = run(tiny_engine, suites)
    with CompletionStore(tmp_path / "s") as store:
        first = Counting(tiny_engine, fail_after=20)
        with pytest.raises(TensorMismatch):
            run(first, suites, store=store)
        second = Counting(tiny_engine)
        resumed = run(second, suites, store=store)
        assert sorted(first.asked[:20] + second.asked) == sorted({row.prompt for row in whole.items})
        assert resumed.items == whole.items
        third = Counting(tiny_engine)
        again = run(third, suites, store=store)
        assert third.asked == []
        assert again == resumed


def test_the_anchor_fits_and_candidates_use_its_reference(tiny_engine: Any, suites: tuple[Suite, ...]) -> None:
    anchor = run(tiny_engine, suites)
    assert "self-anchored" in anchor.notes[0]
    assert anchor.aqi_reference is not None
    candidate = run(tiny_engine, suites, aqi_reference=anchor.aqi_reference)
    assert candidate.notes == ()
    assert candidate.aqi_reference == anchor.aqi_reference
    ours, theirs = anchor.result("aqi_log_j"), candidate.result("aqi_log_j")
    assert ours is not None
    assert theirs is not None
    assert ours.replicates == pytest.approx(theirs.replicates)
    assert len(ours.replicates) == 1000
    assert (ours.valid, theirs.valid) == (None, None)  # no weaker model, so no gate ran


def test_weaker_models_decide_validity_on_the_same_pairs(tiny_engine: Any, suites: tuple[Suite, ...]) -> None:
    states = pair_states(tiny_engine, suites)
    result = run(tiny_engine, suites, weaker=[WeakerModel("base", states)]).result("aqi_log_j")
    assert result is not None
    assert result.valid is False  # a model is not above itself
    fewer = pair_states(tiny_engine, suites, limit=10)
    with pytest.raises(RecordError, match="other pairs"):
        run(tiny_engine, suites, weaker=[WeakerModel("base", fewer)])
    reference = run(tiny_engine, suites).aqi_reference
    with pytest.raises(RecordError, match="anchor's audit"):
        run(tiny_engine, suites, aqi_reference=reference, weaker=[WeakerModel("base", states)])


def test_without_calibration_pairs_aqi_is_missing_with_a_reason(tiny_engine: Any, suites: tuple[Suite, ...]) -> None:
    only_test = [replace(s, items=lambda split, s=s: s.items("test") if split == "test" else ()) for s in suites]  # type: ignore[misc]
    result = run(tiny_engine, only_test).result("aqi_log_j")
    assert result is not None
    assert result.value is None
    assert "calibration" in str(result.reason)


def test_too_few_pairs_leave_aqi_unmeasured(tiny_engine: Any, suites: tuple[Suite, ...]) -> None:
    weaker = [WeakerModel("base", pair_states(tiny_engine, suites, limit=5))]
    found = run(tiny_engine, suites, limit=5, weaker=weaker)
    result = found.result("aqi_log_j")
    assert result is not None
    assert (result.value, result.unscored) == (None, 5)
    assert "at least 8" in str(result.reason)
    assert found.aqi_reference is None


def test_without_pairs_there_is_no_aqi(tiny_engine: Any, suites: tuple[Suite, ...]) -> None:
    found = run(tiny_engine, suites[2:])
    assert found.result("aqi_log_j") is None
    assert found.aqi_reference is None


def test_I11_suites_without_sense_are_refused(tiny_engine: Any, suites: tuple[Suite, ...]) -> None:
    twice = replace(suites[2], items=lambda split: suites[2].items(split) * 2)
    empty = replace(suites[2], items=lambda split: ())
    for bad in (twice, empty):
        with pytest.raises(RecordError) as raised:
            run(tiny_engine, [bad])
        assert raised.value.exit_code == 5
    for knobs in ({"suites": []}, {"suites": suites + suites}, {"suites": suites, "limit": 0}):
        with pytest.raises(UsageError):
            run(tiny_engine, knobs.pop("suites"), **knobs)
    with pytest.raises(UsageError, match="did you mean refusal_rate"):
        run(tiny_engine, [replace(suites[0], metrics=("refusal_rat",))])


def test_every_metric_has_one_way_to_be_computed() -> None:
    for metric in METRICS.values():
        assert (metric.scorer is None) == (metric.level in ("set", "graded"))
        assert (metric.grader is None) == (metric.level != "graded")
        assert get_metric(metric.id) is metric
    assert {name for name, metric in METRICS.items() if metric.direction == "lower"} == {
        "over_refusal_rate",
        "over_refusal_likelihood",
        "degeneration_rate",
        "judged_over_refusal_rate",
        "profanity_rate",
        *LABELS,
    }


def test_metrics_are_known_without_loading_torch() -> None:
    import subprocess
    import sys

    code = "import sys, alignmerge.auditor.metrics; sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    root = Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
