"""`alignmerge suites list|show`: what can be asked."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from alignmerge import jsonio
from alignmerge.errors import UsageError
from alignmerge.suites.model import SPLITS, Suite, items_digest
from alignmerge.terminal import printable

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("suites")
def command() -> None:
    """List the suites, or show one."""


@command.command("list")
@as_json_option
def list_suites(as_json: bool) -> None:
    """List every suite: those that bring their items, and definitions that are given data."""
    from alignmerge.suites.definition import load_definition, ready
    from alignmerge.suites.registry import SUITES

    rows = [describe(suite) for suite in SUITES.values()]
    definitions = [load_definition(path) for path in ready().values()]
    if as_json:
        known = [{"name": one.name, "summary": one.summary, "needs_data": True} for one in definitions]
        click.echo(jsonio.canonical([*rows, *known]).decode())
        return
    width = max(len(name) for name in (*SUITES, *(one.name for one in definitions)))
    for row in rows:
        click.echo(f"{row['name']:<{width}}  {row['items']['test']:>4} test items  {row['summary']}")
    click.echo("\nWith your data (--data NAME=PATH; `alignmerge suites show NAME` says which):")
    for one in definitions:
        click.echo(f"{one.name:<{width}}  {one.summary}")


@command.command("show")
@click.argument("name")
@click.option("--data", multiple=True, metavar="NAME=PATH", help="Where a suite's rows are, or hf:org/name@COMMIT.")
@click.option("--split", type=click.Choice(SPLITS), default="test", show_default=True, help="Whose items to show.")
@click.option("--items", "count", type=click.IntRange(min=0), default=3, show_default=True, help="How many items.")
@as_json_option
def show(name: str, data: tuple[str, ...], split: str, count: int, as_json: bool) -> None:
    """Show suite NAME: sizes, digests and its first items. Some suites hold harmful requests.

    NAME is a suite, or the path of a definition or of a file of rows.
    """
    from alignmerge.suites.definition import ready
    from alignmerge.suites.registry import get_suite
    from alignmerge.suites.sources import parse_data

    given = dict(parse_data(data))
    if name in ready():
        show_definition(ready()[name], as_json and not given)
        if not given:
            return
    suite = get_suite(name, given)
    if stray := [key for key in given if key.removesuffix(".shots") != suite.name]:
        raise UsageError(f"--data {stray[0]}: the suite shown is {suite.name}; write --data {suite.name}=PATH")
    chosen = next(known for known in SPLITS if known == split)
    row = describe(suite)
    first = suite.items(chosen)[:count]
    if as_json:
        click.echo(jsonio.canonical({**row, "first": [item.to_json() for item in first]}).decode())
        return
    click.echo(f"{suite.name} version {suite.version}: {printable(suite.summary)}")
    how = f"answers of at most {suite.max_new_tokens} tokens" if suite.kind == "generate" else "choices by likelihood"
    click.echo(f"metrics: {', '.join(suite.metrics)}; {how}")
    if suite.source is not None:
        click.echo(printable(f"from: {suite.source}"))
    for each in SPLITS:
        if suite.source is None or row["items"][each]:
            click.echo(f"{each}: {row['items'][each]} items, sha256 {row['digests'][each]}")
    for item in first:
        click.echo(printable(f"\n[{item.id}] {item.family} / {item.category}"))
        click.echo(printable(item.prompt))
        for choice in item.choices:
            click.echo(printable(f"  - {choice}"))


def show_definition(path: Path, as_json: bool) -> None:
    """Print what a ready definition is, where its data comes from and under which terms."""
    from alignmerge.suites.definition import load_definition

    one = load_definition(path)
    if as_json:
        click.echo(jsonio.canonical({**asdict(one), "metrics": list(one.metrics), "needs_data": True}).decode())
        return
    click.echo(f"{one.name}: {one.summary}")
    if one.about is not None:
        for label, text in (("home", one.about.home), ("paper", one.about.paper), ("licence", one.about.licence)):
            if text:
                click.echo(f"{label}: {text}")
    click.echo(f"read by: {one.scorer}; metrics: {', '.join(one.metrics)}")
    if one.hub is not None:
        pinned = one.hub.revision or "none pinned: name the commit"
        config = f", {one.hub.config}" if one.hub.config else ""
        click.echo(f"hub: {one.hub.id}{config}, split {one.hub.split} (revision: {pinned})")
    if one.about is not None and one.about.note:
        click.echo(one.about.note)
    click.echo(f"ask it: alignmerge audit MODEL --suite {one.name} --data {one.name}=PATH -o DIR\n")


def describe(suite: Suite) -> dict[str, Any]:
    """Name, summary, metrics, and item count and digest of each split."""
    splits = {split: suite.items(split) for split in SPLITS}
    return {
        "name": suite.name,
        "version": suite.version,
        "summary": suite.summary,
        "metrics": list(suite.metrics),
        "max_new_tokens": suite.max_new_tokens,
        "harmful": suite.harmful,
        "kind": suite.kind,
        "source": suite.source,
        "items": {split: len(items) for split, items in splits.items()},
        "digests": {split: items_digest(suite, items) for split, items in splits.items()},
    }
