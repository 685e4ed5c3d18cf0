"""`alignmerge zoo`: the safety anchor and the task experts for the reference model."""

import json
from pathlib import Path

import click


@click.group(name="zoo", help="Train or list the safety anchor and task experts of the reference model.")
def command() -> None:
    pass


@command.command(name="list", help="The shipped adapters and how they were made.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def list_zoo(as_json: bool) -> None:
    from alignmerge.zoo.build import shipped_cards

    cards = shipped_cards()
    if as_json:
        click.echo(json.dumps(cards, indent=1))
        return
    for card in cards:
        made = f"{card['steps']} steps on {card['rows']} rows, seed {card['seed']}"
        click.echo(f"zoo:{card['name']:<12} {card['role']:<7} from {card['trained_from']:<24} {made}")


@command.command(name="build", help="Train adapters (all, or NAMES) into DIR/NAME; minutes each on a laptop CPU.")
@click.argument("names", nargs=-1)
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the adapters."
)
@click.option(
    "--from",
    "trained_from",
    type=click.Choice(["anchor", "reference"]),
    default="anchor",
    show_default=True,
    help="What the experts are trained from.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def build_zoo(names: tuple[str, ...], out: Path, trained_from: str, seed: int, as_json: bool) -> None:
    from alignmerge.zoo.build import build

    cards = build(names, out, trained_from="reference" if trained_from == "reference" else "anchor", seed=seed)
    if as_json:
        click.echo(json.dumps(cards, indent=1))
        return
    for name, card in cards.items():
        click.echo(f"{out / name}  tensors {card['tensor_digest'][:16]}")
