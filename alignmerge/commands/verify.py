"""`alignmerge verify`: whether a run's weights, records, policy and verdicts still agree."""

from pathlib import Path

import click

from alignmerge import jsonio
from alignmerge.errors import IntegrityError
from alignmerge.terminal import printable


@click.command("verify")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print what was checked as JSON.")
def command(folder: Path, as_json: bool) -> int:
    """Check the digests, records and verdicts in FOLDER: a run, a merge, or the records of one.

    Exits 0 when everything agrees, whatever the verdicts say, and 5 when anything was changed, naming it.
    """
    from alignmerge.pipeline.verifying import verify

    found = verify(folder)
    if as_json:
        value = {
            "checked": list(found.checked),
            "verdicts": found.verdicts,
            "findings": [{"where": one.where, "problem": one.problem} for one in found.findings],
            "notes": list(found.notes),
        }
        click.echo(jsonio.canonical(value).decode())
        return IntegrityError.exit_code if found.findings else 0
    for one in found.findings:
        click.echo(printable(f"CHANGED {one}"), err=True)
    for note in found.notes:
        click.echo(printable(f"note: {note}"))
    for label, decision in found.verdicts.items():
        click.echo(printable(f"{label}: {decision}"))
    if found.findings:
        raise IntegrityError(f"{folder}: {len(found.findings)} of what was checked does not hold (named above)")
    click.echo(printable(f"verified: {len(found.checked)} records and models agree"))
    return 0
