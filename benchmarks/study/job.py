"""One merge of the study, and what names the work of measuring it."""

from dataclasses import dataclass
from typing import Any

from alignmerge import jsonio
from alignmerge.devices import device, model_of
from alignmerge.merger.recipe import Recipe
from benchmarks.study.cells import Kind
from benchmarks.study.external import StudyPlan


@dataclass(frozen=True)
class Job:
    """One merge to measure; `recipe` is portable (ZOO stands for the folder of built experts)."""

    kind: Kind
    setting: str
    seed: int
    set: str
    label: str
    recipe: Recipe

    @property
    def inputs(self) -> tuple[Any, ...]:
        """Equal for jobs that can share what was opened and gathered."""
        experts = tuple(one.model for one in self.recipe.experts)
        return (self.setting, self.seed, experts, jsonio.digest(dict(self.recipe.calibration or {})))

    def key(self, plan: StudyPlan) -> str:
        """What a resume compares."""
        return jsonio.digest([self.recipe.to_json(), plan_json(plan)])


def computed_on() -> str:
    """What models are computed on, a GPU by its name."""
    import torch

    return model_of(torch.device(device()))


def plan_json(plan: StudyPlan) -> list[Any]:
    """What the plan asks, for keys."""
    suites = [[one.name, one.version, one.max_new_tokens] for one in plan.resolved()]
    where = [] if computed_on() == "cpu" else [computed_on()]  # most cells were keyed before there was a choice
    return [suites, plan.split, plan.limit, plan.seed, plan.dtype, *where]
