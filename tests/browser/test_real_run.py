"""The pages of a real run in a browser, as test_pages.py looks at invented ones."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignmerge.reports import index
from alignmerge.reports.loaded import load
from alignmerge.reports.render import render

pytestmark = [pytest.mark.browser, pytest.mark.model]

PAGES = runpy.run_path(str(Path(__file__).with_name("test_pages.py")))
NAMES = ("run", "audit", "index")
OPEN_ALL = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
Show = Callable[..., Any]


@pytest.fixture(scope="module")
def real_pages(real_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run's report, the report of its merge's audit alone, and an index."""
    run, folder = load([real_run]), tmp_path_factory.mktemp("real pages")
    audit = real_run / "audits" / run.merges[0].label
    texts = {"run": render(run), "audit": render(load([audit])), "index": index.render([(real_run, run)], folder)}
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


@pytest.mark.parametrize("name", NAMES)
def test_a_real_page_is_quiet_and_its_links_lead_somewhere(
    opened: Show, real_pages: dict[str, Path], name: str
) -> None:
    shown = opened(real_pages[name])
    assert (shown.messages, shown.requests) == ([], [real_pages[name].as_uri()])
    broken = """[...document.querySelectorAll("a[href^='#']")].map((one) => one.getAttribute("href"))
        .filter((link) => document.getElementById(link.slice(1)) === null)"""
    assert shown.page.evaluate(broken) == []
    assert shown.page.evaluate(PAGES["CUT_LABELS"]) == []


@pytest.mark.parametrize(
    ("width", "media"), [*((width, "screen") for width in PAGES["WIDTHS"]), (PAGES["PAPER"], "print")], ids=str
)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_real_page_sticks_out(
    opened: Show, real_pages: dict[str, Path], name: str, width: int, media: str
) -> None:
    page = opened(real_pages[name], width=width, media=media).page
    page.evaluate(OPEN_ALL)
    assert page.evaluate(PAGES["STICKING_OUT"], media == "print") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_nothing_on_a_real_page(opened: Show, real_pages: dict[str, Path], name: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install -e '.[browser]'")
    shown = opened(real_pages[name], scheme=scheme)
    shown.page.evaluate(OPEN_ALL)
    found = axe.Axe().run(shown.page).response["violations"]
    assert [(one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in found] == []
