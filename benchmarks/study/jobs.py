"""Which cells there are to make, from the design and the frozen knobs."""

from collections.abc import Sequence

from alignmerge.merger.methods import get
from alignmerge.merger.recipe import Recipe
from benchmarks.study.design import (
    CONTROL_SET,
    CONTROLS,
    DEFAULTS,
    FAMILIES,
    METHODS,
    SETS,
    SETTINGS,
    ZOO,
    Control,
    Family,
    recipe_of,
)
from benchmarks.study.job import Job
from benchmarks.study.tuning import Tuned


def merges(tuned: Tuned, setting: str, seeds: Sequence[int], sets: Sequence[str], labels: Sequence[str]) -> list[Job]:
    """The methods with their frozen knobs, input by input: largest set first, so that the main table fills early."""
    return [
        Job("merge", setting, seed, experts, label, _recipe(tuned, setting, seed, experts, label))
        for experts in sorted(sets, key=lambda name: -len(SETS[name]))
        for seed in seeds
        for label in labels
        if setting not in METHODS[label].undefined
    ]


def _recipe(tuned: Tuned, setting: str, seed: int, experts: str, label: str) -> Recipe:
    return recipe_of(setting, seed, experts, METHODS[label].method, tuned.parameters(setting, label))


def controls(tuned: Tuned, setting: str, seeds: Sequence[int], labels: Sequence[str]) -> list[Job]:
    """The controls on their expert set."""
    return [_control(tuned, setting, seed, CONTROLS[label]) for seed in seeds for label in labels]


def _control(tuned: Tuned, setting: str, seed: int, control: Control) -> Job:
    start = tuned.parameters(setting, control.of) if control.of else {}
    knobs = {**start, **control.parameters}
    recipe = recipe_of(setting, seed, CONTROL_SET, control.method, knobs, ZOO, control.calibration)
    return Job("control", setting, seed, CONTROL_SET, control.label, recipe)


def norms(labels: Sequence[str]) -> dict[str, str]:
    """Controls that are scaled to another merge's distance from the anchor."""
    found = {label: CONTROLS[label].norm_of for label in labels}
    return {label: other for label, other in found.items() if other is not None}


def defaults(setting: str, seeds: Sequence[int]) -> list[Job]:
    """The methods as they come, untuned, on the control's set."""
    return [
        Job("default", setting, seed, CONTROL_SET, f"{label}-default", _default(setting, seed, label))
        for seed in seeds
        for label in DEFAULTS
        if setting not in METHODS[label].undefined
    ]


def _default(setting: str, seed: int, label: str) -> Recipe:
    return recipe_of(setting, seed, CONTROL_SET, METHODS[label].method, METHODS[label].points()[0])


def frontier(tuned: Tuned, setting: str, seeds: Sequence[int], families: Sequence[str]) -> list[Job]:
    """Every point of the families on the control's set, point by point within a family."""
    return [
        Job(
            "frontier",
            setting,
            seed,
            CONTROL_SET,
            point_label(FAMILIES[name], index),
            _point(tuned, setting, seed, name, index),
        )
        for seed in seeds
        for name in families
        for index in range(len(FAMILIES[name].points))
    ]


def point_label(family: Family, index: int) -> str:
    """What a point is called."""
    return f"{family.name}.{index}"


def _point(tuned: Tuned, setting: str, seed: int, name: str, index: int) -> Recipe:
    family = FAMILIES[name]
    start = tuned.parameters(setting, family.of) if family.of else {}
    known = {parameter.name for parameter in get(family.method).parameters}
    kept = {key: value for key, value in start.items() if key in known}
    return recipe_of(setting, seed, CONTROL_SET, family.method, {**kept, **family.points[index]})


def experts(setting: str, seeds: Sequence[int]) -> list[tuple[int, str, str]]:
    """Seed, name and portable reference of every expert."""
    return [(seed, name, SETTINGS[setting].expert(name, seed, ZOO)) for seed in seeds for name in SETS["three"]]
