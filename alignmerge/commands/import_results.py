"""`alignmerge import-results`: another tool's results as an audit record."""

import re
from pathlib import Path

import click

from alignmerge import jsonio
from alignmerge.errors import UsageError
from alignmerge.terminal import printable


@click.command("import-results")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--checkpoint", metavar="SHA256", help="Manifest digest of the checkpoint that was asked, as you declare it."
)
@click.option(
    "--add-to", type=click.Path(path_type=Path), metavar="AUDIT", help="An audit of that checkpoint to add to."
)
@click.option("--name", help="What the checkpoint is called in reports.")
@click.option("--higher", multiple=True, metavar="METRIC", help="This metric is better higher (may be repeated).")
@click.option("--lower", multiple=True, metavar="METRIC", help="This metric is better lower (may be repeated).")
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the record's summary as JSON.")
def command(
    files: tuple[Path, ...],
    checkpoint: str | None,
    add_to: Path | None,
    name: str | None,
    higher: tuple[str, ...],
    lower: tuple[str, ...],
    output: Path,
    as_json: bool,
) -> int:
    """Write the audit record of FILES, or of the files in folders.

    They are results_*.json and samples_*.jsonl of lm-eval, and JSON logs of inspect_ai (an .eval log is one after
    `inspect log convert LOG --to json --output-dir DIR`).

    Such files do not say which weights were asked, so the digest is yours to declare, and the record says so.
    """
    from alignmerge.auditor import record
    from alignmerge.auditor.imported.evidence import Directions, added, to_record
    from alignmerge.auditor.imported.files import read_files

    if (checkpoint is None) == (add_to is None):
        raise UsageError("whose results are they? give either --checkpoint SHA256 or --add-to AUDIT")
    if checkpoint is not None and not re.fullmatch(r"[0-9a-f]{64}", checkpoint):
        raise UsageError(f"--checkpoint {checkpoint}: not a manifest digest (64 hexadecimal digits)")
    parts = read_files(files, Directions(frozenset(higher), frozenset(lower)))
    if add_to is not None:
        found = added(record.load(add_to), parts)
    else:
        assert checkpoint is not None
        found = to_record(parts, checkpoint, name or str(parts[0].source["model"]) or checkpoint[:12])
    path = record.save(found, output)
    if as_json:
        click.echo(jsonio.canonical(record.to_json(found)).decode())
        return 0
    for row in (row for part in parts for row in part.metrics):
        between = f" [{row.interval.low:.3f}, {row.interval.high:.3f}]" if row.interval else ""
        click.echo(printable(f"{row.metric}  {row.value:.3f}{between}  n={row.scored}, unscored={row.unscored}"))
    for note in found.notes:
        click.echo(printable(f"note: {note}"))
    click.echo(printable(str(path)))
    return 0
