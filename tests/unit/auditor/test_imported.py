"""Results of lm-eval and inspect_ai as evidence: what is taken, and what is refused."""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from alignmerge.auditor import foreign, record
from alignmerge.auditor.imported.evidence import Directions, added, to_record
from alignmerge.auditor.imported.files import read_files
from alignmerge.auditor.metrics import METRICS, get_metric
from alignmerge.errors import RecordError, UsageError
from alignmerge.policies.decide import decide
from alignmerge.policies.schema import load_policy
from tests.imported_files import DATE, inspect_log, lm_eval_run, lm_eval_sample

NOTHING = Directions()
NOW = "2026-11-23T00:00:00+00:00"
POLICY = """
schema: alignmerge.policy/1
name: imported
summary: sums
rules:
  - {id: sums, metric: "lm_eval/sums/exact_match", kind: max_drop, limit: 0.2, min_items: 20, evidence: %s}
"""


def _record(path: Path, digit: str) -> record.AuditRecord:
    return to_record(read_files([path], NOTHING), digit * 64, "model")


@pytest.mark.parametrize(
    ("name", "unit", "direction"),
    [
        ("lm_eval/gsm8k/exact_match,strict-match", "rate", "higher"),
        ("lm_eval/wikitext/word_perplexity", "ratio", "lower"),
        ("lm_eval/mmlu_law/acc", "rate", "higher"),
        ("inspect/evals/gsm8k/match/accuracy", "rate", "higher"),
        ("lm_eval/own/warmth:lower", "score", "lower"),
    ],
)
def test_metrics_of_other_tools_have_unit_and_direction(name: str, unit: str, direction: str) -> None:
    found = get_metric(name)
    assert (found.id, found.unit, found.direction, found.level) == (name, unit, direction, "imported")
    assert name in METRICS


@pytest.mark.parametrize(
    "name",
    ["lm_eval/own/warmth", "lm_eval/acc", "lm_eval//acc", "lm_eval/t/acc:lower", "lm_eval/t/warmth:up", "helm/t/acc",
     "lm_eval/t t/acc", "inspect/t/s/mean"],
)  # fmt: skip
def test_names_whose_direction_is_not_known_are_no_metrics(name: str) -> None:
    assert foreign.meaning(name) is None
    with pytest.raises(UsageError):
        get_metric(name)


def test_lm_eval_items_interval_and_digests_of_files(tmp_path: Path) -> None:
    path = lm_eval_run(tmp_path, [1.0, 0.0, 1.0, 1.0])
    found = _record(tmp_path, "a")
    result = found.result("lm_eval/sums/exact_match")
    assert result is not None
    assert (result.value, result.scored, result.suite) == (0.75, 4, "lm_eval/sums")
    assert result.interval is not None and result.interval.method.startswith("wilson")
    row = found.scores("lm_eval/sums/exact_match")["sums/1"]
    assert (row.value, row.prompt) == (0.0, "user: What is 1 + 1?")
    files = {one["file"]: one["sha256"] for one in found.engine["imported"][0]["files"]}
    assert files[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(files) == 2
    assert found.engine["declared"] and any("declared" in note for note in found.notes)
    saved = record.save(found, tmp_path / "record")
    assert record.load(saved) == found


def test_without_samples_the_interval_is_the_tools_own(tmp_path: Path) -> None:
    path = lm_eval_run(tmp_path, [1.0, 0.0])
    result = to_record(read_files([path], NOTHING), "a" * 64, "m").result("lm_eval/sums/exact_match")
    assert result is not None and result.interval is not None
    assert result.interval.high - result.interval.low == pytest.approx(2 * 1.96 * 0.1, rel=1e-3)


def test_two_runs_compare_only_on_the_same_items_and_settings(tmp_path: Path) -> None:
    digests = []
    for number, (values, changes) in enumerate(
        [([1.0] * 5, {}), ([0.0] * 5, {}), ([1.0] * 4, {}), ([1.0] * 5, {"n-shot": {"sums": 5}})]
    ):
        lm_eval_run(tmp_path / str(number), values, **changes)
        digests.append(_record(tmp_path / str(number), "a").suites[0].digest)
    assert digests[0] == digests[1], "answers and scores must not change what was asked"
    assert len(set(digests)) == 3


@pytest.mark.parametrize(("evidence", "decision"), [("declared", "PASS"), ("measured", "INCONCLUSIVE")])
def test_a_policy_decides_on_them_only_where_it_takes_a_declared_checkpoint(
    tmp_path: Path, evidence: str, decision: str
) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY % evidence)
    lm_eval_run(tmp_path / "candidate", [1.0] * 40)
    lm_eval_run(tmp_path / "anchor", [1.0] * 40)
    candidate, anchor = _record(tmp_path / "candidate", "a"), _record(tmp_path / "anchor", "b")
    verdict = decide(load_policy(tmp_path / "policy.yaml"), candidate, anchor, created=NOW, version="0")
    assert verdict.decision == decision


def test_results_added_to_a_measured_audit_stay_declared(tmp_path: Path) -> None:
    import dataclasses

    (tmp_path / "policy.yaml").write_text(POLICY % "measured")
    for name in ("candidate", "anchor"):
        lm_eval_run(tmp_path / name, [1.0] * 40)
    records = []
    for name in ("candidate", "anchor"):
        parts = read_files([tmp_path / name], NOTHING)
        measured = dataclasses.replace(
            to_record(parts, "a" * 64, name), suites=(), metrics=(), items=(), engine={"kind": "transformers"}
        )
        records.append(added(measured, parts))
        with pytest.raises(RecordError, match="already"):
            added(records[-1], parts)
    verdict = decide(load_policy(tmp_path / "policy.yaml"), *records, created=NOW, version="0")
    assert verdict.decision == "INCONCLUSIVE"
    assert "declared" in verdict.rules[0].reason


def _samples(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / f"samples_sums_{DATE}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_samples_that_contradict_their_summary_are_refused(tmp_path: Path) -> None:
    lm_eval_run(tmp_path, [1.0, 0.0])
    _samples(tmp_path, [lm_eval_sample(0, 1.0), lm_eval_sample(1, 1.0)])
    with pytest.raises(RecordError, match="contradicts its samples"):
        read_files([tmp_path], NOTHING)


@pytest.mark.parametrize("rows", [[0], [0, 0], [0, 1, 2]])
def test_samples_that_are_not_those_of_the_run_are_refused(tmp_path: Path, rows: list[int]) -> None:
    lm_eval_run(tmp_path, [1.0, 0.0])
    _samples(tmp_path, [lm_eval_sample(doc, 1.0) for doc in rows])
    with pytest.raises(RecordError):
        read_files([tmp_path], NOTHING)


def test_hostile_numbers_and_shapes_are_refused(tmp_path: Path) -> None:
    path = lm_eval_run(tmp_path, [1.0], results={"sums": {"exact_match,none": 7.0}})
    for text in (path.read_text(), path.read_text().replace("7.0", "NaN"), '{"results": {}}', "[]"):
        path.write_text(text)
        with pytest.raises(RecordError):
            read_files([path], NOTHING)


def test_directions_must_be_known_or_given_and_agree(tmp_path: Path) -> None:
    unknown = {"results": {"sums": {"warmth,none": 0.4}}, "higher_is_better": {}}
    path = lm_eval_run(tmp_path, [1.0], **unknown)
    with pytest.raises(UsageError, match="--higher warmth or --lower warmth"):
        read_files([path], NOTHING)
    found = read_files([path], Directions(lower=frozenset({"warmth"})))[0].metrics[0]
    assert (found.metric, found.direction) == ("lm_eval/sums/warmth:lower", "lower")
    turned = lm_eval_run(tmp_path / "turned", [1.0], higher_is_better={"sums": {"exact_match": False}})
    with pytest.raises(RecordError, match="better higher and better lower"):
        read_files([turned], NOTHING)


def test_inspect_letters_become_items(tmp_path: Path) -> None:
    found = to_record(read_files([inspect_log(tmp_path / "log.json", "CCPI")], NOTHING), "a" * 64, "m")
    result = found.result("inspect/popularity/match/accuracy")
    assert result is not None
    assert (result.value, result.scored) == (0.625, 4)
    row = found.scores(result.metric)["popularity/3"]
    assert (row.value, row.prompt, row.answer) == (0.5, "question 3", "No")
    assert found.created == "2024-10-15T12:53:13-04:00"


@pytest.mark.parametrize(
    "changes",
    [{"status": "error"}, {"status": "cancelled"}, {"status": "started"}, {"invalidated": True},
     {"error": {"message": "server down"}}, {"results": None}, {"samples": []}],
)  # fmt: skip
def test_logs_of_runs_that_did_not_succeed_are_no_evidence(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(RecordError):
        read_files([inspect_log(tmp_path / "log.json", "CI", **changes)], NOTHING)


def test_an_item_on_which_the_run_failed_is_unscored(tmp_path: Path) -> None:
    path = inspect_log(tmp_path / "log.json", "CC")
    value = json.loads(path.read_text())
    value["samples"][1] |= {"error": {"message": "timeout"}, "scores": None}
    path.write_text(json.dumps(value))
    result = read_files([path], NOTHING)[0].metrics[0]
    assert (result.value, result.scored, result.unscored) == (1.0, 1, 1)


@pytest.mark.parametrize("name", ["2026-11-30_sums_Fk.eval", "renamed.json"])
@pytest.mark.parametrize("folder", [False, True])
def test_an_eval_log_of_inspect_is_named_with_the_command_that_converts_it(
    name: str, folder: bool, tmp_path: Path
) -> None:
    path = tmp_path / name
    with zipfile.ZipFile(path, "w") as log:
        log.writestr("header.json", inspect_log(tmp_path / "log", "C").read_text())
    with pytest.raises(RecordError) as caught:
        read_files([tmp_path if folder else path], NOTHING)
    assert f"inspect log convert {path} --to json" in str(caught.value)
    assert caught.value.exit_code == 5


def test_a_log_that_was_converted_beside_itself_is_read_from_its_json(tmp_path: Path) -> None:
    inspect_log(tmp_path / "log.json", "CI")
    (tmp_path / "log.eval").write_bytes(b"PK")
    assert len(read_files([tmp_path], NOTHING)) == 1
    (tmp_path / "another.eval").write_bytes(b"PK")
    with pytest.raises(RecordError, match=r"another\.eval: an \.eval log"):
        read_files([tmp_path], NOTHING)


def test_samples_alone_and_foreign_files_are_refused(tmp_path: Path) -> None:
    lm_eval_run(tmp_path, [1.0]).unlink()
    with pytest.raises(RecordError, match="without the results file"):
        read_files([tmp_path], NOTHING)
    (tmp_path / "other.json").write_text('{"accuracy": 1}')
    with pytest.raises(RecordError, match="neither results of lm-eval nor"):
        read_files([tmp_path / "other.json"], NOTHING)
