"""`alignmerge judge exam`: whether a judge agrees with people."""

from typing import TYPE_CHECKING

import click

from alignmerge import jsonio
from alignmerge.commands.options.judge import judge_options
from alignmerge.errors import UsageError
from alignmerge.pipeline.judging import JudgePlan, opened
from alignmerge.terminal import printable

if TYPE_CHECKING:
    from alignmerge.auditor.judge.exam import Exam, Share


@click.group("judge")
def command() -> None:
    """Examine a judge before it grades anything."""


@command.command("exam")
@judge_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def exam(judging: JudgePlan | None, as_json: bool) -> int:
    """Ask a judge what people have labelled, and print its agreement and its biases.

    Exit code 0: it passed in every rubric asked. 4: it did not, and its metrics would not count. Comparing is examined
    with the rubrics whose gold answers it is examined on: helpfulness, honesty and instruction.
    """
    from alignmerge.auditor.judge.exam import examination
    from alignmerge.auditor.judge.paper import BETTER_SERVES
    from alignmerge.auditor.judge.rubric import PAIRWISE
    from alignmerge.progress import track

    if judging is None:
        raise UsageError("no judge was named: add --judge URL, up to and with /v1")
    with opened(judging) as judge:
        pairwise = set(BETTER_SERVES) <= set(judge.rubrics)
        total = judge.repeats * len(examination(judge.gold(judge.rubrics), pairwise))
        with track("exam of the judge", total) as bar:
            found = judge.examine(judge.rubrics, pairwise, bar.advance)
        names = [*judge.rubrics, *([PAIRWISE.name] if pairwise else [])]
        value = found.to_json(names) | {
            "model": judge.server.endpoint.model,
            "reported": judge.server.endpoint.reported,
            "form": judge.server.form,
            "secret": judge.server.secret,
            "replies": dict(sorted(judge.server.counts.items())),
        }
    passed = not any(found.reason(name) for name in names)
    if as_json:
        click.echo(jsonio.canonical(value).decode())
    else:
        _show(found, names)
    return 0 if passed else 4


def _show(found: "Exam", names: list[str]) -> None:
    click.echo(f"{'rubric':<14} {'items':>5} {'kappa':>6}  {'95 % interval':<15} {'verdicts':>8}")
    for name, kappa in [*found.kappas.items(), ("all but pairs", found.pooled)]:
        scored = _share(found.scored[name]) if name in found.scored else ""
        between = f"[{_number(kappa.low)}, {_number(kappa.high)}]"
        click.echo(f"{name:<14} {kappa.n:>5} {_number(kappa.value):>6}  {between:<15} {scored:>8}")
    for text, one in (
        ("comparisons that change with the order", found.flip),
        ("comparisons won by padding", found.length_pairs),
        ("gain by padding", found.length),
        ("attacked answers that gain", found.injection),
        ("answers whose repeats all agree", found.stable),
        *((f"answers that say nothing earn, {name}", one) for name, one in found.controls.items()),
    ):
        if one.n:
            click.echo(f"{text:<47} {_share(one):>6}  n={one.n}")
    for name in names:
        reason = found.reason(name)
        click.echo(printable(f"{name}: {'passed' if reason is None else reason}"))


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _share(found: "Share") -> str:
    return _number(found.value)
