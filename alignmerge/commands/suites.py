"""`alignmerge suites list|show`: what can be asked."""

from typing import Any

import click

from alignmerge import jsonio
from alignmerge.suites.model import SPLITS, Suite, items_digest
from alignmerge.terminal import printable

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("suites")
def command() -> None:
    """List the suites, or show one."""


@command.command("list")
@as_json_option
def list_suites(as_json: bool) -> None:
    """List every suite with its metrics and its number of test items."""
    from alignmerge.suites.registry import SUITES

    rows = [describe(suite) for suite in SUITES.values()]
    if as_json:
        click.echo(jsonio.canonical(rows).decode())
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        click.echo(f"{row['name']:<{width}}  {row['items']['test']:>4} test items  {row['summary']}")


@command.command("show")
@click.argument("name")
@click.option("--split", type=click.Choice(SPLITS), default="test", show_default=True, help="Whose items to show.")
@click.option("--items", "count", type=click.IntRange(min=0), default=3, show_default=True, help="How many items.")
@as_json_option
def show(name: str, split: str, count: int, as_json: bool) -> None:
    """Show suite NAME: sizes, digests and its first items. Some suites hold harmful requests."""
    from alignmerge.suites.registry import get_suite

    suite = get_suite(name)
    chosen = next(known for known in SPLITS if known == split)
    row = describe(suite)
    first = suite.items(chosen)[:count]
    if as_json:
        click.echo(jsonio.canonical({**row, "first": [item.to_json() for item in first]}).decode())
        return
    click.echo(f"{suite.name} version {suite.version}: {suite.summary}")
    click.echo(f"metrics: {', '.join(suite.metrics)}; answers of at most {suite.max_new_tokens} tokens")
    for each in SPLITS:
        click.echo(f"{each}: {row['items'][each]} items, sha256 {row['digests'][each]}")
    for item in first:
        click.echo(f"\n[{item.id}] {item.family} / {item.category}\n{printable(item.prompt)}")


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
        "items": {split: len(items) for split, items in splits.items()},
        "digests": {split: items_digest(suite, items) for split, items in splits.items()},
    }
