"""What a search makes of a merge that breaks a hard budget of its own."""

from typing import Any

from alignmerge.errors import BudgetExceeded
from alignmerge.merger.recipe import Expert, Recipe, resolve
from alignmerge.pipeline.fitting import tune
from alignmerge.pipeline.search import Axis, Judged, SearchSpace
from alignmerge.pipeline.spaces import space_of


class _Bench:
    """Merges below the scale 0.5 keep their budget."""

    def merge(self, recipe: Recipe) -> float:
        scale = float(recipe.parameters["scale"])
        if scale >= 0.5:
            raise BudgetExceeded("budget: over the hard limit", gap=scale, limit=0.1)
        return scale

    def audit(self, made: float) -> float:
        return made


def test_a_hard_budget_that_does_not_hold_is_a_point_and_not_the_end() -> None:
    recipe = resolve(Recipe("anchor", (Expert("a", "anchor"),), "task_arithmetic", {"scale": 1.0}))
    bench: Any = _Bench()
    score: Any = lambda made, audit: Judged(audit)  # noqa: E731
    found = tune(bench, recipe, space_of(recipe), 9, score)
    assert found.evaluations[0].judged.problem == "budget: over the hard limit"
    assert found.evaluations[0].binding is not None and found.evaluations[0].binding.excess == 0.9
    assert found.best.feasible and float(found.best.knobs["scale"]) < 0.5


def test_where_every_point_breaks_its_hard_budget_the_nearest_is_the_best() -> None:
    recipe = resolve(Recipe("anchor", (Expert("a", "anchor"),), "task_arithmetic", {"scale": 1.2}))
    space = SearchSpace((Axis("scale", "linear", 0.6, 1.2),))
    bench: Any = _Bench()
    found = tune(bench, recipe, space, 9, lambda made, audit: Judged(1.0))
    assert all(not one.feasible and one.skill is None for one in found.evaluations)
    assert found.best.violation == min(one.violation for one in found.evaluations) < 0.6
    assert found.best.number > 1
    nearby = [float(one.knobs["scale"]) for one in found.evaluations if one.stage == "near the best"]
    assert max(nearby) < 0.9
