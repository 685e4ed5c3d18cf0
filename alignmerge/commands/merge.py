"""`alignmerge merge`: carry out a recipe; under a policy, publish only what passes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alignmerge import jsonio
from alignmerge.commands.export import file_options, files_of
from alignmerge.commands.keys import witness_of, witness_options
from alignmerge.errors import UsageError
from alignmerge.terminal import printable

if TYPE_CHECKING:
    from alignmerge.auditor.record import AuditRecord
    from alignmerge.merger.recipe import Recipe
    from alignmerge.pipeline.ungated import Merged
    from alignmerge.pipeline.witness import Witness
    from alignmerge.policies.model import Policy

EVALUATIONS, ITEMS = 12, 60  # of --fit


@click.command("merge")
@click.argument("recipe", type=click.Path(dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="New folder.")
@click.option("--plan", "plan_only", is_flag=True, help="Check everything and show what would be done; do none of it.")
@click.option("--policy", metavar="P", help="Shipped policy (release, demo, ...) or a file; without it: ungated.")
@click.option("--fit", metavar="P", help="Look for the merge of highest skill inside this policy; gate it under it.")
@click.option("--evaluations", type=int, metavar="N", help=f"With --fit: merges to try.  [default: {EVALUATIONS}]")
@click.option(
    "--items", type=click.IntRange(min=2), metavar="M", help=f"With --fit: items of a suite.  [default: {ITEMS}]"
)
@click.option(
    "--root", type=click.Path(path_type=Path), metavar="AUDIT", help="Audit of the lineage's first anchor (see gate)."
)
@click.option("--limit", type=click.IntRange(min=2), help="Audit only the first N items of each suite (stated).")
@click.option("--threads", type=click.IntRange(1, 256), help="Threads that compute; default: the cores allowed.")
@click.option("--clean", is_flag=True, help="Remove an unfinished merge of another recipe in OUTPUT.partial first.")
@click.option(
    "--on-fail",
    type=click.Choice(["discard", "keep-staged"]),
    default="discard",
    show_default=True,
    help="What becomes of a merge that is rejected: removed, or kept in OUTPUT.kept-staged, marked.",
)
@witness_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for machines.")
@file_options
def command(
    recipe: Path,
    output: Path | None,
    plan_only: bool,
    policy: str | None,
    limit: int | None,
    threads: int | None,
    clean: bool,
    on_fail: str,
    key: Path | None,
    ledger: Path | None,
    as_json: bool,
    fit: str | None = None,
    evaluations: int | None = None,
    items: int | None = None,
    root: Path | None = None,
    **files: Any,
) -> int:
    """Merge as RECIPE says into a new folder. RECIPE is a recipe of ours or a mergekit configuration.

    With --policy the merge is staged, audited next to its anchor and only then published. A rejected merge leaves its
    records in OUTPUT/records and no checkpoint. Exits 0 on PASS or WARN, 3 on FAIL, 4 on INCONCLUSIVE. With --key
    verdict, records and weights are signed. Every merge is written into a ledger: alignmerge-ledger.jsonl beside
    OUTPUT unless --ledger names another.

    With --fit the method's knobs and the experts' weights are searched first, on validation items: RECIPE as it is,
    then points spread over the space, then points near the best. The best merge inside the policy's budgets goes
    through the gate like any other. If none is inside, it exits 3, publishes nothing, and says which budget binds.

    The merge grows in OUTPUT.partial. After an interruption the same command goes on after the last finished shard (of
    5 GB); once there is one, another recipe, other inputs or versions are refused until OUTPUT.partial is removed, by
    hand or with --clean. No number of threads
    changes a bit of the result.

    With --plan nothing is merged or written: every check that needs no weights is made, and what the merge would read,
    write and need is shown.
    """
    _check_options(policy, fit, evaluations, items, plan_only)
    if (policy is None or plan_only) and any(value is not None for value in files.values()):
        raise UsageError("--junit, --sarif and --summary tell the verdict of a merge with --policy; leave them out")
    if plan_only:
        _show_plan(recipe, output, policy, as_json)
        return 0
    if output is None:
        raise UsageError(
            "merge: -o OUTPUT is missing, the folder to publish into; or give --plan to see what it would do"
        )
    if policy is None and fit is None and (key is not None or root is not None or on_fail != "discard"):
        raise UsageError("--key, --root and --on-fail go with a verdict; give --policy, or leave them out")
    witness = witness_of(key, ledger, output)
    keep = on_fail == "keep-staged"
    if fit is not None:
        wanted = EVALUATIONS if evaluations is None else evaluations
        return _fit(recipe, output, fit, wanted, items or ITEMS, limit, threads, clean, as_json, witness, keep, root)
    with files_of(files).reporting(str(output)) as verdicts:
        done = _merge(recipe, output, policy, limit, threads, clean, witness, keep, root)
        verdicts += [done.verdict] if done.verdict else []
    _show(done, as_json, {})
    return done.verdict.exit_code if done.verdict else 0


def _check_options(policy: str | None, fit: str | None, evaluations: int | None, items: int | None, plan: bool) -> None:
    if fit is not None and policy is not None:
        raise UsageError("--fit: gates under the policy it is given; leave --policy out")
    if fit is not None and plan:
        raise UsageError("--plan: shows one merge, and --fit makes many; leave one of them out")
    for name, value in (("evaluations", evaluations), ("items", items)):
        if fit is None and value is not None:
            raise UsageError(f"--{name}: is of a search; give --fit POLICY, or leave it out")


def _show_plan(recipe: Path, output: Path | None, policy: str | None, as_json: bool) -> None:
    from alignmerge.merger.methods import get
    from alignmerge.merger.opened import open_all
    from alignmerge.merger.plan import check_plan
    from alignmerge.merger.plan_text import lines
    from alignmerge.policies.schema import load_policy

    if policy is not None:
        load_policy(policy)
    loaded, _ = _load(recipe)
    opened = open_all(loaded)
    plan = check_plan(loaded, opened, output, calibrated=False)
    if "calibration" in get(loaded.method).needs:
        from alignmerge.pipeline.comparing import collector

        collector(loaded).check_memory(opened.anchor)
    if as_json:
        click.echo(jsonio.canonical(plan.to_json()).decode())
    else:
        click.echo(printable("\n".join(lines(plan))))


def load_recipe_file(path: Path) -> "tuple[Recipe, list[str]]":
    """The recipe, or mergekit configuration, in the file; and notes on how it was read, which are printed."""
    from alignmerge.merger.mergekit_config import load_any

    loaded = load_any(path)
    for note in loaded.notes:
        click.echo(printable(f"note: {note}"), err=True)
    return loaded.recipe, list(loaded.notes)


def _load(path: Path) -> "tuple[Recipe, list[str]]":
    """As load_recipe_file, and a note for every key that the one method merged with does not use."""
    from alignmerge.merger.recipe import unused

    recipe, notes = load_recipe_file(path)
    for note in unused(recipe):
        click.echo(printable(f"note: {note}"), err=True)
    return recipe, [*notes, *unused(recipe)]


def _merge(
    recipe: Path,
    output: Path,
    policy: str | None,
    limit: int | None,
    threads: int | None,
    clean: bool,
    witness: "Witness",
    keep: bool,
    root: Path | None,
) -> "Merged":
    from alignmerge.merger.methods import get
    from alignmerge.merger.opened import open_all
    from alignmerge.merger.plan import check_plan
    from alignmerge.pipeline.audit_plan import AuditPlan
    from alignmerge.pipeline.runfolder import final_place
    from alignmerge.pipeline.ungated import merge_ungated
    from alignmerge.policies.schema import load_policy

    loaded, read = _load(recipe)
    rules = load_policy(policy) if policy is not None else None
    plan = AuditPlan.of(loaded.dtype, limit, rules)
    first = _root(root, rules)
    if rules is not None or "calibration" in get(loaded.method).needs:  # models answer first, which takes minutes
        check_plan(loaded, open_all(loaded), final_place(output), calibrated=False)
    if rules is None:
        done = merge_ungated(loaded, output, plan, notes=read, workers=threads, clean=clean, witness=witness)
    else:
        from alignmerge.pipeline.merging import merge_gated

        notes = [f"Each suite was cut to its first {limit} items."] if limit else []
        done = merge_gated(
            loaded,
            output,
            rules,
            plan,
            notes=notes,
            recipe_notes=read,
            workers=threads,
            clean=clean,
            witness=witness,
            keep=keep,
            root=first,
        )
    return done


def _root(audit: Path | None, policy: "Policy | None") -> "AuditRecord | None":
    """The audit of the lineage's first anchor, where one is given and the policy looks at it."""
    if audit is None or policy is None:
        return None
    from alignmerge.pipeline.gating import load_audit
    from alignmerge.policies.references import needs_lineage

    if not needs_lineage(policy):
        raise UsageError(f"--root: no rule of policy {policy.name} is against the root; leave it out")
    return load_audit(audit)


def _fit(
    recipe: Path,
    output: Path,
    policy: str,
    evaluations: int,
    items: int,
    limit: int | None,
    threads: int | None,
    clean: bool,
    as_json: bool,
    witness: "Witness",
    keep: bool,
    root: Path | None,
) -> int:
    from alignmerge.merger.opened import open_all
    from alignmerge.merger.plan import check_plan
    from alignmerge.pipeline.fit_merging import fit_and_merge
    from alignmerge.pipeline.runfolder import final_place
    from alignmerge.policies.schema import load_policy

    rules, (loaded, read) = load_policy(policy), _load(recipe)
    first = _root(root, rules)
    check_plan(loaded, open_all(loaded), final_place(output), calibrated=False)
    done = fit_and_merge(
        loaded,
        output,
        rules,
        evaluations=evaluations,
        items=items,
        limit=limit,
        write=lambda line: click.echo(printable(line), err=as_json),
        recipe_notes=read,
        workers=threads,
        clean=clean,
        witness=witness,
        keep=keep,
        root=first,
    )
    if done.merged is not None:
        _show(done.merged, as_json, {"fit": done.record})
    elif as_json:
        value = {"verdict": None, "checkpoint": None, "records": str(done.records), "fit": done.record}
        click.echo(jsonio.canonical(value).decode())
    else:
        click.echo(printable(f"no merge inside the budgets: no checkpoint; records in {done.records}"))
    return done.exit_code


def _show(done: "Merged", as_json: bool, more: dict[str, Any]) -> None:
    from alignmerge.pipeline.gating import spends_most
    from alignmerge.policies.explain import verdict_lines

    if as_json:
        value = {
            "verdict": done.verdict.decision if done.verdict else "ungated",
            "manifest": done.digest,
            "tensors": done.tensor_digest,
            "checkpoint": str(done.folder) if done.folder else None,
            "records": str(done.records) if done.records else None,
            "kept": str(done.kept) if done.kept else None,
        }
        click.echo(jsonio.canonical(value | more).decode())
    else:
        who = spends_most(done.records) if done.records is not None else ""
        lines = verdict_lines(done.verdict, who) if done.verdict else ["ungated: no policy was given; gate refuses it"]
        for line in lines:
            click.echo(printable(line))
        where = f"published: {done.folder}" if done.folder else f"rejected: no checkpoint; records in {done.records}"
        where = f"rejected, and not a release: kept in {done.kept}" if done.kept else where
        click.echo(printable(where))
