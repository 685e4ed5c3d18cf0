"""`merge --fit`: a search on validation items, then its best merge through the gate like any other.

Nothing is written before the search is over. Answers are kept in the store as they come, by the digest of the tensors
that gave them, so a search that was interrupted and is run again makes its merges anew but asks no question twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignmerge import jsonio
from alignmerge.auditor.record import AuditRecord
from alignmerge.merger.methods import get
from alignmerge.merger.recipe import Recipe
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.pipeline.comparing import collector, now
from alignmerge.pipeline.fit_showing import FIT, Trace, conclusion, fit_json, fit_notes
from alignmerge.pipeline.fit_spending import spent_by, spent_text
from alignmerge.pipeline.fitting import Fit, Setting
from alignmerge.pipeline.merging import make_folder, merge_gated
from alignmerge.pipeline.runfolder import RECORDS, final_place
from alignmerge.pipeline.ungated import Merged
from alignmerge.pipeline.witness import Witness
from alignmerge.pipeline.workbench import Workbench
from alignmerge.policies.schema import Policy

NO_MERGE_INSIDE = 3


@dataclass(frozen=True)
class Fitted:
    """A finished `merge --fit`. merged: None where no merge evaluated is inside the budgets; record: fit.json."""

    merged: Merged | None
    record: dict[str, Any]
    records: Path

    @property
    def exit_code(self) -> int:
        """The verdict's, and 3 where there is nothing to decide on."""
        if self.merged is None or self.merged.verdict is None:
            return NO_MERGE_INSIDE
        return self.merged.verdict.exit_code


def fit_and_merge(
    recipe: Recipe,
    out: Path,
    policy: Policy,
    *,
    evaluations: int,
    items: int | None,
    limit: int | None,
    write: Callable[[str], None],
    recipe_notes: Sequence[str] = (),
    workers: int | None = None,
    clean: bool = False,
    witness: Witness | None = None,
    keep: bool = False,
    root: AuditRecord | None = None,
) -> Fitted:
    """The best merge found on validation items, published at `out` if `policy` passes it on test items.

    write: told the trace, line by line. limit: test items of each suite. Others: see Setting.of and merge_gated.

    Raises: see Setting.of, tune and merge_gated.
    """
    setting = Setting.of(recipe, policy, evaluations, items, limit)
    with Workbench(setting.recipe, setting.plan) as bench:
        fit = _search(setting, bench, write)
        if not fit.best.feasible:
            return _none_inside(fit, bench, final_place(out) / RECORDS, write)
    record = fit_json(fit, now())
    cut = [f"Each suite was cut to its first {limit} items."] if limit else []
    merged = merge_gated(
        fit.chosen,
        out,
        policy,
        AuditPlan.of(recipe.dtype, limit, policy),
        notes=[*fit_notes(fit, record), *cut],
        recipe_notes=recipe_notes,
        workers=workers,
        clean=clean,
        attached={FIT: record},
        witness=witness,
        keep=keep,
        root=root,
    )
    return Fitted(merged, record, final_place(out) / RECORDS)


def _search(setting: Setting, bench: Workbench, write: Callable[[str], None]) -> Fit:
    trace, recipe = Trace(setting, write), setting.recipe
    if "calibration" in get(recipe.method).needs:
        collector(recipe).check_memory(bench.inputs.anchor)
    fit = setting.run(bench, trace.started, trace.told)
    for line in conclusion(fit):
        write(line)
    return fit


def _none_inside(fit: Fit, bench: Workbench, folder: Path, write: Callable[[str], None]) -> Fitted:
    """The search kept in `folder`, and in it, last, who spends the budget that is exceeded."""
    make_folder(folder)
    created = now()
    record = fit_json(fit, created)
    jsonio.write(folder / FIT, record)  # before the blame, which may fail where every evaluation is in
    if fit.best.binding is not None:
        spent = spent_by(fit.chosen, bench.merge(fit.chosen, keep_hard=False))
        write(spent_text(spent))
        record = fit_json(fit, created, spent)
        jsonio.write(folder / FIT, record)
    return Fitted(None, record, folder)
