"""Merges of one set of inputs made in memory and asked at once, without a file: for searches and studies.

    with Workbench(recipe, AuditPlan(split="validation", limit=60)) as bench:
        anchor = bench.anchor()
        made = bench.merge(recipe)             # any recipe with the same anchor, experts and calibration
        audit = bench.audit(made)

Nothing made here can be published; what a search finds is merged again by the pipeline, staged and audited.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignmerge import jsonio
from alignmerge.auditor.engines.transformers_engine import TransformersEngine
from alignmerge.auditor.record import AuditRecord
from alignmerge.errors import RecipeError
from alignmerge.merger.gathered import Gathered
from alignmerge.merger.ingredients import Ingredients, open_ingredients
from alignmerge.merger.methods import get
from alignmerge.merger.methods.alignmerge import Materials
from alignmerge.merger.recipe import Recipe, resolve
from alignmerge.merger.stream import merge_in_memory
from alignmerge.models import build_model, load_tokenizer
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.pipeline.bench import Bench
from alignmerge.pipeline.calibration import Collector

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Made:
    """A merge in memory: its tensors by name in the recipe's dtype, and the method's own account."""

    recipe: Recipe
    tensors: "Mapping[str, torch.Tensor]"
    account: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 over name, dtype, shape and bytes of every tensor: the name its answers are stored under."""
        from alignmerge.merger.reference import tensor_digest

        return jsonio.digest(["in memory", tensor_digest(dict(self.tensors))])


class Workbench:
    """Opens the inputs of `recipe` once, gathers calibration once for each kind of method, and asks under `plan`.

    `store` holds answers between runs; without it the shared one is used.
    """

    def __init__(self, recipe: Recipe, plan: AuditPlan, store: Path | None = None) -> None:
        self.recipe, self.plan = recipe, plan
        self.inputs: Ingredients = open_ingredients(resolve(recipe))
        self._bench = Bench(plan, store)
        self._gathered: dict[str, tuple[Materials | Gathered, str]] = {}
        self._tokenizer = load_tokenizer(self.inputs.anchor)

    def __enter__(self) -> "Workbench":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bench.__exit__(*exception)

    def anchor(self, *, against_base: bool = False) -> AuditRecord:
        """The anchor's audit; it fixes what AQI of later ones is measured with.

        against_base: decide AQI's validity gate too, where the recipe names a base; it costs two more models' states.
        """
        engine = self._bench.engine(self.inputs.anchor)
        base = self.inputs.base if against_base else None
        return self._bench.anchor(engine, self.inputs.anchor, "anchor", base)

    def expert(self, name: str) -> AuditRecord:
        """The audit of the expert that the recipe calls `name`."""
        found = next(expert for expert in self.inputs.experts if expert.name == name)
        return self._bench.audit(self._bench.engine(found), found.digest, name)

    def merge(self, recipe: Recipe, *, keep_hard: bool = True) -> Made:
        """The merge of `recipe`, whose anchor and experts are the workbench's; keep_hard: see Materials.

        Raises:
            RecipeError: they are others. Others: see merge_in_memory.
        """
        recipe = resolve(recipe)
        same = {one.model for one in recipe.experts} == {one.model for one in self.recipe.experts}
        if recipe.anchor != self.recipe.anchor or not same:
            raise RecipeError("the recipe has another anchor or other experts than the workbench")
        account: dict[str, Any] = {}
        materials = self.materials(recipe)
        if isinstance(materials, Materials):
            materials = replace(materials, keep_hard=keep_hard)
        tensors = merge_in_memory(recipe, materials=materials, account=account)
        return Made(recipe, tensors, account)

    def materials(self, recipe: Recipe) -> Materials | Gathered | None:
        """What the recipe's method is handed; None where it asks for nothing. Gathered once per kind of method."""
        method = get(recipe.method)
        if "calibration" not in method.needs:
            return None
        own = {name: recipe.parameters[name] for name in sorted(method.gather_knobs)}
        per_expert = [dict(expert.parameters) for expert in recipe.experts] if own else []
        threads = recipe.parameters.get("threads")
        which = [method.gather and method.name, method.held_out_skills]
        kind = jsonio.digest([*which, own, per_expert, threads, recipe.calibration, recipe.seed])
        if kind not in self._gathered:
            collector = Collector(recipe)
            collector.anchor(self._bench.engine(self.inputs.anchor))
            for expert in self.inputs.experts:
                collector.expert(self._bench.engine(expert), expert.name)
            if collector.wants_anchor_again:
                collector.anchor_again(self._bench.engine(self.inputs.anchor))
            self._gathered[kind] = collector.materials(self.inputs.anchor, self.plan.dtype)
        return self._gathered[kind][0]

    def engine(self, tensors: "Mapping[str, torch.Tensor]") -> TransformersEngine:
        """A model of these tensors, ready to answer."""
        model = build_model(self.inputs.anchor.config, tensors, self.plan.dtype)
        return TransformersEngine(model, self._tokenizer, batch_size=self.plan.batch_size)

    def audit(self, made: Made, label: str = "merge", plan: AuditPlan | None = None) -> AuditRecord:
        """The merge's audit under the workbench's plan, or under another one."""
        engine = self.engine(made.tensors)
        if plan is None:
            return self._bench.audit(engine, made.digest, label)
        before, self._bench.plan = self._bench.plan, replace(plan, dtype=self.plan.dtype)
        try:
            return self._bench.audit(engine, made.digest, label)
        finally:
            self._bench.plan = before
