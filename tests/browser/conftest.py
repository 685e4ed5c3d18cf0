"""Report pages in a real browser: a Chromium of this machine, driven by Playwright, checked by axe-core.

The browser and Playwright live as long as one test module: Playwright's event loop would otherwise run on beside tests
that start loops of their own.
"""

import itertools
import os
import runpy
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
HERE = Path(__file__).resolve().parent
SYNTHETIC = HERE.parent / "unit/reports/synthetic.py"
LARGE = 20_000
LONG = " and so on" * 80  # an answer that a page cuts


def found_browser() -> str | None:
    """The Chromium to start: ALIGNMERGE_CHROMIUM, or the first of the usual names."""
    named = os.environ.get("ALIGNMERGE_CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; without one, or without the extra [browser], the tests are skipped."""
    api = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[browser]'")
    path = found_browser()
    if path is None:
        pytest.skip("no Chromium here: install one or name it in ALIGNMERGE_CHROMIUM")
    # A container has no user namespaces for Chromium's sandbox; the pages are our own and cannot reach a network.
    sandboxed = hasattr(os, "geteuid") and os.geteuid() != 0
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, chromium_sandbox=sandboxed)
        yield started
        started.close()


@dataclass
class Opened:
    """A page and what happened while it loaded. `messages` are console warnings and errors and uncaught exceptions."""

    page: Any
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Opened]]:
    """Opens a file in a context of its own: width, scheme ("light", "dark"), media ("screen", "print"), script."""
    contexts = []

    def show(
        path: Path, width: int = 1440, scheme: str = "light", media: str = "screen", script: bool = True
    ) -> Opened:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        contexts.append(context)
        result = Opened(context.new_page())
        result.page.on("console", lambda one: result.messages.append(one.text) if one.type != "log" else None)
        result.page.on("pageerror", lambda error: result.messages.append(str(error)))
        result.page.on("request", lambda request: result.requests.append(request.url))
        result.page.emulate_media(media=media)
        result.page.goto(path.as_uri())
        return result

    yield show
    for context in contexts:
        context.close()


def large(synthetic: dict[str, Any], longer: str = "") -> Any:
    """The invented run, its refusal suite of 20,000 items for the anchor and one merge; `longer` ends every answer."""
    report = synthetic["synthetic_report"]()
    entries = []
    for entry in report.entries:
        if entry.label not in ("safety anchor", "AlignMerge"):
            continue
        rows = [row for row in entry.audit.items if row.metric == "refusal_rate"]
        many = tuple(
            replace(row, item=f"refusal-{index:05d}", answer=row.answer + longer)
            for index, row in zip(range(LARGE), itertools.cycle(rows), strict=False)
        )
        entries.append(replace(entry, audit=replace(entry.audit, items=many)))
    return replace(report, entries=tuple(entries))


def _single(report: Any) -> Any:
    """The audit report of one checkpoint of `report`."""
    entry = next(one for one in report.entries if one.role == "anchor")
    return replace(report, title="Audit of the anchor", policy_name="none", policy_summary=(), entries=(entry,))


def _uneven(report: Any) -> Any:
    """`report` with cells that are hard to sort: numbers with an exponent, a column of words, a metric not measured."""
    drifts = iter((("kfac", 7.971e-05), ("identity", 0.0001129), ("fisher", 4.025e-05)))
    entries = []
    for one in report.entries:
        if one.role == "merge" and one.label != "AlignMerge":
            chart, absolute = next(drifts)
            held = tuple(row for row in one.audit.metrics if chart != "kfac" or row.metric != "degeneration_rate")
            drift = {"linear_drift": {"absolute": absolute, "chart": chart}}
            one = replace(one, drift=drift, audit=replace(one.audit, metrics=held))
        entries.append(one)
    return replace(report, entries=tuple(entries))


def _hostile(report: Any) -> Any:
    """`report` with names and answers that no layout likes: unbroken, right to left, markup, emoji."""
    long = "x" * 400
    entries = []
    for number, entry in enumerate(report.entries):
        items = tuple(
            replace(
                row, prompt=f"<script>alert(1)</script>{long}", answer=f"‮שלום {long} {'👩‍👩‍👧‍👦' * 40}", category=long
            )
            for row in entry.audit.items
        )
        label = f"{entry.label}_{'n' * 60}_{number}"
        entries.append(replace(entry, label=label, audit=replace(entry.audit, items=items, notes=(long,))))
    return replace(report, title=f"Title {long}", entries=tuple(entries), notes=(long, "<img src=x onerror=alert(1)>"))


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Rendered reports by name, and an index of two; `run` is of the folder ALIGNMERGE_REPORT_RUN where that is set."""
    from alignmerge.reports import index
    from alignmerge.reports.loaded import load
    from alignmerge.reports.render import render

    folder = tmp_path_factory.mktemp("pages")
    synthetic = runpy.run_path(str(SYNTHETIC))
    whole = _uneven(synthetic["synthetic_report"]())
    reports = {"run": whole, "audit": _single(whole), "hostile": _hostile(whole)}
    reports |= {"large": large(synthetic), "long": large(synthetic, LONG)}
    if real := os.environ.get("ALIGNMERGE_REPORT_RUN"):
        reports["run"] = load([Path(real)])
    made = {"index": folder / "index.html"}
    runs = [(folder / name, reports[name]) for name in ("run", "hostile")]
    made["index"].write_text(index.render(runs, folder), encoding="utf-8")
    for name, report in reports.items():
        made[name] = folder / f"{name}.html"
        made[name].write_text(render(report), encoding="utf-8")
    return made
