"""`alignmerge audit`: measure one checkpoint."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from alignmerge import jsonio
from alignmerge.commands.options.engine import engine_options
from alignmerge.commands.options.harness import harness_options
from alignmerge.commands.options.judge import judge_options
from alignmerge.errors import UsageError
from alignmerge.pipeline.audit_showing import metric_lines
from alignmerge.pipeline.choices import DTYPES
from alignmerge.pipeline.judging import JudgePlan, opened
from alignmerge.terminal import printable

if TYPE_CHECKING:
    from alignmerge.merger.checkpoint import Checkpoint
    from alignmerge.pipeline.audit_plan import AuditPlan
    from alignmerge.pipeline.harness import Harness
    from alignmerge.policies.model import Policy


@click.command("audit")
@click.argument("model", required=False)
@click.option("--anchor", type=click.Path(path_type=Path), help="The anchor's audit: AQI is measured as it was there.")
@click.option("--base", metavar="MODEL", help="The anchor's unaligned base, for AQI's validity gate.")
@click.option("--suite", "suites", multiple=True, metavar="S", help="Only these: a suite, or a file.")
@click.option("--data", multiple=True, metavar="NAME=PATH", help="Where a suite's rows are, or hf:org/name@COMMIT.")
@click.option("--split", type=click.Choice(["test", "validation", "calibration"]), default="test", show_default=True)
@click.option("--limit", type=click.IntRange(min=2), help="Only the first N items of each suite.")
@click.option("--dtype", type=click.Choice(DTYPES), help="[default: that of --anchor's audit, else bfloat16]")
@click.option("--standin", is_flag=True, help="Let a small stand-in for Detoxify read the continuations too.")
@engine_options
@judge_options
@harness_options
@click.option("--plan", "only_plan", is_flag=True, help="Say what it would ask, cost and decide; ask nothing.")
@click.option(
    "--policy", default="release", show_default=True, metavar="P", help="Whose limits the plan is held against."
)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    model: str | None,
    anchor: Path | None,
    base: str | None,
    suites: tuple[str, ...],
    data: tuple[str, ...],
    split: str,
    limit: int | None,
    dtype: str | None,
    standin: bool,
    judging: JudgePlan | None,
    harness: "Harness | None",
    only_plan: bool,
    policy: str,
    output: Path | None,
    as_json: bool,
    **engine: Any,
) -> int:
    """Ask MODEL every suite and write its audit record.

    MODEL is a folder, an adapter, reference:smollm2-135m, zoo:NAME or hf:org/name@revision. With --engine openai it
    says what the server runs; without it the record is of whatever the server serves. Without --suite it is asked the
    shipped suites that need no judge, or, with --anchor, those of the anchor's audit, and in its dtype.
    """
    from alignmerge.auditor import record
    from alignmerge.auditor.imported.evidence import added
    from alignmerge.auditor.judge.rubric import RUBRICS
    from alignmerge.merger.checkpoint import open_checkpoint
    from alignmerge.pipeline import harness as lm_eval
    from alignmerge.pipeline import planning
    from alignmerge.pipeline.audit_plan import AuditPlan, dtype_of, suites_of
    from alignmerge.pipeline.bench import Bench
    from alignmerge.pipeline.grading import check_read
    from alignmerge.pipeline.resuming import ServedAnswers
    from alignmerge.policies.schema import load_policy
    from alignmerge.suites.model import Split
    from alignmerge.suites.sources import parse_data

    if base and anchor is not None:
        raise UsageError("--base: decides what AQI of an anchor is worth, and --anchor names another; give one of them")
    if only_plan and judging is not None:
        raise UsageError("--judge: a plan asks no judge; leave the judge out, or leave out --plan")
    measured_from = record.load(anchor) if anchor is not None else None
    plan = AuditPlan(
        suites=suites or suites_of(measured_from),
        split=cast(Split, split),
        limit=limit,
        dtype=dtype or dtype_of(measured_from),
        standin=standin,
        data=parse_data(data),
        **engine,
    )
    check_read(plan, (judging.rubrics or tuple(RUBRICS)) if judging else None, anchor is not None, base is not None)
    own = plan.engine == "transformers"
    if model is None and plan.engine != "openai":
        raise UsageError("MODEL is missing: a folder, an adapter, reference:..., zoo:NAME or hf:org/name@revision")
    if base and not own:
        raise UsageError("--base decides AQI's validity, which needs hidden states: use --engine transformers")
    if harness is not None and (not own or split != "test"):
        raise UsageError("--harness asks MODEL's weights lm-eval's items: use --engine transformers and --split test")
    if harness is not None and only_plan:
        raise UsageError("--plan does not know what lm-eval's tasks cost; leave --harness out")
    if output is None and not only_plan:
        raise UsageError("where to? give -o FOLDER, or --plan to ask nothing")
    limits = load_policy(policy)
    checkpoint = open_checkpoint(model) if model is not None else None
    if only_plan or output is None:
        return _show_plan(plan, limits, checkpoint, as_json)
    planning.show_deciding(limits, plan)
    with (
        opened(judging) if judging else nullcontext() as judge,
        ServedAnswers(output) if plan.engine == "openai" else nullcontext() as answers,
        Bench(plan, answers, judge) as bench,
    ):
        parts = lm_eval.run(harness, checkpoint, plan) if harness is not None and checkpoint is not None else None
        if measured_from is not None:
            bench.use(measured_from)
        if checkpoint is None or not own:
            found = bench.audit_served(checkpoint, model)
        elif measured_from is not None:
            found = bench.audit(bench.engine(checkpoint), checkpoint.digest, model or "")
        else:
            below = open_checkpoint(base) if base else None
            found = bench.anchor(bench.engine(checkpoint), checkpoint, model or "", below)
        found = added(found, parts, declared=False) if parts is not None else found
        path = record.save(found, output)
        if answers is not None:
            answers.forget()
    if as_json:
        click.echo(jsonio.canonical(record.to_json(found)).decode())
        return 0
    for line in metric_lines(found):
        click.echo(printable(line))
    for note in found.notes:
        click.echo(printable(f"note: {note}"))
    click.echo(printable(str(path)))
    return 0


def _show_plan(plan: "AuditPlan", policy: "Policy", checkpoint: "Checkpoint | None", as_json: bool) -> int:
    from alignmerge.pipeline import engines, planning
    from alignmerge.pipeline.bench import Bench

    asking = planning.asked(plan)
    if checkpoint is None or plan.engine == "openai":
        engines.endpoint_of(plan).close()  # a server that could not be asked is no plan
        rows = planning.costs_served(asking)
        basis = "no estimate of prompt tokens and time: the server counts, and a plan asks it nothing"
    elif plan.engine == "vllm":
        rows = planning.costs(asking, engines.encoder_of(checkpoint), engines.stated_context(checkpoint))
        basis = "no estimate of time: a plan starts no server"
    else:
        with Bench(plan) as bench:
            engine = bench.engine(checkpoint)
        rows = planning.costs(asking, engine.encoder, engine.context, planning.probe(asking, engine))
        basis = "time: from a probe on this machine as busy as it is now; answers kept from earlier runs cost nothing"
    found = planning.decides(policy, asking, plan)
    if as_json:
        click.echo(jsonio.canonical(planning.to_json(rows, basis, policy, found)).decode())
        return 0
    for line in [*planning.cost_lines(rows, basis), *planning.deciding_lines(policy, found)]:
        click.echo(line)
    return 0
