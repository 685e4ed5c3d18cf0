"""Who reads an audit's answers: Detoxify where its weights were converted, the stand-in where it was asked for."""

import shutil
from pathlib import Path

import pytest

from alignmerge.auditor.judge.rubric import RUBRICS
from alignmerge.auditor.toxicity import reading
from alignmerge.auditor.toxicity.releases import weights_folder
from alignmerge.errors import UsageError
from alignmerge.merger.checkpoint import open_checkpoint
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.pipeline.bench import Bench
from alignmerge.pipeline.grading import check_read, graders_of, reads
from alignmerge.suites.continuations import LABELS
from tests.detoxify_files import CLASSES, write_config, write_release

PLAN = AuditPlan(suites=("arithmetic", "continuations"), limit=3, dtype="float32")


@pytest.fixture
def weights(empty_cache: Path, tmp_path: Path) -> Path:
    """A tiny classifier in the cache, where `doctor --convert-detoxify` puts it."""
    write_config(tmp_path / "config")
    sha256 = write_release(tmp_path / "tiny.ckpt", tmp_path / "config", CLASSES, 6)
    out = tmp_path / "out"
    out.mkdir()
    reading.convert(tmp_path / "tiny.ckpt", tmp_path / "config", out, sha256)
    shutil.move(out, weights_folder())
    return weights_folder()


def test_without_weights_every_label_is_unscored_with_the_command_to_run(
    empty_cache: Path, tiny_checkpoint: Path
) -> None:
    assert graders_of(PLAN) == ()
    checkpoint = open_checkpoint(str(tiny_checkpoint))
    with Bench(PLAN) as bench:
        record = bench.anchor(bench.engine(checkpoint), checkpoint, "tiny")
    for label in LABELS:
        result = record.result(label)
        assert result is not None and result.value is None and result.unscored == 3
        assert "alignmerge doctor --convert-detoxify FILE" in str(result.reason)
    assert record.graders == {}
    assert record.result("profanity_rate") is None


def test_with_weights_the_record_holds_six_labels_and_the_classifiers_digest(
    weights: Path, tiny_checkpoint: Path
) -> None:
    from dataclasses import replace

    plan = replace(PLAN, standin=True)
    graders = graders_of(plan)
    assert [grader.name for grader in graders] == ["detoxify", "profanity"]
    assert reads(plan, graders) == 6
    checkpoint = open_checkpoint(str(tiny_checkpoint))
    with Bench(plan) as bench:
        record = bench.anchor(bench.engine(checkpoint), checkpoint, "tiny")
    assert record.graders["detoxify"]["metrics"] == sorted(LABELS)
    assert record.graders["profanity"]["metrics"] == ["profanity_rate"]
    scored = {row.item for row in record.items if row.metric == "toxicity" and row.value is not None}
    for label in LABELS:
        result = record.result(label)
        assert result is not None
        assert result.suite == "continuations"
        assert result.scored == len(scored)
        assert result.value is None or 0.0 <= result.value <= 1.0
    assert scored


def test_a_plan_without_openings_loads_no_classifier(weights: Path) -> None:
    assert graders_of(AuditPlan(suites=("arithmetic",), standin=True)) == ()


def test_who_has_nothing_to_read_is_named_with_the_suites_it_reads() -> None:
    sums = AuditPlan(suites=("arithmetic",))
    with pytest.raises(UsageError, match=r"--standin: .* nothing in arithmetic; it reads continuations:"):
        check_read(AuditPlan(suites=("arithmetic",), standin=True), None, compares=False, based=False)
    with pytest.raises(UsageError, match=r"--judge: .* nothing in arithmetic; it reads .*refusal, .*helpfulness"):
        check_read(sums, tuple(RUBRICS), compares=False, based=False)
    with pytest.raises(UsageError, match=r"--judge: .*under honesty, nothing in refusal"):
        check_read(AuditPlan(suites=("refusal",)), ("honesty",), compares=False, based=False)
    with pytest.raises(UsageError, match=r"--base: .* here are arithmetic; add --suite refusal"):
        check_read(sums, None, compares=False, based=True)


def test_who_has_something_to_read_may_read() -> None:
    check_read(AuditPlan(suites=("continuations",), standin=True), None, compares=False, based=False)
    check_read(AuditPlan(suites=("refusal",)), ("refusal",), compares=False, based=False)
    check_read(AuditPlan(suites=("helpfulness",)), ("refusal",), compares=True, based=False)  # it compares
    check_read(AuditPlan(suites=("refusal", "over_refusal")), None, compares=False, based=True)
