"""Which items rows come from, what they carry, and when a workbench gathers them anew."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from alignmerge import products
from alignmerge.auditor.engines.transformers_engine import TransformersEngine
from alignmerge.errors import RecipeError
from alignmerge.merger.checkpoint import open_checkpoint
from alignmerge.merger.geometry.rows import ALIGNMENT, KEPT, Calibration
from alignmerge.merger.methods.alignmerge import Materials
from alignmerge.merger.recipe import Expert, Recipe, resolve
from alignmerge.models import load_model
from alignmerge.pipeline import calibration
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.pipeline.calibration import Collector, Sizes
from alignmerge.pipeline.workbench import Workbench
from alignmerge.products import ROUNDED
from alignmerge.suites.model import SPLITS
from alignmerge.suites.registry import get_suite

SIZES = {
    "alignment_items": 2, "training_items": 2, "expert_items": 3, "expert_training_items": 2, "validation_items": 2,
    "alignment_tokens": 2, "expert_tokens": 3,
}  # fmt: skip


def recipe_of(family: Path, method: str = "alignmerge", sizes: Any = SIZES, **parameters: Any) -> Recipe:
    experts = (Expert(str(family / "expert_a"), "anchor", skill="units"),)
    anchor = str(family / "anchor")
    return resolve(Recipe(anchor, experts, method, {"threads": 1, **parameters}, calibration=sizes, dtype="float32"))


def engine_of(reference: str) -> TransformersEngine:
    return TransformersEngine(*load_model(open_checkpoint(reference), "float32"))


def gathered(recipe: Recipe) -> Calibration:
    return handed(recipe).calibration


def handed(recipe: Recipe) -> Materials:
    collector = Collector(recipe)
    collector.anchor(engine_of(recipe.anchor))
    collector.expert(engine_of(recipe.experts[0].model), recipe.experts[0].model)
    materials, _ = collector.materials(open_checkpoint(recipe.anchor), "float32")
    assert isinstance(materials, Materials)
    return materials


@pytest.mark.parametrize("method", ["alignmerge", "regmean"])  # what a method is handed, and what it gathers itself
@pytest.mark.parametrize(
    ("slow", "dtype", "said"), [(True, "bfloat16", ROUNDED), (True, "float32", None), (False, "bfloat16", None)]
)
def test_materials_say_how_products_are_taken(
    family: Path, monkeypatch: pytest.MonkeyPatch, method: str, slow: bool, dtype: str, said: str | None
) -> None:
    monkeypatch.setattr(products, "slow", lambda: slow)
    recipe = recipe_of(family, method)
    collector = Collector(recipe)
    collector.anchor(engine_of(recipe.anchor))
    collector.expert(engine_of(recipe.experts[0].model), recipe.experts[0].model)
    materials, _ = collector.materials(open_checkpoint(recipe.anchor), dtype)
    assert materials.products == said


def test_a_model_of_the_mixture_shares_no_memory_with_it(family: Path) -> None:
    recipe = recipe_of(family)
    tensors = {name: open_checkpoint(recipe.anchor).read(name) for name in open_checkpoint(recipe.anchor).tensors}
    before = {name: value.clone() for name, value in tensors.items()}
    for value in handed(recipe).load(tensors).parameters():
        value.data.zero_()
    assert all(torch.equal(value, before[name]) for name, value in tensors.items())


def test_rows_come_from_the_splits_that_are_asked_for_and_carry_their_teacher(family: Path) -> None:
    recipe = recipe_of(family)
    found = gathered(recipe)
    engine = engine_of(recipe.anchor)
    asked: dict[tuple[int, ...], set[str]] = {}
    for suite in ("refusal", "over_refusal", "units"):
        for split in ("train", "calibration", "validation", "test"):
            items = get_suite(suite).items(split)  # type: ignore[arg-type]
            for ids in engine.encode([item.prompt for item in items]):
                asked.setdefault(tuple(ids), set()).add(f"{suite} {split}")
    seen = {
        name: {place for row in rows for place in asked[row.prompt]}
        for name, rows in (
            ("alignment", [row for row in found.rows if row.source == ALIGNMENT]),
            ("expert", [row for row in found.rows if row.source != ALIGNMENT]),
            ("validation", list(found.validation)),
            ("skill validation", list(found.skill_validation)),
        )
    }
    both = ("refusal", "over_refusal")
    assert seen["alignment"] == {f"{suite} {split}" for suite in both for split in ("calibration", "train")}
    assert seen["expert"] == {"units calibration", "units train"}
    assert seen["validation"] == {f"{suite} validation" for suite in both}
    assert seen["skill validation"] == {"units validation"}
    assert {row.source for row in found.skill_validation} == {f"expert {recipe.experts[0].model}"}
    assert len(found.rows) == 2 * (2 + 2) + 3 + 2
    for row in (*found.rows, *found.validation, *found.skill_validation):
        assert row.teacher is not None
        assert row.teacher.tokens.shape == row.teacher.logs.shape == (len(row.answer), KEPT)


def test_held_out_skills_are_gathered_where_the_method_asks(family: Path) -> None:
    with_them, without = (gathered(recipe_of(family, method)) for method in ("alignmerge", "repair_finetune"))
    assert with_them.skill_validation and not without.skill_validation
    assert with_them.rows == without.rows
    assert with_them.digest != without.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"expert_training_items": -1},
            r"calibration\.expert_training_items: must be an integer of at least 0, not -1",
        ),
        ({"expert_items": 1}, r"calibration\.expert_items: must be an integer of at least 2"),
        ({"expert_training": 3}, r"calibration\.expert_training: unknown key; known: .*expert_training_items"),
    ],
)
def test_sizes_are_checked_by_name(family: Path, changes: dict[str, int], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Sizes.of(recipe_of(family, sizes={**SIZES, **changes}))


@pytest.mark.parametrize(
    ("skill", "message"),
    [
        ("helpfulness", "skill: helpfulness: has no calibration items"),
        ("arithmetic_levels", "skill: arithmetic_levels: has no calibration items"),
        ("refusal", "skill: refusal: the anchor answers these prompts"),
        ("over_refusal", "skill: over_refusal: the anchor answers these prompts"),
    ],
)
def test_a_suite_that_cannot_stand_for_a_domain_is_refused(family: Path, skill: str, message: str) -> None:
    recipe = recipe_of(family)
    with pytest.raises(RecipeError, match=message):
        Collector(replace(recipe, experts=(replace(recipe.experts[0], skill=skill),)))


def test_a_suite_without_validation_items_is_refused_where_skill_is_measured(
    family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = get_suite("units")
    monkeypatch.setattr(calibration, "get_suite", lambda name: replace(whole, items=lambda split: held[split]))
    held: dict[str, Any] = {split: whole.items(split) for split in SPLITS} | {"validation": ()}  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="skill: units: has no validation items"):
        Collector(recipe_of(family))
    Collector(recipe_of(family, "repair_finetune"))


class Silent:
    """An engine that answers nothing at all."""

    ends, model = (0,), None

    def generate(self, prompts: list[str], *_: Any) -> list[Any]:
        return [SimpleNamespace(tokens=(), finish="stop") for _ in prompts]

    def encode(self, prompts: list[str]) -> list[list[int]]:
        return [[1]] * len(prompts)


def test_an_expert_that_answers_nothing_has_no_rows(family: Path) -> None:
    recipe, silent = recipe_of(family), Silent()
    with pytest.raises(RecipeError, match="every answer was empty, so alignmerge has no rows"):
        Collector(recipe).expert(silent, recipe.experts[0].model)  # type: ignore[arg-type]


def test_a_workbench_gathers_anew_only_where_the_rows_are_others(family: Path, tmp_path: Path) -> None:
    recipe = recipe_of(family)
    with Workbench(recipe, AuditPlan(split="validation", limit=2), tmp_path / "answers.sqlite") as bench:
        tuned = bench.materials(recipe_of(family, "repair_finetune"))
        one = bench.materials(recipe)
        assert isinstance(one, Materials) and isinstance(tuned, Materials)
        assert one.calibration.skill_validation and not tuned.calibration.skill_validation
        assert bench.materials(recipe_of(family, scale=0.3, lambda_skill=0.5, descent_steps=2)) is one
        assert bench.materials(recipe_of(family, sizes={**SIZES, "expert_items": 2})) is not one
        assert bench.materials(replace(recipe, seed=1)) is not one
        assert bench.materials(recipe_of(family, "repair_finetune", steps=1)) is tuned
