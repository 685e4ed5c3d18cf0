"""How large a report is and how long a browser takes to open it: invented runs of 20,000 items, and a real run.

    python -m benchmarks.pages --run RUN --machine "..."          -> results/pages.json

Needs the extra [browser] and a Chromium on the PATH or in ALIGNMERGE_CHROMIUM. Opening is wall time from asking for the
file until its last section is there, in a new context each time; finding, until the page shows the answers with a word
that was put into its filter. Of the invented runs one has short answers, the other such as a page cuts.
"""

import os
import runpy
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from alignmerge import jsonio
from alignmerge.reports.loaded import load
from alignmerge.reports.model import ReportInput
from alignmerge.reports.render import render

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests"
RESULTS = HERE / "results" / "pages.json"
TIMES = 5
WORD = "fraud"
FIND = """(word) => {
  const field = document.querySelector("#answers .filter input");
  const started = performance.now();
  field.value = word;
  field.dispatchEvent(new Event("input"));
  document.body.getBoundingClientRect();  // laid out anew
  return performance.now() - started;
}"""


def measured(browser: Any, report: ReportInput, folder: Path) -> dict[str, Any]:
    """Bytes of the page, seconds to render it, of every opening and of every finding, and the answers one can read."""
    started = time.perf_counter()
    text = render(report).encode()
    rendered = time.perf_counter() - started
    path = folder / "page.html"
    path.write_bytes(text)
    opened, found = [], []
    for _ in range(TIMES):
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()
        started = time.perf_counter()
        page.goto(path.as_uri())
        page.locator("main > section").last.wait_for()
        opened.append(round(time.perf_counter() - started, 3))
        found.append(round(page.evaluate(FIND, WORD) / 1000, 3))
        readable = page.locator("#answers details.pair").count()
        context.close()
    return {
        "bytes": len(text),
        "item_rows": sum(len(entry.audit.items) for entry in report.entries),
        "readable_items": readable,
        "render_seconds": round(rendered, 2),
        "open_seconds": opened,
        "find_seconds": found,
    }


@click.command()
@click.option("--run", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--machine", required=True, help="Words for the machine.")
def main(run: Path, machine: str) -> None:
    """Measure both pages and write the results."""
    from playwright.sync_api import sync_playwright

    browsers = runpy.run_path(str(TESTS / "browser" / "conftest.py"))
    invented = runpy.run_path(str(TESTS / "unit/reports/synthetic.py"))
    reports = {
        "invented, 20,000 items a checkpoint": browsers["large"](invented),
        "invented, 20,000 long answers a checkpoint": browsers["large"](invented, browsers["LONG"]),
        "real": load([run]),
    }
    found: dict[str, Any] = {"machine": machine, "load": [round(one, 1) for one in os.getloadavg()]}
    with sync_playwright() as api, tempfile.TemporaryDirectory() as folder:
        path = browsers["found_browser"]() or sys.exit("no Chromium here")
        browser = api.chromium.launch(executable_path=path, chromium_sandbox=os.geteuid() != 0)
        found["browser"] = browser.version
        found["pages"] = {name: measured(browser, report, Path(folder)) for name, report in reports.items()}
        browser.close()
    jsonio.write(RESULTS, found)
    click.echo(jsonio.pretty(found))


if __name__ == "__main__":
    main()
