"""Carrying out a recipe: tensor by tensor in float32, rounded once, written crash-safely.

    with stage(recipe, out) as staged:      # OUT.partial/checkpoint is complete, with manifest.json and merge.json
        ...                                 # audit staged.folder
        staged.publish()                    # or staged.discard(): then no checkpoint exists

`merge` does both at once. `merge_in_memory` gives the same values without a file.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignmerge import jsonio, progress
from alignmerge.merger import record as merge_record
from alignmerge.merger.copied import slots_of
from alignmerge.merger.executor import Executor
from alignmerge.merger.ingredients import Ingredients, open_ingredients
from alignmerge.merger.layout import SHARD_BYTES, copy_companions, plan_shards, write_index
from alignmerge.merger.methods import MergeMethod, get
from alignmerge.merger.opened import open_all
from alignmerge.merger.plan import check_plan
from alignmerge.merger.recipe import Recipe, resolve
from alignmerge.merger.record import Input, MergeRecord
from alignmerge.merger.shard_writer import Slot, Written
from alignmerge.merger.staging import Staging
from alignmerge.provenance import manifest as manifests
from alignmerge.provenance.manifest import Manifest

if TYPE_CHECKING:
    import torch

Show = Callable[[str, int], AbstractContextManager[progress.Track]]


@dataclass(frozen=True)
class MergeResult:
    """A published merge."""

    folder: Path
    manifest: Manifest
    record: MergeRecord


@dataclass(frozen=True)
class Staged:
    """A complete but unpublished merge in `folder`."""

    folder: Path
    manifest: Manifest
    record: MergeRecord
    _staging: Staging

    def publish(self, elsewhere: Path | None = None) -> MergeResult:
        """The merge at its final place, or `elsewhere` in the same folder; see Staging.publish."""
        return MergeResult(self._staging.publish(elsewhere), self.manifest, self.record)

    def discard(self) -> None:
        """Remove every trace of the merge."""
        self._staging.discard()


def merge(
    recipe: Recipe,
    out: Path,
    *,
    materials: Any = None,
    materials_digest: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    workers: int | None = None,
    clean: bool = False,
    notes: Sequence[str] = (),
    show: Show = progress.track,
) -> MergeResult:
    """The merge of `recipe`, published at `out`; resumes an unfinished one. See `stage`."""
    with stage(
        recipe,
        out,
        materials=materials,
        materials_digest=materials_digest,
        shard_bytes=shard_bytes,
        workers=workers,
        clean=clean,
        notes=notes,
        show=show,
    ) as staged:
        return staged.publish()


@contextmanager
def stage(
    recipe: Recipe,
    out: Path,
    *,
    materials: Any = None,
    materials_digest: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    workers: int | None = None,
    clean: bool = False,
    notes: Sequence[str] = (),
    show: Show = progress.track,
) -> Iterator[Staged]:
    """The merge of `recipe`, complete in OUT.partial and locked, to be published or discarded.

    `materials` is handed to the method through its View; `materials_digest` names it in the plan, so that a resume with
    other materials is refused. `workers` threads compute (default: the cores this process may use), fewer where so
    many tensors of the largest kind do not fit into memory. `clean` removes an unfinished merge into `out` that is
    another one. `notes` (on how the recipe was read, say) go into the record. `show` makes the progress display. The
    bytes of every tensor depend on the recipe and its inputs alone.

    Raises:
        RecipeError, UsageError: the recipe or `out` is unusable.
        InputRejected (and below): an ingredient is malformed, unsafe, not finite, or does not fit.
        StorageError: no space, another merge into `out` is running, or the disk failed.
    """
    recipe = resolve(recipe)
    method = get(recipe.method)
    opened = open_all(recipe)
    planned = check_plan(recipe, opened, out, shard_bytes)
    ingredients = open_ingredients(recipe, materials, opened)
    inputs = _inputs(recipe, ingredients)
    versions = merge_record.versions() | _computed(materials)
    plan = {
        "inputs": [vars(entry) for entry in inputs],
        "materials": materials_digest,
        "recipe": recipe.to_json(),
        "shard_bytes": shard_bytes,
        "versions": versions,
    }
    if versions.get("device", "cpu") != "cpu":
        # A GPU may sum in another order next time, and half of one solve with half of another is neither of them, so
        # Staging refuses what is unfinished.
        plan["attempt"] = uuid.uuid4().hex
    with Staging(out, plan, clean=clean) as staging, closing(ingredients.files):
        prepared = _prepare(method, ingredients, recipe)
        slots = slots_of(ingredients.anchor, recipe.dtype)
        shards = plan_shards(slots, shard_bytes)
        executor = Executor(method, ingredients, prepared, recipe.parameters, recipe.dtype)
        room = planned.tensors_at_once
        with show(f"merge {recipe.method}", len(slots)) as track, executor.threads(workers, room) as threads:
            written = staging.shards(
                shards,
                executor.merged,
                executor.remarks,
                workers=threads,
                advance=track.advance,
                stop=ingredients.files.stop,
            )
        ingredients.files.check()
        manifest = _complete(staging.folder, ingredients, shards, written, recipe.dtype)
        done = MergeRecord(
            recipe=recipe.to_json(),
            inputs=inputs,
            versions=versions,
            account=_account(method, prepared, executor.remarks),
            notes=tuple(dict.fromkeys((*notes, *planned.notes, *staging.notes))),
            output_digest=manifest.digest,
            tensor_digest=_tensor_digest(slots, written),
        )
        merge_record.write(done, staging.folder)
        yield Staged(staging.folder, manifest, done, staging)


def _computed(materials: Any) -> dict[str, str]:
    """On what models were computed for a merge that asks some, and how where not by the processor's own products."""
    if materials is None:
        return {}
    how = {} if materials.products is None else {"products": materials.products}
    return {"device": str(materials.device), **how}


def _prepare(method: MergeMethod, ingredients: Ingredients, recipe: Recipe) -> Any:
    """What the method's pass over the whole model returns; None where it has none."""
    if method.prepare is None:
        return None
    return method.prepare(ingredients, method.whole(recipe.parameters, ingredients.own))


def _account(method: MergeMethod, prepared: Any, remarks: Mapping[str, Any]) -> dict[str, Any]:
    """The method's account of the whole, with what it said of each tensor under "tensors"."""
    whole = method.account(prepared) if method.account else {}
    return {**whole, "tensors": {name: remarks[name] for name in sorted(remarks)}} if remarks else whole


def _complete(
    folder: Path,
    ingredients: Ingredients,
    shards: Sequence[tuple[str, Sequence[Slot]]],
    written: Sequence[Written],
    dtype: str,
) -> Manifest:
    """The manifest, stored in `folder` after everything it lists."""
    write_index(folder, shards)
    copy_companions(ingredients.anchor, folder, dtype)
    manifest = manifests.build_manifest(
        folder,
        tensor_count=len(ingredients.anchor.tensors),
        parameter_count=sum(info.parameters for info in ingredients.anchor.tensors.values()),
        known=tuple(shard.file for shard in written),
    )
    manifests.write(manifest, folder)
    return manifest


def merge_in_memory(
    recipe: Recipe,
    *,
    materials: Any = None,
    account: dict[str, Any] | None = None,
    show: Show = progress.track,
) -> "dict[str, torch.Tensor]":
    """The merged tensors by name, weights in the recipe's dtype: the very values that `merge` writes.

    `account`, where given, receives what the method says of its own work.
    """
    import torch

    recipe = resolve(recipe)
    method = get(recipe.method)
    ingredients = open_ingredients(recipe, materials)
    prepared = _prepare(method, ingredients, recipe)
    executor = Executor(method, ingredients, prepared, recipe.parameters, recipe.dtype)
    out = {}
    slots = slots_of(ingredients.anchor, recipe.dtype)
    with show(f"merge {recipe.method}", len(slots)) as track, executor.threads(1):
        for slot in slots:
            found = [torch.from_numpy(part.view("uint8")) for part in executor.merged(slot.name)]
            values = torch.cat(found) if found else torch.empty(0, dtype=torch.uint8)
            out[slot.name] = values.view(getattr(torch, slot.dtype)).reshape(slot.shape)
            track.advance()
    if account is not None:
        account.update(_account(method, prepared, executor.remarks))
    return out


def _inputs(recipe: Recipe, ingredients: Ingredients) -> tuple[Input, ...]:
    rows = [Input("anchor", recipe.anchor, ingredients.anchor.digest)]
    if recipe.base and ingredients.base:
        rows.append(Input("base", recipe.base, ingredients.base.digest))
    named = {"unaligned": recipe.unaligned, "safety": recipe.safety}
    for role, reference in named.items():
        if role in ingredients.others and reference:
            rows.append(Input(role, reference, ingredients.others[role].digest))
    return (*rows, *(Input("expert", expert.name, expert.digest) for expert in ingredients.experts))


def _tensor_digest(slots: Sequence[Slot], written: Sequence[Written]) -> str:
    """SHA-256 over name, dtype, shape and bytes of every tensor, whatever files they lie in."""
    sums = {name: value for shard in written for name, value in shard.tensors.items()}
    return jsonio.digest([[slot.name, slot.dtype, list(slot.shape), sums[slot.name]] for slot in slots])
