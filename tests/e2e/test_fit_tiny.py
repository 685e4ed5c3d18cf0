"""`merge --fit` on tiny random checkpoints: search on validation items, then the gate on test items."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alignmerge import jsonio
from alignmerge.cli import cli
from alignmerge.errors import AlignMergeError
from alignmerge.merger.recipe import load_recipe
from alignmerge.pipeline.fitting import Objective, skills_of, tune, validation_plan
from alignmerge.pipeline.search import Judged
from alignmerge.pipeline.spaces import space_of
from alignmerge.pipeline.workbench import Made, Workbench

RECIPE = """\
anchor: {root}/anchor
experts:
  - {{model: {root}/expert_a, trained_from: anchor, skill: arithmetic}}
  - {{model: {root}/expert_b, trained_from: anchor, skill: units}}
method: {method}
parameters: {parameters}
calibration: {{alignment_items: 4, expert_items: 4, validation_items: 2, alignment_tokens: 4, expert_tokens: 6}}
seed: 3
"""
PERMISSIVE = """\
schema: alignmerge.policy/1
name: permissive
summary: "Lets anything pass that was measured."
rules:
  - {id: refusal-drop, metric: refusal_rate, kind: max_drop, limit: 1.0, min_items: 4}
  - {id: degeneration, metric: degeneration_rate, kind: max, limit: 1.0, min_items: 400, severity: warn}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "permissive.yaml"
    path.write_text(PERMISSIVE)
    return path


def recipe(family: Path, folder: Path, method: str, parameters: str = "{}") -> Path:
    path = folder / f"{method}.yaml"
    path.write_text(RECIPE.format(root=family, method=method, parameters=parameters))
    return path


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(cli, [str(one) for one in arguments], standalone_mode=False)
    if result.exception is not None:
        assert isinstance(result.exception, AlignMergeError), repr(result.exception)
        result.exit_code = result.exception.exit_code
    elif isinstance(result.return_value, int):
        result.exit_code = result.return_value
    return result


def fit(source: Path, policy: Path | str, out: Path, *more: str, evaluations: int = 3) -> Result:
    few = ("--evaluations", str(evaluations), "--items", "4", "--limit", "6")
    return run("merge", source, "--fit", policy, *few, "-o", out, *more)


def test_the_best_merge_goes_through_the_gate(family: Path, tmp_path: Path, policy: Path, empty_cache: Path) -> None:
    source, out = recipe(family, tmp_path, "task_arithmetic"), tmp_path / "out"
    made = fit(source, policy, out, "--json", evaluations=4)
    assert made.exit_code == 0, made.stderr
    shown = json.loads(made.stdout)
    assert shown["verdict"] == "WARN"  # degeneration wants more items than the audit asked
    record = jsonio.read(out / "records" / "fit.json")
    assert record == shown["fit"]
    assert (record["schema"], record["split"], record["seed"]) == ("alignmerge.fit/1", "validation", 3)
    assert record["skills"] == ["arithmetic_accuracy", "units_accuracy"]
    assert [one["name"] for one in record["space"]] == ["scale", "experts.0.weight", "experts.1.weight"]
    assert [one["stage"] for one in record["evaluations"]] == ["recipe", "spread", "spread", "near the best"]
    assert all(use["items"] == 4 for use in record["suites"])
    merged = jsonio.read(out / "merge.json")
    best = record["evaluations"][record["best"] - 1]
    assert best["feasible"]
    assert merged["recipe"]["parameters"]["scale"] == best["knobs"]["scale"]
    assert [one["weight"] for one in merged["recipe"]["experts"]] == [
        best["knobs"]["experts.0.weight"],
        best["knobs"]["experts.1.weight"],
    ]
    notes = jsonio.read(out / "records" / "run.json")["notes"]
    assert any(jsonio.digest(record) in note for note in notes)
    assert "chosen on validation items" in (out / "records" / "report.html").read_text()
    assert run("verify", out).exit_code == 0
    assert not list(tmp_path.glob("out.*"))
    assert "4  " in made.stderr  # the trace is not in the JSON
    assert "degeneration will stay undecided: it wants 400 items" in made.stderr

    again = fit(source, policy, tmp_path / "again", "--json", evaluations=4)
    second = json.loads(again.stdout)
    assert second["tensors"] == shown["tensors"]
    assert second["fit"]["evaluations"] == record["evaluations"]


def test_the_trace_is_a_table_of_every_evaluation(
    family: Path, tmp_path: Path, policy: Path, empty_cache: Path
) -> None:
    made = fit(recipe(family, tmp_path, "task_arithmetic"), policy, tmp_path / "out")
    lines = made.stdout.splitlines()
    assert "fit: 3 evaluations of task_arithmetic on validation items (4 of refusal" in lines[0]
    assert any("a: refusal-drop (refusal rate, max drop 1)" in line for line in lines)
    rows = [line for line in lines if line[:4].strip().isdigit() and line.startswith("  ") and "(" in line]
    assert [line.split()[0] for line in rows] == ["1", "2", "3"]
    assert all("yes" in line for line in rows)
    assert any("weight of expert_a 1, weight of expert_b 1 (recipe)" in line for line in lines)
    assert any(line.startswith("chosen: evaluation") for line in lines)
    assert any(line.startswith("published:") for line in lines)


def test_alignmerge_itself_is_fitted(family: Path, tmp_path: Path, policy: Path, empty_cache: Path) -> None:
    knobs = "{descent_steps: 2, stretches: 1, batch_rows: 4, alignment_rows: 4, skill_rows: 4, steps: 1, threads: 1}"
    made = fit(recipe(family, tmp_path, "alignmerge", knobs), policy, tmp_path / "out", "--json", evaluations=2)
    assert made.exit_code == 0, made.stderr
    record = json.loads(made.stdout)["fit"]
    names = [one["name"] for one in record["space"]]
    searched = ["lambda_align", "lambda_skill", "radius", "alignment_share", "budget"]
    assert names == [*searched, "experts.0.weight", "experts.1.weight"]
    assert record["evaluations"][0]["knobs"]["lambda_align"] != record["evaluations"][1]["knobs"]["lambda_align"]


def test_a_search_whose_least_merge_is_the_anchor_blames_nobody(
    family: Path, tmp_path: Path, empty_cache: Path
) -> None:
    impossible = tmp_path / "impossible.yaml"
    impossible.write_text(PERMISSIVE.replace("kind: max_drop, limit: 1.0", "kind: min, limit: 0.99"))
    source = recipe(family, tmp_path, "task_arithmetic")
    text = source.read_text()
    expert = f"  - {{model: {family}/anchor, trained_from: anchor, skill: units}}\n"
    source.write_text(text[: text.index("  - ")] + expert + text[text.index("method:") :])
    made = fit(source, impossible, tmp_path / "out", evaluations=2)
    assert made.exit_code == 3, repr(made.exception)
    assert "spent by: nobody" in made.stdout
    record = jsonio.read(tmp_path / "out" / "records" / "fit.json")
    assert record["spent_by"]["finite_drift"] == 0.0
    shown = run("blame", source, "--items", "2", "--points", "1", "--json")
    assert shown.exit_code == 0, repr(shown.exception)
    assert json.loads(shown.stdout)["finite"]["finite_drift"] == 0.0


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("ties", ("--fit", "no-such"), "no such policy file or shipped policy"),
        ("model_stock", ("--fit", "demo"), "model_stock: has no knob that can be searched"),
        ("ties", ("--fit", "demo", "--evaluations", "0"), "0 evaluations: a search needs at least 2"),
        ("ties", ("--fit", "demo", "--evaluations", "1"), "1 evaluations: a search needs at least 2"),
        ("ties", ("--fit", "demo", "--policy", "demo"), "leave --policy out"),
        ("ties", ("--fit", "demo", "--plan"), "leave one of them out"),
        ("ties", ("--evaluations", "4"), "--evaluations: is of a search; give --fit POLICY"),
        ("ties", ("--items", "4"), "--items: is of a search; give --fit POLICY"),
    ],
)
def test_what_cannot_be_searched_is_one_line(
    method: str, arguments: tuple[str, ...], message: str, family: Path, tmp_path: Path, empty_cache: Path
) -> None:
    made = run("merge", recipe(family, tmp_path, method), "-o", tmp_path / "out", *arguments)
    assert made.exit_code == 2
    assert message in str(made.exception)
    assert "\n" not in str(made.exception)
    assert not (tmp_path / "out").exists()


def test_a_search_with_an_objective_of_ones_own(family: Path, tmp_path: Path, empty_cache: Path) -> None:
    """What a study calls: any score of a merge and its audit, without a policy. A merge that fails is no candidate."""
    from dataclasses import replace

    from alignmerge.errors import TensorMismatch

    loaded = load_recipe(recipe(family, tmp_path, "task_arithmetic"))
    plan = replace(validation_plan(loaded, 2), suites=("arithmetic",))
    asked: list[float] = []

    def score(made: Made, audit: object) -> Judged:
        scale = float(made.recipe.parameters["scale"])
        asked.append(scale)
        if scale > 1.0 and len(asked) > 1:
            raise TensorMismatch("a layer is not finite")
        return Judged(-abs(scale - 0.6))

    with Workbench(loaded, plan) as bench:
        bench.anchor()
        found = tune(bench, loaded, space_of(loaded, weights=False), 10, score, seed=1)
    assert asked[0] == 1.0
    assert found.best.skill is not None
    assert found.best.skill > -0.1
    problems = [one for one in found.evaluations if one.judged.problem]
    assert problems
    assert all(float(one.knobs["scale"]) > 1.0 and not one.feasible for one in problems)


def test_a_recipe_that_cannot_be_run_ends_the_search(family: Path, tmp_path: Path, empty_cache: Path) -> None:
    from alignmerge.errors import TensorMismatch

    loaded = load_recipe(recipe(family, tmp_path, "task_arithmetic"))

    def score(made: Made, audit: object) -> Judged:
        raise TensorMismatch("a layer is not finite")

    with Workbench(loaded, validation_plan(loaded, 2)) as bench, pytest.raises(TensorMismatch, match="not finite"):
        tune(bench, loaded, space_of(loaded), 3, score)


def test_budgets_on_validation_answers(family: Path, tmp_path: Path, policy: Path, empty_cache: Path) -> None:
    from alignmerge.policies.schema import load_policy

    loaded = load_recipe(recipe(family, tmp_path, "task_arithmetic"))
    with Workbench(loaded, validation_plan(loaded, 4)) as bench:
        anchor = bench.anchor(against_base=True)
    rules = load_policy(policy)
    objective = Objective.of(rules, anchor, skills_of(loaded))
    judged = objective.judge(anchor)
    assert judged.skill == objective.skill(anchor)
    drop, degeneration = judged.budgets
    assert (drop.rule, drop.value, drop.limit, drop.n) == ("refusal-drop", 0.0, 1.0, 4)
    assert drop.holds
    assert drop.binds
    assert drop.bound is not None
    assert drop.unit == drop.bound > 0
    assert (degeneration.binds, degeneration.n) == (False, 20)
    assert objective.notes == ["degeneration does not block, so it does not bind"]
