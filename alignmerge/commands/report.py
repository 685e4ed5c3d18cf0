"""`alignmerge report`: what people read, from the records of a run or of audits."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alignmerge import jsonio
from alignmerge.errors import UsageError
from alignmerge.terminal import printable

if TYPE_CHECKING:
    from alignmerge.reports.model import ReportInput

NAMES = {"html": "report.html", "markdown": "report.md", "json": "report.json", "csv": "items.csv"}


@click.command(name="report")
@click.argument(
    "folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--anchor", metavar="AUDIT", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Audit folder of the anchor, where DIRs are audit folders.",
)  # fmt: skip
@click.option(
    "--verdict", "verdicts", multiple=True, metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What gate wrote about one of the audits; a second one about it is a further policy's.",
)  # fmt: skip
@click.option("--format", "form", type=click.Choice(list(NAMES)), default="html", show_default=True)
@click.option("--redact", is_flag=True, help="Digests in place of every prompt and answer.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write; report.html (.md, .json, items.csv) beside the records by default.",
)
@click.option("--index", is_flag=True, help="One page over many runs, written to -o FILE.")
@click.option(
    "--ledger", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="With --index: merges to add to the lineage.",
)  # fmt: skip
@click.option("--open", "show", is_flag=True, help="Show the page in a browser.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for machines.")
def command(
    folders: tuple[Path, ...],
    anchor: Path | None,
    verdicts: tuple[Path, ...],
    form: str,
    redact: bool,
    output: Path | None,
    index: bool,
    ledger: Path | None,
    show: bool,
    as_json: bool,
) -> None:
    """Write the report of the run in DIR, or of the audits in one or more DIRs.

    One file, no network: the same records give the same bytes.
    """
    from alignmerge.reports.loaded import load, run_folder

    if index:
        if output is None or anchor is not None or verdicts or form != "html" or redact:
            raise UsageError(
                "--index makes an HTML page of runs, without texts: name its file with -o and nothing else"
            )
        return _index(folders, output, ledger, as_json, show)
    if ledger is not None:
        raise UsageError("--ledger belongs to --index")
    if output is None and (len(folders) > 1 or (redact and form == "html")):
        raise UsageError("name the file to write with -o: " + ("it belongs to no one folder" if len(folders) > 1 else
                         "report.html is the whole report, and verify compares it"))  # fmt: skip
    report = load(folders, anchor, verdicts)
    content = _content(report, form, redact)
    path = output or (run_folder(folders[0]) or folders[0]) / NAMES[form]
    jsonio.write_bytes(path, content)
    if as_json:
        decided = {entry.label: None if entry.verdict is None else entry.verdict.decision for entry in report.merges}
        value = {
            "report": str(path),
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "verdicts": decided,
        }
        click.echo(jsonio.canonical(value).decode())
    else:
        click.echo(printable(str(path)))
    if show:
        click.launch(path.absolute().as_uri())


def _index(folders: tuple[Path, ...], output: Path, ledger: Path | None, as_json: bool, show: bool) -> None:
    from alignmerge.provenance.ledger import read
    from alignmerge.reports.index import load_runs, render

    page = render(load_runs(folders), output.absolute().parent, () if ledger is None else read(ledger))
    jsonio.write_bytes(output, page.encode())
    if as_json:
        value = {"index": str(output), "bytes": len(page.encode()), "runs": len(folders)}
        click.echo(jsonio.canonical(value).decode())
    else:
        click.echo(printable(str(output)))
    if show:
        click.launch(output.absolute().as_uri())


def _content(report: "ReportInput", form: str, redact: bool) -> bytes:
    from alignmerge.reports import flat, markdown
    from alignmerge.reports.render import render

    if form == "markdown":
        return markdown.render(report).encode()
    if form == "json":
        return jsonio.canonical(flat.data(report)) + b"\n"
    if form == "csv":
        return flat.items_csv(report, redact).encode()
    return render(report, redact).encode()
