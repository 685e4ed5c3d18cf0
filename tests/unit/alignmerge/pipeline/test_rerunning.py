"""A rerun's outcome: the same digest, near, apart or not made of these, by what the method needs."""

from dataclasses import replace
from pathlib import Path

import pytest

from alignmerge.merger import record as merge_record
from alignmerge.merger.recipe import Expert, Recipe, from_json, resolve
from alignmerge.merger.stream import merge
from alignmerge.pipeline.rerunning import CLOSE, _compared, rerun


def made(family: Path, out: Path, weight: float, expert: str = "expert_a") -> Recipe:
    recipe = Recipe(
        str(family / "anchor"), (Expert(str(family / expert), "anchor", weight),), "linear", dtype="float32"
    )
    merge(recipe, out)
    return resolve(recipe)


@pytest.mark.parametrize(("weight", "code"), [(0.51, 0), (0.9, 4)])
def test_a_method_that_needs_data_may_differ_and_that_is_never_tampering(
    family: Path, tmp_path: Path, weight: float, code: int
) -> None:
    recipe = made(family, tmp_path / "old", 0.5)
    made(family, tmp_path / "new", weight)
    old = merge_record.read(tmp_path / "old")
    data_aware = replace(recipe, method="regmean")
    found = _compared(
        data_aware, tmp_path / "old", replace(old, versions={**old.versions, "torch": "1.0"}), tmp_path / "new"
    )
    assert found.finding is None and found.exit_code == code
    assert found.distance is not None and (found.distance <= CLOSE) == (code == 0)
    assert ("other versions: torch" in found.text) == (code == 4)
    rounded = replace(old, versions={**old.versions, "products": "float32, rounded"})
    found = _compared(data_aware, tmp_path / "old", rounded, tmp_path / "new")
    assert ("other versions: products" in found.text) == (code == 4)
    weights_only = _compared(recipe, tmp_path / "old", old, tmp_path / "new")
    assert weights_only.exit_code == 5 and "the recipe gives other tensors" in weights_only.text


def test_other_inputs_are_named(family: Path, tmp_path: Path) -> None:
    recipe = made(family, tmp_path / "old", 0.5)
    made(family, tmp_path / "new", 0.5, "expert_b")
    found = _compared(recipe, tmp_path / "old", merge_record.read(tmp_path / "old"), tmp_path / "new")
    assert found.exit_code == 5 and "inputs are other checkpoints now (expert)" in found.text


def test_a_record_that_names_another_weight_is_found_by_running_it(family: Path, tmp_path: Path) -> None:
    made(family, tmp_path / "out", 0.5)
    old = merge_record.read(tmp_path / "out")
    experts = [{**old.recipe["experts"][0], "weight": 0.25}]
    merge_record.write(replace(old, recipe={**old.recipe, "experts": experts}), tmp_path / "out")
    found = rerun(tmp_path / "out")
    assert found.exit_code == 5 and "the recipe gives other tensors: " in found.text
    assert found.distance is not None and found.distance > 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_recorded_recipe_comes_back_as_it_was(family: Path, tmp_path: Path) -> None:
    recipe = made(family, tmp_path / "out", 0.5)
    assert from_json(merge_record.read(tmp_path / "out").recipe, "merge.json") == recipe
