"""What a reader's browser does with a report: layout, script, links, accessibility."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

PAGES = ("run", "audit", "hostile", "index")
WIDTHS = (1440, 768, 390)
PAPER = 718  # A4 between margins of 1 cm, in CSS pixels
Show = Callable[..., Any]

# What lies to the right of the window; on a screen, regions that scroll by themselves may hold more than fits.
STICKING_OUT = """(printed) => {
  const wide = document.documentElement.clientWidth;
  return [...document.body.querySelectorAll("*")]
    .filter((one) => one.getBoundingClientRect().right > wide + 1 && (printed || !one.closest(".scroll")))
    .slice(0, 5).map((one) => one.tagName + "." + one.getAttribute("class") + ": " + one.textContent.slice(0, 60));
}"""
# Text of a chart that leaves its drawing, and is therefore drawn over what is beside it.
CUT_LABELS = """() => [...document.querySelectorAll("svg")].flatMap((svg) => {
  const box = svg.closest("figure").getBoundingClientRect();
  return [...svg.querySelectorAll("text")].filter((label) => {
    const at = label.getBoundingClientRect();
    return at.left < box.left - 1 || at.right > box.right + 1 || at.top < box.top - 1 || at.bottom > box.bottom + 1;
  }).map((label) => label.textContent);
})"""


@pytest.mark.parametrize("name", PAGES)
def test_J06_the_page_is_quiet_and_asks_for_nothing(opened: Show, pages: dict[str, Path], name: str) -> None:
    shown = opened(pages[name])
    assert shown.messages == []
    assert shown.requests == [pages[name].as_uri()]


@pytest.mark.parametrize(("width", "media"), [*((width, "screen") for width in WIDTHS), (PAPER, "print")], ids=str)
@pytest.mark.parametrize("name", PAGES)
def test_nothing_sticks_out_of_the_window(
    opened: Show, pages: dict[str, Path], name: str, width: int, media: str
) -> None:
    page = opened(pages[name], width=width, media=media).page
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate(STICKING_OUT, media == "print") == []
    wanted, given = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wanted <= given


@pytest.mark.parametrize("name", ["run", "audit"])
def test_chart_labels_stay_in_their_charts(opened: Show, pages: dict[str, Path], name: str) -> None:
    assert opened(pages[name]).page.evaluate(CUT_LABELS) == []


@pytest.mark.parametrize(("scheme", "media"), [("light", "screen"), ("dark", "screen"), ("dark", "print")])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(opened: Show, pages: dict[str, Path], name: str, scheme: str, media: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install -e '.[browser]'")
    shown = opened(pages[name], scheme=scheme, media=media)
    # Closed parts are not looked at by axe.
    shown.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    found = axe.Axe().run(shown.page).response["violations"]
    assert [(one["id"], one["impact"], [node["html"][:120] for node in one["nodes"][:3]]) for one in found] == []


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(opened: Show, pages: dict[str, Path], name: str) -> None:
    page = opened(pages[name]).page
    broken = """[...document.querySelectorAll("a[href]")].map((one) => one.getAttribute("href"))
        .filter((link) => !link.startsWith("./") && document.getElementById(link.slice(1)) === null)"""
    assert page.evaluate(broken) == []
    for link in page.locator("nav a").all():
        link.click()
        target = page.locator(link.get_attribute("href"))
        assert target.evaluate("(one) => one.matches(':target')")
    assert page.evaluate("new Set([...document.querySelectorAll('[id]')].map((one) => one.id)).size") == page.evaluate(
        "document.querySelectorAll('[id]').length"
    )


def sortable(page: Any) -> list[Any]:
    """The tables that can be sorted, each row marked with its place, everything opened."""
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    tables = page.locator("table.sortable")
    tables.evaluate_all("(all) => all.forEach((one) => [...one.tBodies[0].rows].forEach((row, at) => row.id = at))")
    return list(tables.all())


def column(table: Any, number: int) -> dict[int, str]:
    """First lines of the cells of one column by their row's first place, from the top."""
    cells = table.locator(f"tbody tr > :nth-child({number})")
    shown = [text.strip().split("\n")[0] for text in cells.all_inner_texts()]
    return dict(zip(table.locator("tbody tr").evaluate_all("(rows) => rows.map((row) => +row.id)"), shown, strict=True))


def value(text: str) -> float | None:
    """The number that a cell begins with; None where it says why there is none."""
    try:
        return float(text.replace("−", "-").replace(",", "").split()[0])
    except (IndexError, ValueError):
        return None


def in_order(cells: dict[int, str], falling: bool) -> list[int]:
    """The rows by number, those without one last and equal ones as they stood; by their words where none has one."""
    numbers = {row: found for row, text in cells.items() if (found := value(text)) is not None}
    if not numbers:
        return sorted(cells, key=lambda row: cells[row].casefold(), reverse=falling)
    held = sorted((row for row in cells if row in numbers), key=lambda row: numbers[row] * (-1 if falling else 1))
    return [*held, *(row for row in cells if row not in numbers)]


def test_a_click_sorts_and_a_second_one_turns_around(opened: Show, pages: dict[str, Path]) -> None:
    page = opened(pages["run"]).page
    table = sortable(page)[0]
    before = list(column(table, 1).values())
    head = table.locator("thead th").first
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    up = page.evaluate("(names) => [...names].sort((a, b) => a.localeCompare(b))", before)
    assert list(column(table, 1).values()) == up
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert list(column(table, 1).values()) == up[::-1]
    assert page.locator("[aria-sort]").count() == 1


@pytest.mark.parametrize("name", ["run", "audit", "index"])
def test_numbers_sort_as_numbers_both_ways_with_missing_ones_last(
    opened: Show, pages: dict[str, Path], name: str
) -> None:
    seen: list[str] = []
    for table in sortable(opened(pages[name]).page):
        for at, head in enumerate(table.locator("thead th").all(), start=1):
            if "num" not in (head.get_attribute("class") or ""):
                continue
            seen += column(table, at).values()
            for falling in (False, True):
                cells = column(table, at)
                head.locator("button").click()
                assert list(column(table, at)) == in_order(cells, falling), (head.inner_text(), falling, cells)
    assert seen
    if name == "run":  # what has to be told apart is there
        kinds = ("e-05", "0.0001", "−", "+", "none", "not measured", "identity")
        assert [kind for kind in kinds if not any(kind in text for text in seen)] == []


@pytest.mark.parametrize("name", ["run", "audit", "index"])
def test_every_sort_button_says_its_column(opened: Show, pages: dict[str, Path], name: str) -> None:
    page = opened(pages[name]).page  # as it is opened: most tables lie in closed parts
    said = page.locator("button.sort").evaluate_all("(all) => all.map((one) => one.ariaLabel)")
    heads = [head.strip().split("\n")[0] for table in sortable(page) for head in
             table.locator("thead th").all_inner_texts()]  # fmt: skip
    assert said == [f"Sort by {head.removesuffix('⇅').strip()}" for head in heads]


def test_the_filter_shows_only_answers_with_the_word(opened: Show, pages: dict[str, Path]) -> None:
    page = opened(pages["run"]).page
    rows = page.locator("#answers details.pair")
    total = rows.count()
    assert total > 0
    word = rows.last.locator(".sub-inline").text_content().strip()
    page.locator(".filter input").fill(word)
    kept = page.locator("#answers details.pair:not([hidden])")
    assert 0 < kept.count() < total
    assert all(word in text for text in kept.all_text_contents())
    assert all(one.is_visible() for one in kept.all())  # what it lies in is opened
    assert page.locator(".filter output").inner_text() == f"{kept.count()} of {total}"
    page.locator(".filter input").fill("no answer has these words")
    assert kept.count() == 0
    page.locator(".filter input").fill("")
    assert kept.count() == total


def test_the_index_shows_only_merges_with_the_word(opened: Show, pages: dict[str, Path]) -> None:
    page = opened(pages["index"]).page
    rows = page.locator("#runs tbody tr")
    page.locator(".filter input").fill("task arithmetic")
    kept = page.locator("#runs tbody tr:not([hidden])")
    assert 0 < kept.count() < rows.count()
    assert all("task arithmetic" in text.lower() for text in kept.all_text_contents())


@pytest.mark.parametrize("name", ["run", "audit", "index"])
def test_the_text_is_the_same_without_script(opened: Show, pages: dict[str, Path], name: str) -> None:
    words = """() => { const copy = document.body.cloneNode(true);
        copy.querySelectorAll("script, .sort, .filter").forEach((one) => one.remove());
        return copy.textContent.replace(/\\s+/g, ""); }"""
    without = opened(pages[name], script=False).page
    assert without.locator(".sort, .filter").count() == 0
    assert without.evaluate(words) == opened(pages[name]).page.evaluate(words)
    assert without.locator("main > section").last.is_visible()


def test_J01_hostile_text_makes_no_element(opened: Show, pages: dict[str, Path]) -> None:
    page = opened(pages["hostile"]).page
    assert page.locator("script").count() == 1
    assert page.locator("img, iframe, object, embed, form, link").count() == 0
    names = "[...document.querySelectorAll('*')].flatMap((one) => one.getAttributeNames())"
    assert [name for name in page.evaluate(names) if name.startswith("on")] == []


def opening(opened: Show, path: Path, other: Path) -> tuple[Any, float, float]:
    """The page at `path`, wall seconds to open it, the quickest of three, and seconds of processor time."""
    page = opened(other).page
    waited = []
    for _ in range(3):  # the quickest: other work on this machine is not the page's
        started = time.perf_counter()
        page.goto(path.as_uri())
        page.locator("main > section").last.wait_for()
        waited.append(time.perf_counter() - started)
        page.goto(other.as_uri())
    session = page.context.new_cdp_session(page)
    # The page's own processor time: what a reader waits on a machine that does nothing else.
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(path.as_uri())
    page.locator("main > section").last.wait_for()
    taken = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return page, min(waited), taken["TaskDuration"]


@pytest.mark.parametrize("name", ["large", "long"])
def test_J07_of_twenty_thousand_items_a_thousand_that_changed_can_be_read_at_once(
    opened: Show, pages: dict[str, Path], name: str
) -> None:
    assert pages[name].stat().st_size < 5_000_000
    page, waited, taken = opening(opened, pages[name], pages["audit"])
    assert waited < 2
    assert 0 < taken < 2
    answers = page.locator("#answers")
    readable = answers.locator("details.pair").count()
    assert readable >= 1_000
    # What changed is counted over each group: all of it is on the page, or what is not is counted too.
    changed = sum(int(text.split(" of ")[0].replace(",", "")) for text in answers.locator(".count").all_text_contents())
    left = re.findall(r"([\d,]+) more not shown", answers.text_content())
    assert readable + sum(int(number.replace(",", "")) for number in left) == changed
    last = answers.locator("details.pair").last
    page.locator(".filter input").fill(last.locator(".sub-inline").text_content())
    assert last.is_visible()
    last.locator("summary").click()
    assert last.locator(".text").last.is_visible()
