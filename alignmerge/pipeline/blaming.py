"""Who spends a merge's drift: the merge of a recipe, or a published one, taken apart into its experts' moves.

An expert's part is c_k tau_k, c_k the method's coefficient (merger/methods/coefficients.py): its weight times the
`scale`, and for methods that average, its share of the weights. What the parts leave of the merge is the method's own.
Everything is computed in float32.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import fsum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignmerge.auditor.engines.transformers_engine import TransformersEngine
from alignmerge.errors import RecipeError, RecordError, TensorMismatch
from alignmerge.merger import record as merge_record
from alignmerge.merger import schedule
from alignmerge.merger.geometry.blame import METHOD, POINTS, Blame, Cell, finite_blame, linear_blame
from alignmerge.merger.geometry.rows import ALIGNMENT
from alignmerge.merger.ingredients import Ingredients, open_ingredients
from alignmerge.merger.methods import get
from alignmerge.merger.recipe import Recipe, resolve
from alignmerge.models import load_model
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.pipeline.calibration import own_answers
from alignmerge.pipeline.drift import TOKENS, anchor_subspace, held_out
from alignmerge.pipeline.runfolder import unique_labels
from alignmerge.pipeline.workbench import Workbench
from alignmerge.progress import track

if TYPE_CHECKING:
    from torch import Tensor

ITEMS = 16  # of each alignment suite


@dataclass(frozen=True)
class Blamed:
    """Finite blame, and linear blame or why there is none. experts: contributor's name to the recipe's reference."""

    finite: Blame
    linear: tuple[Cell, ...] | str
    experts: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Every cell of both."""
        linear: dict[str, Any] = (
            {"unscored": self.linear}
            if isinstance(self.linear, str)
            else {"linear_drift": fsum(cell.share for cell in self.linear), "cells": [vars(c) for c in self.linear]}
        )
        return {"finite": self.finite.to_json(), "linear": linear, "experts": dict(self.experts)}


def blame_recipe(recipe: Recipe, merge: Path | None = None, *, items: int = ITEMS, points: int = POINTS) -> Blamed:
    """The blame of the recipe's merge, made in memory; or of the published merge in the folder `merge`.

    Raises:
        RecordError: `merge` was made from another anchor. Others: see `blame_tensors`, Workbench, open_checkpoint.
    """
    recipe = resolve(recipe)
    if merge is None:
        with Workbench(recipe, AuditPlan.of(recipe.dtype)) as bench:
            tensors = bench.merge(recipe).tensors
        return blame_tensors(recipe, tensors.__getitem__, items=items, points=points)
    from alignmerge.merger.checkpoint import open_checkpoint

    inputs, made = open_ingredients(recipe), merge_record.read(merge)
    if made.anchor != inputs.anchor.digest:
        raise RecordError(
            f"{merge}: was made from the anchor {str(made.anchor)[:12]}, the recipe's is {inputs.anchor.digest[:12]}"
        )
    return blame_tensors(recipe, open_checkpoint(merge).read, items=items, points=points)


def blame_tensors(
    recipe: Recipe, read: "Callable[[str], Tensor]", *, items: int = ITEMS, points: int = POINTS
) -> Blamed:
    """The blame of the merge whose tensors `read` gives by name, taken apart as `recipe` says.

    items: held-out items of each alignment suite. Memory: three models in float32 beside what is read.

    Raises:
        RecipeError: fewer than one answer, or a divergence that is not finite.
        TensorMismatch: the merge lacks a tensor of the anchor's model, or has it in another shape.
    """
    recipe = resolve(recipe)
    inputs = open_ingredients(recipe)
    experts = _Experts(inputs, recipe)
    engine = TransformersEngine(*load_model(inputs.anchor, "float32"))
    rows = own_answers(engine, held_out(items), ALIGNMENT, TOKENS)
    delta = _delta(dict(engine.model.named_parameters()), inputs, read, experts)
    linear = _linear(engine, delta, experts)
    with track("blame", points * len(rows)) as bar:
        finite = finite_blame(engine.model, rows, delta, experts.parts, pad=0, points=points, track=bar)
    return Blamed(finite, linear, dict(zip(experts.labels, (one.name for one in inputs.experts), strict=True)))


class _Experts:
    """The experts' parts of one tensor."""

    def __init__(self, inputs: Ingredients, recipe: Recipe) -> None:
        self._inputs, self._recipe = inputs, recipe
        self.labels = unique_labels([one.name for one in inputs.experts], taken=(METHOD,))

    def parts(self, name: str) -> "dict[str, Tensor]":
        """c_k tau_k of the tensor by label, float32."""
        inputs, method, tile = self._inputs, get(self._recipe.method), self._inputs.tile(name)
        knobs = method.knobs_at(self._recipe.parameters, inputs.own, name, inputs.layers)
        depth = schedule.depth(name, inputs.layers)
        factors = method.coefficients(inputs.weights_at(name), knobs, depth)
        return {label: tile.task_vector(k).mul_(factors[k]) for k, label in enumerate(self.labels)}


def _delta(
    parameters: "Mapping[str, Tensor]", inputs: Ingredients, read: "Callable[[str], Tensor]", experts: _Experts
) -> "dict[str, Tensor]":
    """The merge minus the anchor, float32, of every parameter that an expert or the merge has moved."""
    merging, found = set(inputs.names), {}
    for name, anchor in parameters.items():
        if name not in inputs.anchor.tensors:
            raise TensorMismatch(f"{name}: the model has this parameter under another name than its checkpoint")
        if name not in merging:
            continue
        try:
            merged = read(name)
        except KeyError:
            raise TensorMismatch(f"{name}: the merge has no such tensor, the anchor has") from None
        if merged.shape != anchor.shape:
            raise TensorMismatch(f"{name}: {tuple(merged.shape)} in the merge, {tuple(anchor.shape)} in the anchor")
        move = merged.float() - anchor.detach().cpu()  # kept, so not on a GPU
        if bool(move.any()) or any(bool(part.any()) for part in experts.parts(name).values()):
            found[name] = move
    return found


def _linear(engine: TransformersEngine, delta: "Mapping[str, Tensor]", experts: _Experts) -> tuple[Cell, ...] | str:
    try:
        subspace = anchor_subspace(engine)
    except RecipeError as error:
        return str(error)
    shapes = subspace.directions.shapes
    whole = _Layers(shapes, delta.get)

    def part(label: str, name: str) -> "Tensor | None":
        return experts.parts(name)[label] if name in delta else None

    return linear_blame(subspace, whole, {label: _Layers(shapes, partial(part, label)) for label in experts.labels})


class _Layers(Mapping[str, "Tensor"]):
    """A move of the merged linear layers, made as it is asked for; zero where there is none."""

    def __init__(self, shapes: Mapping[str, tuple[int, int]], read: "Callable[[str], Tensor | None]") -> None:
        self._shapes, self._read = shapes, read

    def __getitem__(self, name: str) -> "Tensor":
        import torch

        found = self._read(name)
        return torch.zeros(self._shapes[name]) if found is None else found

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)
