"""One merge under a policy: carried out, audited and decided before anything appears at its place.

The published folder is the checkpoint with its records in `records/`; both appear by one rename. A rejected merge
leaves `records/` alone. Without a policy: see ungated.py.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignmerge import jsonio
from alignmerge.auditor.record import AuditRecord
from alignmerge.errors import StorageError
from alignmerge.merger.recipe import Recipe
from alignmerge.merger.stream import Staged
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.pipeline.bench import Bench
from alignmerge.pipeline.comparing import Comparison, Contestant, Gated, finish
from alignmerge.pipeline.drift import DriftGauge
from alignmerge.pipeline.kept import kept_place, mark
from alignmerge.pipeline.runfolder import RECORDS, RunFolder, final_place, unique_labels
from alignmerge.pipeline.signing import sign_merge
from alignmerge.pipeline.ungated import Merged
from alignmerge.pipeline.witness import Witness
from alignmerge.policies.references import needs_experts
from alignmerge.policies.schema import Policy
from alignmerge.policies.verdict import Verdict


def merge_gated(
    recipe: Recipe,
    out: Path,
    policy: Policy,
    plan: AuditPlan,
    *,
    notes: Sequence[str] = (),
    recipe_notes: Sequence[str] = (),
    workers: int | None = None,
    clean: bool = False,
    attached: Mapping[str, Any] | None = None,
    witness: Witness | None = None,
    keep: bool = False,
    root: AuditRecord | None = None,
) -> Merged:
    """The merge published at `out` if `policy` passes it, else `out` with its records alone.

    `notes` go into the run's record, `recipe_notes` (on how the recipe was read) into the merge's as well. `workers`
    and `clean`: see `stage`. `attached`: further JSON records by file name. `witness` signs the result and writes it
    down. `keep`: a rejected merge is kept, marked, beside `out` (see kept.py) instead of being removed. `root`: see
    Comparison.
    """
    out, notes = final_place(out), [*recipe_notes, *notes]
    [label] = unique_labels([out.name], taken=("anchor",))
    folder = RunFolder(out.with_name(f"{out.name}.partial-records"), scratch=True)

    def complete(title: str, place: Path) -> None:
        for name, value in (attached or {}).items():
            jsonio.write(folder.path / name, value)
        finish(folder, [policy], title=title, notes=notes)
        _move(folder.path, place / RECORDS)
        if witness is not None and witness.key is not None:
            sign_merge(place, label, witness.key)

    def publish(staged: Staged, verdict: Verdict | None) -> None:
        rejected = verdict is not None and verdict.exit_code != 0
        if verdict is not None and rejected:
            mark(staged.folder, verdict)
        complete(f"Merge {label}{' (rejected, kept staged)' if rejected else ''}", staged.folder)
        if witness is not None:  # before the merge appears: what the ledger does not know of is never published
            witness.merged(staged.record, label, verdict)

    with Bench(plan) as bench:
        comparison = Comparison(
            recipe,
            [Contestant(label, recipe.method, recipe.parameters)],
            folder,
            bench,
            publish_to={label: out},
            policy=policy,
            audit_experts=needs_experts(policy),
            before_publish=publish,
            keep_rejected=kept_place(out) if keep else None,
            workers=workers,
            clean=clean,
            recipe_notes=recipe_notes,
            drift=DriftGauge(plan.limit),
            ledger=witness.ledger if witness is not None else None,
            root=root,
        )
        done: Gated = comparison.run().merges[0]
    record = done.merge
    if done.model is None and done.kept is None:
        make_folder(out)
        complete(f"Merge {label} (rejected)", out)
        if witness is not None:
            witness.merged(record, label, done.verdict)
    records = (done.kept or out) / RECORDS
    return Merged(record.output_digest, record.tensor_digest, done.verdict, done.model, records, done.kept)


def make_folder(path: Path) -> None:
    """Raise StorageError where there can be no folder at `path`; make it where there is none."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path}: cannot be made: {error.strerror}") from None


def _move(source: Path, target: Path) -> None:
    try:
        if target.exists():  # records of the attempt that a crash interrupted
            shutil.rmtree(target)
        source.rename(target)
        jsonio.fsync_dir(target.parent)
    except OSError as error:
        raise StorageError(f"{target}: cannot be written: {error.strerror}") from None
