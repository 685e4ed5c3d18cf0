"""What the study is made of, as data: settings, expert sets, methods with what is tuned, controls, frontier families.

Notable decisions:
- Every method is tuned by at most 12 evaluations on validation items of seed 0; the first one is its default.
- All methods that use calibration are handed the same rows, unless a control says otherwise.
- A control starts from AlignMerge's tuned knobs (or those of `of`) and changes what its row names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from alignmerge.errors import UsageError
from alignmerge.merger.methods import get
from alignmerge.merger.methods.base import unknown
from alignmerge.merger.recipe import Expert, Recipe, Reference, resolve

ANCHOR, REFERENCE = "zoo:safety", "reference:smollm2-135m"
SKILLS = {"arithmetic": "arithmetic", "format": "instructions", "units": "units"}
SETS = {"one": ("arithmetic",), "two": ("arithmetic", "format"), "three": ("arithmetic", "format", "units")}
SEEDS = (0, 1, 2)
TUNED_ON = {"seed": 0, "set": "three"}
EVALUATIONS, VALIDATION_ITEMS = 12, 60
CALIBRATION = {
    "alignment_items": 132,
    "training_items": 120,
    "expert_items": 120,
    "expert_training_items": 180,
    "validation_items": 32,
    "alignment_tokens": 12,
    "expert_tokens": 40,
}
# Per-example gradients of four models take minutes per hundred rows: the Fisher soup's come from a part of the rows.
FISHER_CALIBRATION = {"alignment_items": 32, "expert_items": 32, "alignment_tokens": 12, "expert_tokens": 40}
ZOO = "ZOO"  # stands for the folder of built experts wherever something is written down


@dataclass(frozen=True)
class Setting:
    """Where experts were trained from. `folder` is the part of the zoo's folder names; `shipped`: seed 0 is `zoo:`."""

    name: str
    title: str
    trained_from: Reference
    folder: str
    shipped: bool

    def expert(self, name: str, seed: int, zoo: str) -> str:
        """What the recipe calls an expert; `zoo` is the folder of built experts (or ZOO)."""
        return f"zoo:{name}" if self.shipped and seed == 0 else f"{zoo}/{self.folder}-seed{seed}/{name}"


SETTINGS = {
    one.name: one
    for one in (
        Setting("main", "Experts trained from the anchor", "anchor", "anchor", shipped=True),
        Setting("base", "Experts trained from the base", "base", "reference", shipped=False),
    )
}


@dataclass(frozen=True)
class Method:
    """A column of the study. `axes` are the knobs that are tuned, their first values the default; `fixed` the others.

    undefined: settings for which the method has no meaning, and why. baseline: False for what is no plain merge and so
    stands beside AlignMerge as a control, tuned like the others.
    """

    label: str
    method: str
    axes: Mapping[str, tuple[Any, ...]]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    undefined: Mapping[str, str] = field(default_factory=dict)
    baseline: bool = True

    def points(self) -> list[dict[str, Any]]:
        """Every evaluation's knobs, the default first."""
        return [{**self.fixed, **dict(zip(self.axes, values, strict=True))} for values in product(*self.axes.values())]


METHODS = {
    one.label: one
    for one in (
        Method("linear", "linear", {"anchor_weight": (1.0, 0.0, 0.1, 0.25, 0.5, 0.75, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0)}),
        Method("task_arithmetic", "task_arithmetic", {"scale": (1.0, *(round(0.1 * i, 1) for i in range(1, 10)), 1.5)}),
        Method("fisher", "fisher", {"anchor_weight": (1.0, 0.05, 0.2, 0.5, 2.0, 5.0), "floor": ("anchor", "all")}),
        Method("ties", "ties", {"density": (0.2, 0.1, 0.5, 0.9), "scale": (1.0, 0.5, 1.5)}),
        Method(
            "safemerge_revert",
            "safemerge_revert",
            {"threshold": (0.35, 0.2, 0.5, 1.0), "alpha": (0.8, 0.5, 0.2)},
            undefined={"base": "it judges updates made on the anchor"},
        ),
        Method("mergealign_thakkar", "mergealign_thakkar", {"alpha": (0.5, 0.3, 0.7, 1.0), "beta": (0.5, 0.8, 1.0)}),
        Method("dare_ties", "dare_ties", {"density": (0.8, 0.5, 0.2, 0.1), "scale": (1.0, 0.5, 1.5)}),
        Method("resta", "resta", {"gamma": (0.5, 0.25, 1.0, 1.5), "drop": (0.0, 0.3, 0.7)}),
        Method("layerwise", "layerwise", {"start": (0.0, 0.3, 0.6), "end": (1.0, 0.7, 0.4, 0.0)}),
        # As they come: their knobs were set on validation items of seed 0 while the method was made, in more than 12
        # looks, so more evaluations here would say nothing about tuning effort. The frontier sweeps both.
        Method("alignmerge", "alignmerge", {}),
        Method(
            "repair_finetune",
            "repair_finetune",
            {},
            fixed={"steps": 100, "batch_rows": 22, "alignment_share": 0.45},  # the rows and passes of alignmerge
            baseline=False,
        ),
    )
}


@dataclass(frozen=True)
class Control:
    """A named variant with fixed knobs, run on one expert set. `of`: the tuned method it starts from (None: none).

    calibration: sizes that differ from CALIBRATION. norm_of: a method of the same seed and set whose distance from the
    anchor the merge is scaled to; `parameters` must then hold `scale`, that of the merge which is measured first.
    """

    label: str
    method: str
    parameters: Mapping[str, Any]
    why: str
    of: str | None = "alignmerge"
    calibration: Mapping[str, int] = field(default_factory=dict)
    norm_of: str | None = None


CONTROL_SET = "three"


def _part(share: int) -> dict[str, int]:
    """One `share`th of the items that are learnt from; those held out stay, for they only measure."""
    learnt = ("alignment_items", "training_items", "expert_items", "expert_training_items")
    return {name: CALIBRATION[name] // share for name in learnt}


NO_SKILL = {"start": "mixture", "lambda_skill": 0.0}  # the closed form would be the anchor itself
NO_GRADIENT, PROGRESSIVE = {"descent_steps": 0, "steps": 0}, {"start": "progressive"}
DISTILLATION = {"lambda_geo": 0.0, "lambda_bud": 0.0, "steps": 0, "stretches": 1}
CONTROLS = {
    one.label: one
    for one in (
        Control("soup_norm_matched", "task_arithmetic", {"scale": 1.0}, "as far, no geometry", None, {}, "alignmerge"),
        Control("one_shot", "alignmerge", {"start": "mixture", "descent_steps": 0, "steps": 1}, "one linear step"),
        Control("shield_only", "alignmerge", {**NO_SKILL, "lambda_bud": 0.0}, "L_align alone, from the mixture"),
        Control("no_skill_rows", "alignmerge", NO_SKILL, "alignment alone, from the mixture"),
        Control("no_alignment_rows", "alignmerge", {"lambda_align": 0.0, "lambda_bud": 0.0}, "skills alone"),
        Control("budget_only", "alignmerge", {"lambda_align": 0.0}, "L_bud without L_align"),
        Control("no_geometry", "alignmerge", {"lambda_geo": 0.0}, "no pull back to the start"),
        *(
            Control(
                f"metric_{name}", "alignmerge", {"metric": name, "lambda_geo": 0.02}, f"a strong pull, {name} chart"
            )
            for name in ("identity", "fisher", "kfac")
        ),
        Control("from_mixture", "alignmerge", {"start": "mixture"}, "the same solve from the plain mixture"),
        Control("start_alone", "alignmerge", NO_GRADIENT, "the closed form alone, no gradient"),
        Control("progressive", "alignmerge", PROGRESSIVE, "the same solve from the progressive start"),
        Control("progressive_alone", "alignmerge", {**PROGRESSIVE, **NO_GRADIENT}, "progressive start, no gradient"),
        Control(
            "sharp_skills",
            "alignmerge",
            {"start": "mixture", "residual": "sharp", "radius": 1e-4},
            "from the mixture, skill rows by the answer itself; beside from_mixture.7",
        ),
        Control(
            "nearly_finetuned",
            "alignmerge",
            {**DISTILLATION, "residual": "sharp", "radius": 1e-4},
            "as near to fine-tuning as the knobs go, from the closed form: no pull, no budget, one stretch",
        ),
        Control("likelihood_residual", "alignmerge", {"residual": "likelihood"}, "the one answer, no distributions"),
        Control(
            "distillation",
            "alignmerge",
            DISTILLATION,
            "AdamW on the distances alone, from the same start: no pull, no budget, no way back on the way",
        ),
        Control("restoration_only", "alignmerge", {"start": "mixture", "descent_steps": 0, "steps": 8}, "no descent"),
        *(
            Control(f"{label}_items", "alignmerge", {}, f"{label} of the items to learn from", calibration=_part(share))
            for label, share in (("half", 2), ("quarter", 4))
        ),
        Control(
            "mixture", "task_arithmetic", {"scale": 0.7}, "what shields and solves begin with, left as it is", None
        ),
        *(
            Control(f"linear_shield_{label}", "alignment_shield", {"scale": 0.7, **knobs}, why, None)
            for label, knobs, why in (
                ("full", {}, "the one-shot shield, 90 % of the spectrum"),
                ("rank_4", {"rank": 4}, "the one-shot shield, rank sweep"),
                ("rank_16", {"rank": 16}, "the one-shot shield, rank sweep"),
                ("fisher", {"metric": "fisher"}, "the one-shot shield in the diagonal Fisher chart"),
                ("kfac", {"metric": "kfac"}, "the one-shot shield in the K-FAC chart"),
                ("benign", {"rows": "harmless"}, "margins of benign items only"),
                ("harmful", {"rows": "harmful"}, "margins of harmful items only"),
                ("random", {"control": "random"}, "a random removal of equal rank and length"),
            )
        ),
    )
}

# Measured as they come too: what a merge does in the hands of someone who looks at skill alone.
DEFAULTS = tuple(name for name, one in METHODS.items() if one.baseline and name != "alignmerge")


@dataclass(frozen=True)
class Family:
    """Points of one method along the frontier: each row of `points` is laid over the tuned knobs of `of`."""

    name: str
    method: str
    points: tuple[Mapping[str, Any], ...]
    of: str | None = None


def _grid(fixed: Mapping[str, Any] | None = None, **axes: tuple[Any, ...]) -> tuple[Mapping[str, Any], ...]:
    return tuple({**(fixed or {}), **dict(zip(axes, values, strict=True))} for values in product(*axes.values()))


# Fine-tuning starts from the mixture; AlignMerge and distillation from the closed form, which takes no more items and
# no gradient, and AlignMerge once more from the mixture. All are swept over how long they go and how far a step goes,
# AlignMerge over its stop level too, the budget. They have as many points: the best of more would be better by chance.
TUNED_SCALE = {"scale": 0.7}
STEPS = (50, 100)
SWEPT: Mapping[str, tuple[Any, ...]] = {"radius": (3e-5, 1e-4), "budget": (0.05, 0.15), "descent_steps": STEPS}
FAMILIES = {
    one.name: one
    for one in (
        Family("alignmerge", "alignmerge", _grid(TUNED_SCALE, **SWEPT), of="alignmerge"),
        Family("from_mixture", "alignmerge", _grid({**TUNED_SCALE, "start": "mixture"}, **SWEPT), of="alignmerge"),
        Family(
            "distillation",
            "alignmerge",
            _grid({**DISTILLATION, **TUNED_SCALE}, radius=(3e-5, 6e-5, 1e-4, 2e-4), descent_steps=STEPS),
            of="alignmerge",
        ),
        Family(
            "repair_finetune",
            "repair_finetune",
            _grid(TUNED_SCALE, learning_rate=(1e-5, 2e-5, 5e-5, 1e-4), steps=STEPS),
            of="repair_finetune",
        ),
        Family("task_arithmetic", "task_arithmetic", _grid(scale=(0.2, 0.3, 0.4, 0.5, 0.7, 1.0))),
        Family("linear", "linear", _grid(anchor_weight=(0.0, 0.5, 1.0, 2.0, 4.0, 8.0))),
        Family("ties", "ties", _grid(density=(0.2, 0.5), scale=(0.5, 1.0, 1.5))),
    )
}


def recipe_of(
    setting: str,
    seed: int,
    experts: str,
    method: str,
    parameters: Mapping[str, Any],
    zoo: str = ZOO,
    calibration: Mapping[str, int] | None = None,
) -> Recipe:
    """The resolved recipe of a cell; `zoo` is the folder of built experts.

    Raises:
        RecipeError: see merger.recipe.resolve. UsageError: an unknown setting or set.
    """
    if setting not in SETTINGS or experts not in SETS:
        what, name, known = ("set", experts, SETS) if setting in SETTINGS else ("setting", setting, SETTINGS)
        raise UsageError(unknown(f"{what} of the study", name, known))
    where = SETTINGS[setting]
    rows = [Expert(where.expert(name, seed, zoo), where.trained_from, 1.0, SKILLS[name]) for name in SETS[experts]]
    return resolve(
        Recipe(
            anchor=ANCHOR,
            experts=tuple(rows),
            method=method,
            parameters=dict(parameters),
            base=REFERENCE,
            unaligned=REFERENCE,
            calibration=_calibration(method, calibration or {}),
            seed=seed,
        )
    )


def _calibration(method: str, changed: Mapping[str, int]) -> dict[str, Any] | None:
    """What the method is handed; None for one that asks for nothing."""
    if "calibration" not in get(method).needs:
        return None
    return {**(FISHER_CALIBRATION if method == "fisher" else CALIBRATION), **changed}


def placed(recipe: Recipe, zoo: Path) -> Recipe:
    """`recipe` with the folder of built experts where ZOO stood."""
    experts = [
        replace(one, model=f"{zoo}{one.model.removeprefix(ZOO)}" if one.model.startswith(f"{ZOO}/") else one.model)
        for one in recipe.experts
    ]
    return replace(recipe, experts=tuple(experts))
