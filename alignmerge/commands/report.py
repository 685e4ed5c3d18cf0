"""`alignmerge report`: HTML from the records of a run."""

import hashlib
from pathlib import Path

import click

from alignmerge import jsonio
from alignmerge.terminal import printable


@click.command(name="report")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write; report.html beside run.json by default.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for machines.")
def command(folder: Path, output: Path | None, as_json: bool) -> None:
    """Write the HTML report of the run in DIR or DIR/records (its run.json and the records that names).

    One file, no network: the same records give the same bytes.
    """
    from alignmerge.pipeline.verifying import records_folder
    from alignmerge.reports.model import load_run
    from alignmerge.reports.render import render

    run = records_folder(folder)
    report = load_run(run)
    page = render(report).encode()
    path = output or run / "report.html"
    jsonio.write_bytes(path, page)
    if as_json:
        verdicts = {entry.label: None if entry.verdict is None else entry.verdict.decision for entry in report.merges}
        value = {
            "report": str(path),
            "bytes": len(page),
            "sha256": hashlib.sha256(page).hexdigest(),
            "verdicts": verdicts,
        }
        click.echo(jsonio.canonical(value).decode())
    else:
        click.echo(printable(str(path)))
