"""What is searched for every method, and a recipe at a point of its space.

Bounds are this project's: around the published settings, wide enough to hold the merges of its reference zoo.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from alignmerge.errors import RecipeError
from alignmerge.merger.methods import get
from alignmerge.merger.recipe import Recipe, resolve
from alignmerge.pipeline.search import Axis, Point, SearchSpace, Value


@dataclass(frozen=True)
class Tunable:
    """What of a method is searched.

    weights: "shares" where the experts' weights matter against each other and a knob scales them all, so that one
    expert's is not searched; "factors" where they are also the scale; "none" where the method takes none. weights_with:
    the choice (knob, value) without which they are none. idle: of a recipe's knobs, the axes that move nothing beside
    them.
    """

    axes: tuple[Axis, ...]
    weights: Literal["shares", "factors", "none"] = "shares"
    weights_with: tuple[str, str] | None = None
    idle: Callable[[Mapping[str, Any]], frozenset[str]] = lambda knobs: frozenset()


def _linear(name: str, low: float, high: float) -> Axis:
    return Axis(name, "linear", low, high)


def _log(name: str, low: float, high: float, *, integer: bool = False) -> Axis:
    return Axis(name, "log", low, high, integer=integer)


def _idle_solve(knobs: Mapping[str, Any]) -> frozenset[str]:
    """The axes of alignmerge without effect where there is no descent, no budget, no restoration or no closed form."""
    pulls = knobs["lambda_align"] + knobs["lambda_skill"] + knobs["lambda_bud"] > 0
    descends = knobs["descent_steps"] > 0 and knobs["radius"] > 0 and pulls
    restores = knobs["steps"] > 0 and knobs["lambda_bud"] > 0
    idle: set[str] = set() if knobs["start"] == "mixture" else {"scale"}  # next to no effect beside a closed form
    if not descends:
        idle |= {"radius", "alignment_share"}
    if not descends and not restores and knobs["start"] == "mixture":
        idle |= {"lambda_align", "lambda_skill"}
    if knobs["lambda_bud"] == 0 or (not descends and not restores and knobs["budget_form"] == "soft"):
        idle |= {"budget"}
    return frozenset(idle)


def _idle_training(knobs: Mapping[str, Any]) -> frozenset[str]:
    """The axes of repair_finetune without effect where nothing is trained."""
    return frozenset({"learning_rate", "steps"} if knobs["steps"] == 0 or knobs["learning_rate"] == 0 else ())


_WEIGHED = ("sign", "mergekit")  # the papers' election takes a plain mean
_SCALE = _linear("scale", 0.2, 1.2)
_ANCHOR_WEIGHT = _log("anchor_weight", 0.1, 10.0)
_JUDGED = (_linear("threshold", 0.1, 0.8), _linear("alpha", 0.0, 1.0))
_THINNED = (_linear("density", 0.1, 0.95), _SCALE)
_WINDOW = (_linear("density", 0.2, 0.9), _SCALE)
_CRUMBS = (_linear("density", 0.1, 0.8), _linear("gamma", 0.0, 0.2), _SCALE)

TUNABLE: Mapping[str, Tunable] = {
    "linear": Tunable((_ANCHOR_WEIGHT,)),
    "task_arithmetic": Tunable((_SCALE,)),
    "ties": Tunable((_linear("density", 0.05, 0.9), _linear("scale", 0.2, 1.5)), weights_with=_WEIGHED),
    "dare_linear": Tunable(_THINNED),
    "dare_ties": Tunable(_THINNED, weights_with=_WEIGHED),
    "della": Tunable(_WINDOW, weights_with=_WEIGHED),
    "della_linear": Tunable(_WINDOW),
    "breadcrumbs": Tunable(_CRUMBS),
    "breadcrumbs_ties": Tunable(_CRUMBS, weights_with=_WEIGHED),
    "sce": Tunable((_linear("select", 0.05, 1.0), _SCALE)),
    "safemerge": Tunable(_JUDGED, "factors"),
    "safemerge_revert": Tunable(_JUDGED, "factors"),
    "safelora": Tunable((_log("number", 1, 100, integer=True), _linear("threshold", 0.1, 0.9)), "factors"),
    "fisher": Tunable((_ANCHOR_WEIGHT,)),
    "regmean": Tunable((_ANCHOR_WEIGHT, _linear("a", 0.1, 1.0))),
    "led": Tunable((_linear("density", 0.1, 0.9), _linear("anchor_density", 0.0, 0.5), _SCALE)),
    "slerp": Tunable((_linear("t", 0.1, 1.0),), "none"),
    "slerp_task": Tunable((_SCALE,)),
    "multislerp": Tunable((_ANCHOR_WEIGHT,)),
    "karcher": Tunable((_ANCHOR_WEIGHT,)),
    "model_stock": Tunable((), "none"),
    "layerwise": Tunable((_linear("start", 0.0, 1.0), _linear("end", 0.0, 1.2))),
    "mergealign_thakkar": Tunable((_linear("alpha", 0.1, 1.0), _linear("beta", 0.2, 1.2))),
    "resta": Tunable((_linear("gamma", 0.0, 1.0), _linear("drop", 0.0, 0.9)), "factors"),
    "lata": Tunable((_linear("threshold", 0.0, 0.99),), "factors"),
    "alignmerge": Tunable(
        (
            _linear("scale", 0.2, 1.2),
            _log("lambda_align", 0.1, 10.0),
            _log("lambda_skill", 0.1, 10.0),
            _log("radius", 1e-5, 2e-4),
            _linear("alignment_share", 0.2, 0.8),
            _linear("budget", 0.0, 0.2),
        ),
        idle=_idle_solve,
    ),
    "alignment_shield": Tunable((_linear("scale", 0.2, 1.2), _log("strength", 0.1, 1e7))),
    "repair_finetune": Tunable(
        (_linear("scale", 0.2, 1.2), _log("learning_rate", 2e-6, 2e-4), _log("steps", 8, 240, integer=True)),
        idle=_idle_training,
    ),
}
# An expert's weight is searched between these shares of the recipe's.
LEAST, MOST = 0.5, 1.5


def space_of(recipe: Recipe, *, weights: bool = True) -> SearchSpace:
    """What is searched for a resolved recipe: its method's knobs and, with `weights`, its experts' weights.

    Left out: schedules, knobs that experts have of their own, knobs without effect beside the recipe's other ones, and
    what the recipe switches off by a 0 on an axis that has none. An axis is widened to hold the recipe's own value.

    Raises:
        RecipeError: the method has nothing that can be searched.
    """
    tunable = TUNABLE.get(recipe.method, Tunable(()))
    left_out = {key for expert in recipe.experts for key in expert.parameters} | tunable.idle(recipe.parameters)
    axes = [
        _held(axis, recipe.parameters[axis.name])
        for axis in tunable.axes
        if axis.name not in left_out and _searched(axis, recipe)
    ]
    if weights and _weighed(tunable, recipe):
        for index, expert in enumerate(recipe.experts):
            if not isinstance(expert.weight, list) and expert.weight != 0:
                low, high = sorted((LEAST * expert.weight, MOST * expert.weight))
                axes.append(Axis(_weight(index), "linear", low, high))
    if not axes:
        raise RecipeError(
            f"{recipe.method}: has no knob that can be searched in this recipe; give numbers instead of schedules, or "
            "take another method"
        )
    return SearchSpace(tuple(axes))


def _weighed(tunable: Tunable, recipe: Recipe) -> bool:
    if tunable.weights_with is not None and recipe.parameters[tunable.weights_with[0]] != tunable.weights_with[1]:
        return False
    return tunable.weights == "factors" or (tunable.weights == "shares" and len(recipe.experts) > 1)


def _searched(axis: Axis, recipe: Recipe) -> bool:
    value = recipe.parameters.get(axis.name)
    if value is None or isinstance(value, list):
        return False
    parameter = next(one for one in get(recipe.method).parameters if one.name == axis.name)
    other = parameter.only_with
    if other is not None and recipe.parameters[other[0]] != other[1]:
        return False
    if axis.name == "anchor_weight" and recipe.parameters.get("of", "models") != "models":
        return False
    return axis.scale != "log" or value > 0


def _held(axis: Axis, value: Value) -> Axis:
    if isinstance(value, str):
        return axis
    return replace(axis, low=min(axis.low, value), high=max(axis.high, value))


def _weight(index: int) -> str:
    return f"experts.{index}.weight"


def start_of(recipe: Recipe, space: SearchSpace) -> dict[str, Value]:
    """The recipe's own values on the axes of its space."""
    values: dict[str, Any] = {**recipe.parameters}
    values |= {_weight(index): expert.weight for index, expert in enumerate(recipe.experts)}
    return {axis.name: values[axis.name] for axis in space.axes}


def recipe_at(recipe: Recipe, point: Point) -> Recipe:
    """The recipe with the knobs and weights of a point.

    Raises:
        RecipeError: the point is none of the method's.
    """
    knobs = {name: value for name, value in point.items() if not name.startswith("experts.")}
    experts = tuple(
        replace(expert, weight=point.get(_weight(index), expert.weight))  # type: ignore[arg-type]
        for index, expert in enumerate(recipe.experts)
    )
    return resolve(replace(recipe, parameters={**recipe.parameters, **knobs}, experts=experts))
