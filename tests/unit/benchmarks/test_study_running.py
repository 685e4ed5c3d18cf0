"""The study end to end on tiny checkpoints: cells are complete, and made ones are not made again."""

from dataclasses import replace
from pathlib import Path

import pytest

from alignmerge.errors import UsageError
from alignmerge.merger.recipe import Expert, Recipe, resolve
from alignmerge.reports.loaded import load
from alignmerge.reports.render import render
from benchmarks.study import cells, checkpoints
from benchmarks.study.design import SETTINGS, ZOO, placed
from benchmarks.study.external import StudyPlan
from benchmarks.study.job import Job
from benchmarks.study.running import Asked, Inputs, Study
from benchmarks.study.tuning import Tuned, tune_setting

SIZES = {"alignment_items": 4, "training_items": 0, "expert_items": 4, "validation_items": 2}


def job(family: Path, label: str, method: str, **parameters: float) -> Job:
    experts = (Expert("ZOO/expert_a", "anchor", 1.0, "arithmetic"), Expert("ZOO/expert_b", "anchor", 1.0, "units"))
    recipe = Recipe(str(family / "anchor"), experts, method, dict(parameters), calibration=SIZES)
    return Job("control" if label == "matched" else "merge", "main", 0, "two", label, resolve(recipe))


@pytest.fixture
def study(family: Path, tmp_path: Path) -> Study:
    models = {"anchor_model": str(family / "anchor"), "unaligned_model": str(family / "base")}
    return Study(StudyPlan(limit=2), family, tmp_path / "results", tmp_path / "answers.sqlite", **models)


def test_merges_become_complete_cells_and_are_not_made_twice(study: Study, family: Path) -> None:
    soup, fisher = job(family, "alignmerge", "linear"), job(family, "fisher", "fisher", threads=1)
    matched = job(family, "matched", "task_arithmetic", scale=1.0)
    study.anchors_cell("main")
    study.run([soup, fisher])
    study.run([matched], {"matched": "alignmerge"})
    study.expert("main", 0, "arithmetic", "ZOO/expert_a")
    paths = sorted(study.results.rglob("*.json"))
    assert [path.name for path in paths] == [
        "anchor.json", "seed0-expert-arithmetic.json", "seed0-two-alignmerge.json", "seed0-two-fisher.json",
        "seed0-two-matched.json",
    ]  # fmt: skip
    found = {one.method: one for one in cells.read_all(study.results)}
    for one in found.values():
        assert set(one.suites) == {"refusal", "over_refusal", "arithmetic", "instructions", "units"}
        assert all(len(suite.bits) == 2 for suite in one.suites.values())
        assert {suite: one.suites[suite].items for suite in one.suites} == {
            suite: found["anchor"].suites[suite].items for suite in one.suites
        }
    own = found["alignmerge"]
    assert own.distance and own.distance > 0 and isinstance(own.drift["finite"], float) and own.drift["finite"] > 0
    assert "calibration_seconds" in found["fisher"].cost and "calibration_seconds" not in own.cost
    assert found["matched"].distance == pytest.approx(own.distance, rel=0.02)
    assert not any(str(family) in key for one in found.values() for key in one.inputs)
    before = {path: path.stat().st_mtime_ns for path in paths}
    study.run([soup, fisher])
    study.anchors_cell("main")
    study.expert("main", 0, "arithmetic", "ZOO/expert_a")
    assert before == {path: path.stat().st_mtime_ns for path in paths}
    assert study.missing([job(family, "alignmerge", "linear", anchor_weight=2.0)])
    assert replace(study, again=True).missing([soup]) == [soup]


def test_a_cell_of_the_same_recipe_is_not_measured_twice(study: Study, family: Path) -> None:
    """A family's point that is the method as it stands, and never a control whose scale was found on the way."""
    soup, matched = job(family, "alignmerge", "linear"), job(family, "matched", "task_arithmetic", scale=1.0)
    study.run([soup])
    study.run([matched], {"matched": "alignmerge"})
    point = replace(soup, kind="frontier", label="linear.0")
    plain = replace(matched, kind="default", label="task_arithmetic-default")
    study.run([point, plain])
    found = {one.method: one for one in cells.read_all(study.results)}
    assert found["linear.0"].made == found["alignmerge"].made  # the second it was measured in is among it
    assert found["linear.0"].notes == ["measured as merge alignmerge: the recipe is the same"]
    assert replace(found["linear.0"], kind="merge", method="alignmerge", notes=[]) == found["alignmerge"]
    assert found["task_arithmetic-default"].digest != found["matched"].digest
    assert found["task_arithmetic-default"].notes == [] and study.missing([point, plain]) == []


def test_an_expert_that_is_not_the_one_measured_is_refused_before_any_work(study: Study, family: Path) -> None:
    study.anchors_cell("main")
    study.expert("main", 1, "arithmetic", "ZOO/expert_a")
    measured = cells.read(study.results / "main" / "seed1-expert-arithmetic.json")
    soup = job(family, "alignmerge", "linear")
    names = {"ZOO/expert_a": SETTINGS["main"].expert("arithmetic", 1, ZOO)}
    inputs = {names.get(key, key): value for key, value in _digests(study, soup).items()}
    checkpoints.check(inputs, study.results, "main", 1)
    cells.write(replace(measured, digest="0" * 64), study.results)
    with pytest.raises(UsageError, match=r"ZOO/anchor-seed1/arithmetic: not the checkpoint .*--results"):
        checkpoints.check(inputs, study.results, "main", 1)
    anchor = cells.read(study.results / "main" / "anchor.json")
    cells.write(replace(anchor, digest="0" * 64), study.results)
    again = replace(study, _anchor=None)
    with pytest.raises(UsageError, match="anchor: not the checkpoint"):
        again.run([soup])
    assert again._anchor is None  # not even the anchor was asked
    assert not (study.results / "main" / "seed0-two-alignmerge.json").exists()


def _digests(study: Study, one: Job) -> dict[str, str]:
    with Inputs(placed(one.recipe, study.zoo), study.plan, study.store) as bench:
        return bench.digests(study.zoo)


def test_records_are_runs_that_report_reads(study: Study, family: Path, tmp_path: Path) -> None:
    study.records = tmp_path / "records"
    study.anchors_cell("main")
    assert not study.records.exists()  # an anchor alone is no run
    study.run([job(family, "alignmerge", "linear")])
    study.run([job(family, "matched", "task_arithmetic", scale=1.0)])
    study.expert("main", 0, "arithmetic", "ZOO/expert_a")
    study.expert("main", 0, "units", "ZOO/expert_b")  # no expert of the set "two"
    [folder] = study.records.glob("*/*")
    assert folder == study.records / "main" / "seed0-two"
    made = load([folder])
    assert [(one.role, one.label) for one in made.entries] == [
        ("anchor", "anchor"), ("expert", "expert-arithmetic"), ("merge", "alignmerge"), ("merge", "matched"),
    ]  # fmt: skip
    found = {one.method: one for one in cells.read_all(study.results)}
    for one in made.entries:
        assert one.verdict is None and one.audit.checkpoint == found[one.label].digest
        assert cells.outcomes(one.audit, study.plan) == found[one.label].suites
    own = made.merges[0]
    assert own.drift is not None and own.drift["finite_drift"]["value"] == found["alignmerge"].drift["finite"]
    assert own.merge is not None and own.merge["recipe"]["method"] == "linear"
    assert str(family / "expert_a") not in (folder / "merges" / "alignmerge.json").read_text()
    page = render(made)
    assert "No policy was asked" in page and ">matched<" in page
    assert "Each suite was cut to its first 2 items" in page
    replace(study, again=True).run([job(family, "matched", "task_arithmetic", scale=0.5)])
    assert [one.label for one in load([folder]).merges] == ["alignmerge", "matched"]


def test_seconds_of_calibration_are_of_what_was_gathered(study: Study, family: Path) -> None:
    """AlignMerge gathers held-out skills too, so its rows are not those of fine-tuning."""
    tuner, repair = (
        placed(job(family, name, name, threads=1).recipe, study.zoo) for name in ("alignmerge", "repair_finetune")
    )
    with Inputs(tuner, study.plan, study.store) as bench:
        bench.use(study.anchor())
        asked = Asked(study, bench)
        (rows, first), (others, second) = asked.materials(tuner), asked.materials(repair)
        assert rows is not others and first != second
        assert asked.materials(tuner) == (rows, first) and asked.materials(repair) == (others, second)


def test_tuning_looks_at_the_validation_split_alone(study: Study, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="validation split alone"):
        tune_setting(study, Tuned(tmp_path / "tuned.json"), "main", ["ties"])
