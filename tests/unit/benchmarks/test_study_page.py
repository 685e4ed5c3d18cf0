"""The study's page: from cells alone, equal to the committed one, and plain about what is stale or missing."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignmerge import jsonio
from benchmarks.study import cells, current, docs, figure, jobs
from benchmarks.study.__main__ import DOCS
from benchmarks.study.__main__ import main as study
from benchmarks.study.cells import RESULTS, Cell, Kind, Outcome
from benchmarks.study.design import CONTROLS, FAMILIES, METHODS, SETS, SETTINGS, SKILLS, ZOO
from benchmarks.study.frontier import SHARES, Curve
from benchmarks.study.tuning import Evaluation, Tuned

SUITES = (*SKILLS.values(), "refusal", "over_refusal", "harmbench", "xstest_unsafe", "catqa", "xstest_safe")


def made(kind: Kind, method: str, seed: int, experts: str, setting: str = "main", **rates: float) -> Cell:
    """A cell whose bits are drawn with the given rates (0.5 where none is given)."""
    generator = np.random.default_rng(abs(hash_of(kind, method, seed, experts)) % 2**32)
    found = {}
    for suite in SUITES:
        bits = "".join(map(str, (generator.random(40) < rates.get(suite, 0.5)).astype(int)))
        found[suite] = Outcome.of("some_rate", [suite, "40"], bits)
    drift: dict[str, float | str] = {} if kind == "anchor" else {"finite": float(generator.random()), "linear": 0.2}
    return Cell(
        "key", kind, setting, seed, experts, method, None, None, {"anchor": "d"}, "d", found,
        {"aqi_log_j": {"value": -1.0}, "degeneration_rate": {"value": 0.1}}, drift, {"merge_seconds": 2.0}, 5.0,
        dict(cells.NOT_MEASURED), {}, {"machine": "a test"},
    )  # fmt: skip


def designed(folder: Path, every: list[Cell]) -> list[Cell]:
    """The cells with the recipes of the design, and its frozen knobs in the folder: every method's default."""
    tuned = Tuned(folder / "tuned.json")
    for method in METHODS.values():
        point = method.points()[0]
        tuned.keep("main", method, [Evaluation(one, 0.0, 1.0, 0.0, 0.0, -i) for i, one in enumerate(method.points())])
        assert tuned.parameters("main", method.label) == point
    work = jobs.merges(tuned, "main", [0, 1], list(SETS), list(METHODS)) + jobs.defaults("main", [0, 1])
    work += jobs.controls(tuned, "main", [0, 1], list(CONTROLS)) + jobs.frontier(tuned, "main", [0, 1], list(FAMILIES))
    recipes = {(job.kind, job.seed, job.set, job.label): job.recipe.to_json() for job in work}
    return [replace(one, recipe=recipes.get((one.kind, one.seed, one.set, one.method))) for one in every]


def hash_of(*parts: Any) -> int:
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:8], 16)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A small study: two methods over two seeds and all sets, experts, one control, two swept families."""
    folder = tmp_path / "results"
    everything = [made("anchor", "anchor", 0, "")]
    for seed in (0, 1):
        everything += [made("expert", f"expert-{name}", seed, "") for name in SKILLS]
        for experts in SETS:
            everything.append(made("merge", "alignmerge", seed, experts, refusal=0.8, harmbench=0.9, over_refusal=0.3))
            everything.append(made("merge", "ties", seed, experts, refusal=0.2, harmbench=0.1))
        everything += [made("control", name, seed, "three") for name in ("one_shot", "half_items")]
        everything.append(made("default", "ties-default", seed, "three", refusal=0.1, harmbench=0.1))
        for name in ("alignmerge", "linear"):
            everything += [
                made("frontier", f"{name}.{index}", seed, "three", over_refusal=0.2)
                for index in range(len(FAMILIES[name].points))
            ]
    for one in designed(folder, everything):
        cells.write(one, folder)
    return folder


def test_the_page_is_made_from_cells_alone(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "study.md"
    assert study(["docs", "--results", str(results), "-o", str(page)]) == 0
    text = page.read_text()
    anchor = cells.read(results / "main" / "anchor.json")
    ours = [cells.read(results / "main" / f"seed{seed}-three-alignmerge.json").rate("refusal") or 0 for seed in (0, 1)]
    assert f"{sum(ours) / 2:.3f}" in text and f"{anchor.rate('refusal'):.3f}" in text
    assert "| ties, as it comes | 2 |" in text and "above every baseline as it comes" in text
    assert "| main | ties | 6 of 9 |" in text and "| main | control one_shot | 2 of 3 |" in text
    assert "| main | experts | 6 of 9 |" in text and "| main | baselines as they come | 2 of 27 |" in text
    assert "unscored: no judge that passed its exam" in text and "nan" not in text.lower()
    for heading in ("What was to be shown", "Experts", "Set three", "Controls", "Frontier", "Drift and refusals"):
        assert f"### {heading}" in text
    assert "## Experts trained from the base" not in text
    drawing = (tmp_path / "study-frontier-main.svg").read_text()
    assert drawing.startswith("<svg") and "alignmerge" in drawing and "linear" in drawing
    for other in results.rglob("*.json"):
        other.touch()
    assert docs.render(results) == (text, {"study-frontier-main.svg": drawing})


def test_a_cell_of_another_recipe_is_marked_and_left_out_of_claims(results: Path) -> None:
    for seed in (0, 1):
        path = results / "main" / f"seed{seed}-three-ties.json"
        one = cells.read(path)
        assert one.recipe is not None
        other = {**one.recipe["parameters"], "density": 0.77}
        cells.write(replace(one, recipe={**one.recipe, "parameters": other}), results)
    text, _ = docs.render(results)
    assert "| main | ties | 4 of 9, and 2 stale |" in text and "| ties (stale) | 2 |" in text
    assert "- merge ties of set three: parameters.density 0.77, now 0.2 (main seed 0, main seed 1)." in text
    assert "| ties | 4 | " in text  # compared on the cells that are left
    for experts in ("one", "two"):
        for seed in (0, 1):
            (results / "main" / f"seed{seed}-{experts}-ties.json").unlink()
    text, _ = docs.render(results)
    assert "above 0 of the 0 baselines measured, of 9 in all" in text and "finite drift below" in text


def test_a_cell_that_was_asked_other_items_is_stale(results: Path) -> None:
    one = cells.read(results / "main" / "seed1-two-ties.json")
    cut = {**one.suites, "catqa": Outcome.of("some_rate", ["others"], "1" * 40)}
    cells.write(replace(one, suites=cut), results)
    assert "- merge ties of set two: other items of catqa (main seed 1)." in docs.render(results)[0]


def test_a_merge_of_another_expert_than_was_measured_is_stale(results: Path) -> None:
    path = results / "main" / "seed1-two-ties.json"
    one, name = cells.read(path), SETTINGS["main"].expert("format", 1, ZOO)
    cells.write(replace(one, inputs={**one.inputs, name: "d"}), results)  # the digest that the expert's cell has
    assert "stale" not in docs.render(results)[0]
    cells.write(replace(one, inputs={**one.inputs, name: "e"}), results)
    text, _ = docs.render(results)
    assert f"- merge ties of set two: made of another {name} than is measured (main seed 1)." in text
    assert "| main | ties | 5 of 9, and 1 stale |" in text


def test_a_merge_of_another_anchor_than_was_measured_is_stale(results: Path) -> None:
    path = results / "main" / "seed1-two-ties.json"
    cells.write(replace(cells.read(path), inputs={"anchor": "other"}), results)
    assert "- merge ties of set two: made of another anchor than is measured (main seed 1)." in docs.render(results)[0]


def test_the_scale_of_a_control_that_is_as_far_as_another_is_found_not_designed(results: Path) -> None:
    [one] = designed(results, [made("control", "soup_norm_matched", 0, "three")])
    assert one.recipe is not None
    found = replace(one, recipe={**one.recipe, "parameters": {**one.recipe["parameters"], "scale": 0.4321}})
    assert current.split([found], Tuned(results / "tuned.json")) == ([found], [])


def test_the_page_says_what_a_result_took(results: Path) -> None:
    text, _ = docs.render(results)
    assert "### Items and gradient passes" in text and "| half_items | 0, 1 |" in text
    passes = text[text.index("### Items and gradient passes") :]
    assert "| alignmerge | 0, 1 | \u2013 | 2200 |" in passes and "| alignmerge.0 | 0, 1 | \u2013 | 1100 |" in passes
    assert "| one_shot |" not in passes
    compared = text[text.index("### AlignMerge against each, pooled") :]
    assert "| control one_shot | 2 |" in compared and "| control half_items | 2 |" in compared


def test_shields_are_set_against_a_random_removal(results: Path) -> None:
    title = "### One-shot shields against a random removal"
    labels = ("mixture", "linear_shield_full", "linear_shield_random")
    more = [made("control", labels[0], 0, "three"), made("control", labels[1], 0, "three", harmbench=1.0, catqa=1.0)]
    for one in designed(results, more):
        cells.write(one, results)
    assert title not in docs.render(results)[0]  # nothing to set them against
    [random] = designed(results, [made("control", labels[2], 0, "three", harmbench=0.0, xstest_unsafe=0.0, catqa=0.0)])
    cells.write(random, results)
    rows = docs.render(results)[0].partition(title)[2].partition("###")[0].splitlines()
    [shield] = [row for row in rows if row.startswith("| linear_shield_full | 1 | +")]
    [_] = [row for row in rows if row.startswith("| mixture | 1 |")]
    assert float(shield.split("|")[3].split()[0]) > 0.6 and not any(
        row.startswith("| linear_shield_random") for row in rows
    )


def test_points_are_set_against_fine_tunings_most_skilled_one_on_seeds_that_all_have(results: Path) -> None:
    assert "fine-tuning's best" not in docs.render(results)[0]
    count = len(FAMILIES["repair_finetune"].points)
    high = dict.fromkeys(SKILLS.values(), 0.95)
    every = [made("frontier", f"repair_finetune.{i}", 0, "three", **(high if i == 2 else {})) for i in range(count)]
    every.append(made("frontier", "repair_finetune.4", 1, "three", **dict.fromkeys(SKILLS.values(), 1.0)))
    for one in designed(results, every):
        cells.write(one, results)
    text = docs.render(results)[0]
    table = text[text.index("### AlignMerge's points against fine-tuning's best") :].split("\n\n")[2]
    lines = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in table.splitlines()}
    assert "minus repair_finetune.2" in lines and "one_shot" in lines and "linear.0" not in lines
    own, best = (
        cells.read(results / "frontier" / "main" / f"seed0-three-{name}.json")
        for name in ("alignmerge.3", "repair_finetune.2")
    )
    gap = (own.rate("refusal") or 0) - (best.rate("refusal") or 0)
    assert lines["alignmerge.3"][1] == "1" and f"{abs(gap):.3f} [" in lines["alignmerge.3"][3]
    assert lines["alignmerge.3"][3].startswith("\u2212" if gap < 0 else "+" if gap > 0 else "0")


def test_the_page_says_that_the_tuning_was_not_equal(results: Path) -> None:
    tuned = Tuned(results / "tuned.json")
    tuned.setting("main").update(on={"seed": 0, "set": "three"}, items=60, anchor={"refusal": 0.8, "over_refusal": 0.1})
    for name in ("alignmerge", "repair_finetune"):
        tuned.value["settings"]["main"]["methods"].pop(name)
    jsonio.write(tuned.path, tuned.value)
    text, _ = docs.render(results)
    tuning = text[text.index("## Tuning") :]
    assert "Effort was not equal." in tuning and "more than 12 looks" in tuning
    assert "| alignmerge | not tuned here | 0 | its defaults |" in tuning
    assert "| repair_finetune | not tuned here | 0 | steps 100, batch_rows 22" in tuning


def test_every_family_of_the_design_is_drawn() -> None:
    level = (0.5,) * len(SHARES)
    curves = dict.fromkeys(FAMILIES, Curve(level, level, level, (), 0))
    drawn = figure.frontier(curves)
    assert drawn.count("<polyline") == len(FAMILIES) == len(set(figure.STYLES))
    assert all(f">{name}</text>" in drawn for name in FAMILIES)
    with pytest.raises(ValueError, match="zip"):
        figure.frontier({**curves, "one more": curves["linear"]})


def test_the_committed_page_is_what_the_committed_cells_give() -> None:
    if not cells.read_all(RESULTS):
        assert not DOCS.exists(), "docs/study.md has no cells to come from"
        return
    text, figures = docs.render(RESULTS)
    assert DOCS.read_text() == text, "run `python -m benchmarks.study docs`"
    for name, drawing in figures.items():
        assert (DOCS.parent / name).read_text() == drawing


def test_a_page_without_cells_is_refused(tmp_path: Path, capsys: Any) -> None:
    assert study(["docs", "--results", str(tmp_path)]) == 2
    assert "holds no cell" in capsys.readouterr().err
