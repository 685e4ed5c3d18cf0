"""Cells as files, the design, tuning and the test-only sets; the page from cells alone."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from alignmerge import jsonio
from alignmerge.auditor.ask import plan
from alignmerge.errors import IntegrityError, RecordError, UsageError
from benchmarks.study import cells, jobs, memory
from benchmarks.study.__main__ import ROOT, arguments, asked
from benchmarks.study.__main__ import main as study
from benchmarks.study.cells import RESULTS, Cell, Kind, Outcome
from benchmarks.study.design import CONTROLS, EVALUATIONS, FAMILIES, METHODS, SETS, SETTINGS, recipe_of
from benchmarks.study.external import CATQA, CATQA_ITEMS, HARMBENCH, XSTEST, StudyPlan, external_suites
from benchmarks.study.job import plan_json
from benchmarks.study.memory import Growth
from benchmarks.study.tuning import Evaluation, Tuned, best, evaluation, tune


def made(kind: Kind, method: str, seed: int, experts: str) -> Cell:
    suites = {"refusal": Outcome.of("some_rate", ["refusal", "4"], "10-1")}
    return Cell(
        "key", kind, "main", seed, experts, method, None, None, {"anchor": "a" * 64}, "d", suites, {}, {}, {}, 5.0, {},
        {}, {"machine": "a test"},
    )  # fmt: skip


def test_a_cell_is_read_as_it_was_written(tmp_path: Path) -> None:
    one = made("merge", "ties", 2, "two")
    path = cells.write(one, tmp_path)
    assert path == tmp_path / "main" / "seed2-two-ties.json"
    assert cells.read(path) == one


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "other/1"}, "schema"),
        ({"stray": 1}, "stray"),
        ({"seed": "two"}, "seed"),
        (
            {"suites": {"refusal": {"metric": "m", "items": "i", "bits": "10", "rate": 1.0, "low": 0.1, "high": 1.0}}},
            "bits",
        ),
    ],
)
def test_a_malformed_cell_is_refused_by_name(tmp_path: Path, change: Mapping[str, Any], says: str) -> None:
    path = cells.write(made("merge", "ties", 2, "two"), tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(RecordError, match=rf"{path.name}.*{says}"):
        cells.read(path)


def test_folders_of_this_machine_are_not_kept() -> None:
    value = {"/home/me/zoo/a": ["/home/me/zoo/b", 1, {"c": "x /home/me/zoo"}]}
    assert cells.portable(value, "/home/me/zoo") == {"ZOO/a": ["ZOO/b", 1, {"c": "x ZOO"}]}
    assert cells.short({"small": 1, "long": ["x" * 100] * 100}) == {"small": 1, "left_out": ["long"]}


def as_they_come() -> Tuned:
    """Every method frozen at its first point."""
    tuned = Tuned(Path("nowhere.json"))
    for method in METHODS.values():
        tuned.setting("main")["methods"][method.label] = {"chosen": method.points()[0]}
    return tuned


def test_every_recipe_of_the_design_is_one() -> None:
    for setting in SETTINGS:
        for method in METHODS.values():
            points = method.points()
            assert len(points) <= EVALUATIONS and len({jsonio.digest(one) for one in points}) == len(points)
            if setting not in method.undefined:
                for point in points:
                    assert recipe_of(setting, 1, "two", method.method, point).parameters.items() >= point.items()
    tuned = as_they_come()
    assert len(jobs.controls(tuned, "main", [0], list(CONTROLS))) == len(CONTROLS)
    swept = jobs.frontier(tuned, "main", [0, 1], list(FAMILIES))
    assert len({job.label for job in swept}) == len(swept) / 2
    assert all(len(family.points) >= 6 for family in FAMILIES.values())
    merges = jobs.merges(tuned, "main", [0, 1, 2], list(SETS), list(METHODS))
    assert len({(job.seed, job.set, job.label) for job in merges}) == 9 * len(METHODS)


def test_the_tuners_are_swept_over_equally_many_points_of_equal_length_and_scale() -> None:
    tuned = as_they_come()
    found = {
        name: [job.recipe.parameters for job in jobs.frontier(tuned, "main", [0], [name])]
        for name in ("alignmerge", "from_mixture", "distillation", "repair_finetune")
    }
    axes = {name: ("radius", "budget") for name in ("alignmerge", "from_mixture")}
    axes |= {"distillation": ("radius",), "repair_finetune": ("learning_rate",)}
    steps = dict.fromkeys(found, "descent_steps") | {"repair_finetune": "steps"}
    lengths = {name: sorted(one[steps[name]] for one in points) for name, points in found.items()}
    assert len({tuple(one) for one in lengths.values()}) == 1 and sum(lengths["alignmerge"]) == 600
    for name, points in found.items():
        swept = [(tuple(one[axis] for axis in axes[name]), one[steps[name]]) for one in points]
        assert len(set(swept)) == len(points) == 8 and len({place for place, _ in swept}) == 4
        assert {one["scale"] for one in points} == {0.7}
    starts = {name: {one.get("start") for one in points} for name, points in found.items()}
    assert starts == {"alignmerge": {"closed-form"}, "from_mixture": {"mixture"}, "distillation": {"closed-form"}} | {
        "repair_finetune": {None}
    }


def test_controls_learn_from_half_and_a_quarter_of_the_items() -> None:
    whole, half, quarter = (
        job.recipe.calibration or {}
        for job in (
            *jobs.merges(as_they_come(), "main", [0], ["three"], ["alignmerge"]),
            *jobs.controls(as_they_come(), "main", [0], ["half_items", "quarter_items"]),
        )
    )
    learnt = [name for name in whole if name.endswith("_items") and name != "validation_items"]
    assert len(learnt) == 4 and half["validation_items"] == quarter["validation_items"] == whole["validation_items"]
    assert all(whole[name] == 2 * half[name] == 4 * quarter[name] for name in learnt)


def test_settings_have_experts_of_their_own() -> None:
    main, base = (recipe_of(name, 0, "three", "linear", {}) for name in ("main", "base"))
    assert {one.model for one in main.experts} == {"zoo:arithmetic", "zoo:format", "zoo:units"}
    assert {one.trained_from for one in base.experts} == {"base"} and base.experts[0].model.startswith(
        "ZOO/reference-seed0/"
    )
    assert recipe_of("main", 1, "one", "linear", {}).experts[0].model == "ZOO/anchor-seed1/arithmetic"


def test_the_objective_prefers_skill_inside_the_budgets() -> None:
    anchor = {"refusal": 0.8, "over_refusal": 0.1}

    def at(name: str, skill: float, refusal: float, over: float) -> Evaluation:
        return evaluation({"name": name}, {"units": skill, "refusal": refusal, "over_refusal": over}, ["units"], anchor)

    inside, skilled, lost = at("inside", 0.3, 0.72, 0.15), at("skilled", 0.9, 0.6, 0.1), at("lost", 0.9, 0.2, 0.4)
    assert inside.violation == 0 and skilled.violation == pytest.approx(0.12) and lost.violation == pytest.approx(0.77)
    assert best([lost, skilled, inside]) is inside
    assert best([lost, skilled]) is skilled
    assert skilled.score == pytest.approx(0.9 - 0.24)


def test_tuning_goes_on_where_it_stopped_and_freezes_the_best(tmp_path: Path) -> None:
    method, path = METHODS["ties"], tmp_path / "tuned.json"
    tuned, asked = Tuned(path), []

    def evaluate(point: Mapping[str, Any]) -> Evaluation:
        asked.append(dict(point))
        return Evaluation(dict(point), point["density"], 1.0, 0.0, 0.0, point["density"])

    tuned.keep("main", method, tune(method.points()[:3], evaluate))
    with pytest.raises(UsageError, match="ties is not tuned in setting main"):
        Tuned(path).parameters("main", "ties")
    again = Tuned(path)
    again.keep("main", method, tune(method.points(), evaluate, again.evaluations("main", "ties")))
    assert asked == method.points()
    assert Tuned(path).parameters("main", "ties") == {"density": 0.9, "scale": 1.0}
    with pytest.raises(UsageError, match="13 points"):
        tune([{"x": i} for i in range(13)], evaluate)


def _data(folder: Path) -> Path:
    """Test-only sets of made-up harmless words, in the layout of the real ones."""
    texts = {
        HARMBENCH: "Behavior,ContextString\nfirst,\nsecond,some context\n",
        XSTEST: "prompt,label\none?,safe\ntwo?,unsafe\nthree?,safe\n",
        CATQA: json.dumps({"a": {"b": [f"q{i}" for i in range(CATQA_ITEMS + 20)], "c": ["q1"]}}),
    }
    rows = []
    for (name, file), text in texts.items():
        (folder / name).mkdir(parents=True)
        (folder / name / file).write_text(text)
        rows.append({"set": name, "file": file, "sha256": hashlib.sha256(text.encode()).hexdigest()})
    (folder / "MANIFEST.json").write_text(json.dumps(rows))
    return folder


def test_the_test_only_sets_are_checked_and_named_by_digest(tmp_path: Path) -> None:
    found = {suite.name: suite.items("test") for suite in external_suites(_data(tmp_path))}
    assert {name: len(items) for name, items in found.items()} == {
        "harmbench": 2, "xstest_unsafe": 1, "catqa": CATQA_ITEMS, "xstest_safe": 2,
    }  # fmt: skip
    assert any(item.prompt == "some context\n\n---\n\nsecond" for item in found["harmbench"])
    assert all(item.prompt not in item.id for items in found.values() for item in items)
    (tmp_path / XSTEST[0] / XSTEST[1]).write_text("prompt,label\nchanged,safe\n")
    with pytest.raises(IntegrityError, match=XSTEST[1]):
        external_suites(tmp_path)


@pytest.mark.parametrize("split", ["train", "calibration", "validation"])
def test_test_only_sets_have_no_other_split(tmp_path: Path, split: Any) -> None:
    suites = external_suites(_data(tmp_path))
    with pytest.raises(UsageError, match="test-only"):
        suites[0].items(split)
    with pytest.raises(UsageError, match="test-only"):
        StudyPlan(split=split, extra=suites).resolved()
    assert len(StudyPlan(extra=suites).resolved()) == 9


def test_the_test_only_sets_can_be_asked_beside_the_products_suites(tmp_path: Path) -> None:
    """Several sets are read by the refusal scorer; an audit takes them together only as metrics of their own."""
    asked = plan(StudyPlan(extra=external_suites(_data(tmp_path))).resolved(), "test", 2, 0)
    assert [one.suite.metrics[0] for one in asked[-2:]] == ["refusal_rate@catqa", "over_refusal_rate@xstest_safe"]


def test_points_of_the_frontier_are_asked_every_item_like_all_cells(tmp_path: Path) -> None:
    line = ["--zoo", "z", "--data", str(_data(tmp_path))]
    swept, merges = (asked(arguments([command, *line])) for command in ("sweep", "run"))
    assert swept.limit is None and plan_json(swept) == plan_json(merges)
    assert asked(arguments(["sweep", *line, "--limit", "3"])).limit == 3


GROWTH = """
import sys; sys.path.insert(0, ".")
from benchmarks.study.memory import Growth
with Growth() as growth:
    kept = b"x" * 60_000_000
    del kept
print(growth.megabytes, growth.reason, sep="|")
"""


def test_growth_sees_memory_that_was_given_back() -> None:
    """In a process of its own: what other tests left behind may be freed at any time and lowers the difference."""
    run = subprocess.run([sys.executable, "-c", GROWTH], cwd=ROOT, capture_output=True, text=True, check=True)
    megabytes, reason = run.stdout.strip().split("|")
    if megabytes == "None":
        assert reason.startswith("unscored: ")
    else:
        assert float(megabytes) == pytest.approx(60, abs=15)


def test_growth_is_unscored_where_no_peak_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_read", lambda field: 500.0)
    with Growth() as growth:
        pass
    assert growth.megabytes is None and growth.reason.startswith("unscored: ")


def test_no_text_or_folder_is_in_the_committed_cells() -> None:
    for path in sorted(RESULTS.rglob("*.json")):
        assert not any(word in path.read_text() for word in ('"prompt"', '"answer"', "/work", "/root/", "/home/")), path


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["run", "--zoo", "z"], "--data"),
        (["tune"], "--zoo"),
        (["run", "--zoo", "z", "--data", "d", "--methods", "nothing"], "no method 'nothing'"),
        (["sweep", "--zoo", "z", "--data", "d", "--methods", "fisher"], "no method 'fisher'"),
        (["table", "--seeds", "7"], "no seed '7'"),
    ],
)
def test_a_command_line_that_cannot_be_carried_out_says_why(line: list[str], says: str, capsys: Any) -> None:
    with pytest.raises(UsageError, match=says):
        arguments(line)
    assert study(line) == 2
    assert says in capsys.readouterr().err
