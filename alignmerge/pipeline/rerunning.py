"""A published merge, made again from its own record and compared: the same digest, or how far the tensors are apart.

Methods that need no data give one digest everywhere, so another one means that recipe, inputs and weights do not belong
together. Methods that need data give one digest on one platform with one set of library versions; elsewhere they are
compared by relative L2, and a difference is never called tampering.
"""

import math
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alignmerge.errors import Inconclusive, RecordError, StorageError
from alignmerge.merger import record as merge_record
from alignmerge.merger.methods import get
from alignmerge.merger.recipe import Recipe, from_json
from alignmerge.merger.record import MergeRecord
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.pipeline.runfolder import RECORDS
from alignmerge.pipeline.ungated import merge_ungated
from alignmerge.pipeline.verifying import Verified
from alignmerge.pipeline.verifying_model import Finding
from alignmerge.provenance import manifest as manifests

CLOSE = 1e-3
_NAMED = 5


@dataclass(frozen=True)
class Rerun:
    """What running the recipe again gave. text: in words. distance: relative L2 of all tensors, 0 for the same digest;
    None where nothing can be compared. finding: what does not belong together; None where nothing speaks against it.
    """

    text: str
    distance: float | None
    finding: Finding | None = None

    @property
    def exit_code(self) -> int:
        """0 when it was reproduced, 4 when it cannot be told, 5 when something does not belong together."""
        if self.finding is not None:
            return RecordError.exit_code
        return 0 if self.distance is not None and self.distance <= CLOSE else Inconclusive.exit_code

    def added_to(self, found: Verified) -> Verified:
        """`found` with this outcome as a note or a finding."""
        if self.finding is not None:
            return replace(found, findings=(*found.findings, self.finding))
        return replace(found, notes=(*found.notes, f"rerun: {self.text}"))

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain data."""
        return {"outcome": self.text, "relative_l2": self.distance, "exit_code": self.exit_code}


def rerun(folder: Path) -> Rerun:
    """What the recipe of the merge in `folder` gives now. The new merge lies beside it meanwhile, and takes its space.

    Raises:
        RecordError: there is no checkpoint, or its recipe cannot be run.
        InputRejected, StorageError: an input cannot be used; see `stage`.
    """
    model = folder.absolute()
    model = model.parent if model.name == RECORDS and not (model / manifests.FILE_NAME).exists() else model
    if not (model / manifests.FILE_NAME).is_file():
        raise RecordError(f"{folder}: holds no checkpoint of one merge, so there is nothing to run again")
    made = merge_record.read(model)
    recipe = from_json(made.recipe, str(model / merge_record.FILE_NAME))
    try:
        scratch = Path(tempfile.mkdtemp(prefix=f".{model.name}.rerun-", dir=model.parent))
    except OSError as error:
        raise StorageError(f"{model.parent}: the rerun has no place: {error.strerror}") from None
    try:
        again = scratch / "merge"
        merge_ungated(recipe, again, AuditPlan.of(recipe.dtype))
        return _compared(recipe, model, made, again)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _compared(recipe: Recipe, model: Path, made: MergeRecord, again: Path) -> Rerun:
    now = merge_record.read(again)
    where = str(model / merge_record.FILE_NAME)
    others = [new.role for old, new in zip(made.inputs, now.inputs, strict=False) if old.digest != new.digest]
    if others or len(made.inputs) != len(now.inputs):
        text = f"inputs are other checkpoints now ({', '.join(others) or 'another number'}); it was not made of these"
        return Rerun(text, None, Finding(where, text))
    if now.output_digest == made.output_digest:
        return Rerun("reproduced: the same digest", 0.0)
    if now.tensor_digest == made.tensor_digest:
        return _other_files(model, again)
    distance, names = _distance(model, again)
    if "calibration" not in get(recipe.method).needs:
        text = f"the recipe gives other tensors: {', '.join(names[:_NAMED])} (relative L2 {distance:.3g})"
        return Rerun(text, distance, Finding(str(model), text))
    if distance <= CLOSE:
        return Rerun(f"reproduced within {CLOSE:g} relative L2 ({distance:.3g})", distance)
    # Records from before there was a choice name no device; `products` stands in those of some processors alone.
    before, after = ({"device": "cpu", **one.versions} for one in (made, now))
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    why = f"other versions: {', '.join(changed)}" if changed else "the versions named in merge.json are the same"
    return Rerun(f"not reproduced within {CLOSE:g} relative L2 ({distance:.3g}); {why}", distance)


def _other_files(model: Path, again: Path) -> Rerun:
    """The same tensors in another checkpoint: another layout of shards is none, another configuration is."""
    old, new = ({one.path: one for one in manifests.read(folder).files} for folder in (model, again))
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    others = [name for name in names if not name.endswith((".safetensors", ".safetensors.index.json"))]
    if not others:
        return Rerun("reproduced: the same tensors, in other files", 0.0)
    text = f"the recipe gives the same tensors and other files: {', '.join(others)}"
    return Rerun(text, 0.0, Finding(str(model), text))


def _distance(model: Path, again: Path) -> tuple[float, list[str]]:
    """Relative L2 over all tensors together, infinite where they do not match; and the names of those that differ."""
    from alignmerge.merger.checkpoint import open_checkpoint

    old, new = open_checkpoint(model), open_checkpoint(again)
    moved = size = 0.0
    names = sorted(old.tensors.keys() ^ new.tensors.keys())
    if names:
        return math.inf, names
    for name in old.tensors:
        left, right = old.read(name).double(), new.read(name).double()
        if left.shape != right.shape:
            return math.inf, [name]
        difference = float((left - right).square().sum())
        names += [name] if difference else []
        moved, size = moved + difference, size + float(left.square().sum())
    return (math.sqrt(moved / size) if size else math.inf if moved else 0.0), names
