"""What is searched for every method, and recipes at points of it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignmerge.errors import RecipeError
from alignmerge.merger.methods import METHODS
from alignmerge.merger.recipe import Expert, Recipe, resolve
from alignmerge.pipeline.spaces import TUNABLE, recipe_at, space_of, start_of

STUDIED = (
    "linear",
    "task_arithmetic",
    "fisher",
    "ties",
    "safemerge_revert",
    "mergealign_thakkar",
    "dare_ties",
    "resta",
    "layerwise",
    "alignmerge",
)


def recipe(method: str, experts: int = 2, parameters: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """A recipe that any method accepts: all it may need is named."""
    names = ("one", "two", "three")[:experts]
    return resolve(
        Recipe(
            anchor="anchor",
            experts=tuple(Expert(name, "anchor") for name in names),
            method=method,
            parameters=parameters or {},
            base="base",
            unaligned="base",
            safety="safety",
            calibration={},
            **changes,
        )
    )


def suited(method: str) -> Recipe:
    return recipe(method, 1 if method == "slerp" else 2)


def names(found: Recipe) -> list[str]:
    return [axis.name for axis in space_of(found).axes]


def test_every_method_has_its_row() -> None:
    assert TUNABLE.keys() == METHODS.keys()


@pytest.mark.parametrize("method", sorted(TUNABLE))
def test_axes_are_knobs_within_their_bounds(method: str) -> None:
    knobs = {one.name: one for one in METHODS[method].parameters}
    for axis in TUNABLE[method].axes:
        knob = knobs[axis.name]
        assert axis.integer == (knob.kind == "integer")
        assert axis.low < axis.high
        for value in (axis.value(0.0), axis.value(1.0)):
            knob.check(value)


@pytest.mark.parametrize("method", sorted(set(TUNABLE) - {"model_stock"}))
@settings(max_examples=10)
@given(data=st.data())
def test_every_point_of_every_space_is_a_recipe(method: str, data: st.DataObject) -> None:
    found = suited(method)
    space = space_of(found)
    places = data.draw(st.tuples(*[st.floats(0, 1)] * len(space.axes)))
    point = space.point(places)
    made = recipe_at(found, point)
    assert start_of(made, space) == point
    assert (made.anchor, made.method, made.seed) == (found.anchor, found.method, found.seed)


@pytest.mark.parametrize("method", STUDIED)
def test_the_studied_methods_are_searched_from_their_own_recipe(method: str) -> None:
    found = suited(method)
    space = space_of(found)
    assert recipe_at(found, start_of(found, space)) == found
    assert all(axis.low <= start_of(found, space)[axis.name] <= axis.high for axis in space.axes)  # type: ignore[operator]


def test_weights_are_searched_where_they_say_something() -> None:
    both = ["density", "scale", "experts.0.weight", "experts.1.weight"]
    assert names(recipe("dare_linear", 2)) == names(recipe("ties", 2, {"sign": "mergekit"})) == both
    assert names(recipe("ties", 2)) == names(recipe("dare_linear", 1)) == ["density", "scale"]
    assert names(recipe("resta", 1)) == ["gamma", "drop", "experts.0.weight"]
    assert [axis.name for axis in space_of(recipe("dare_linear", 2), weights=False).axes] == ["density", "scale"]
    knobs = ["lambda_align", "lambda_skill", "radius", "alignment_share", "budget"]
    assert "scale" in names(recipe("alignmerge", 2, {"start": "mixture"}))
    assert names(recipe("alignmerge")) == [*knobs, "experts.0.weight", "experts.1.weight"]


def test_weights_lie_about_the_recipes_own() -> None:
    found = recipe("task_arithmetic")
    found = resolve(
        replace(found, experts=(replace(found.experts[0], weight=-2.0), replace(found.experts[1], weight=0)))
    )
    weights = [axis for axis in space_of(found).axes if axis.name.startswith("experts")]
    assert [(one.name, one.low, one.high) for one in weights] == [("experts.0.weight", -3.0, -1.0)]


def test_an_axis_is_widened_to_hold_the_recipes_own_value() -> None:
    found = recipe("task_arithmetic", 1, {"scale": 2.5})
    [axis] = space_of(found).axes
    assert (axis.low, axis.high) == (0.2, 2.5)


def test_what_the_recipe_fixes_is_not_searched() -> None:
    assert "scale" not in names(recipe("ties", 2, {"scale": [0.2, 1.0]}))
    assert "lambda_skill" not in names(recipe("alignmerge", 2, {"lambda_skill": 0.0}))
    own = recipe("ties")
    own = resolve(replace(own, experts=(replace(own.experts[0], parameters={"density": 0.5}), own.experts[1])))
    assert "density" not in names(own)
    assert names(recipe("safelora", 1)) == ["number", "experts.0.weight"]
    assert names(recipe("safelora", 1, {"select": "threshold"})) == ["threshold", "experts.0.weight"]
    assert "anchor_weight" not in names(recipe("multislerp"))
    assert "anchor_weight" in names(recipe("multislerp", 2, {"of": "models"}))


@pytest.mark.parametrize(
    ("method", "parameters", "idle"),
    [
        ("alignmerge", {"lambda_bud": 0.0}, {"budget"}),
        ("alignmerge", {"descent_steps": 0}, {"radius", "alignment_share"}),
        ("alignmerge", {"steps": 0}, set()),
        ("alignmerge", {"radius": 0.0}, {"radius", "alignment_share"}),
        ("alignmerge", {"descent_steps": 0, "steps": 0}, {"radius", "alignment_share", "budget"}),
        ("alignmerge", {"start": "mixture", "descent_steps": 0, "steps": 0, "budget_form": "hard"},
         {"radius", "alignment_share", "lambda_align", "lambda_skill"}),
        ("alignmerge", {"start": "mixture", "descent_steps": 0, "lambda_bud": 0.0},
         {"radius", "alignment_share", "lambda_align", "lambda_skill", "budget"}),
        ("alignmerge", {"start": "mixture", "descent_steps": 0, "steps": 0},
         {"radius", "alignment_share", "lambda_align", "lambda_skill", "budget"}),
        ("repair_finetune", {"steps": 0}, {"steps", "learning_rate"}),
        ("repair_finetune", {"learning_rate": 0.0}, {"steps", "learning_rate"}),
    ],
)  # fmt: skip
def test_knobs_that_move_nothing_are_not_searched(method: str, parameters: dict[str, Any], idle: set[str]) -> None:
    assert set(names(recipe(method))) - set(names(recipe(method, 2, parameters))) == idle


@pytest.mark.parametrize(
    "found", [recipe("model_stock"), recipe("multislerp", 1), recipe("task_arithmetic", 1, {"scale": [0.1, 0.9]})]
)
def test_nothing_to_search_is_one_line(found: Recipe) -> None:
    with pytest.raises(RecipeError, match=f"^{found.method}: has no knob that can be searched") as caught:
        space_of(found)
    assert "\n" not in str(caught.value)
