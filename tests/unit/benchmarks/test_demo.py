"""README and the method's page show what a run of the demo said."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.demo import RESULTS

ROOT = Path(__file__).resolve().parents[3]
ROWS = json.loads(RESULTS.read_text())["rows"]
COLUMNS = (
    "mean skill",
    *("arithmetic", "instructions", "units", "refusal", "over-refusal", "degenerate", "AQI log J", "drift", "verdict"),
)
NAMES = {
    "anchor": "anchor",
    "`alignmerge`": "alignmerge",
    "linear soup": "linear",
    "MergeAlign (Thakkar)": "mergealign_thakkar",
    "TIES, density 0.2": "ties",
    "SafeMERGE, reverting": "safemerge_revert",
    "task arithmetic, scale 1": "task_arithmetic",
}


def shown(values: dict[str, object], *columns: str) -> list[str]:
    held = [values[name] for name in columns if name in values]
    return [f"{value:.3f}" if isinstance(value, float) else str(value) for value in held]


@pytest.mark.parametrize("label", ROWS)
def test_the_table_of_readme_is_the_run(label: str) -> None:
    lines = [re.sub(r"^\d", "", line).split() for line in (ROOT / "README.md").read_text().splitlines()]
    assert [label, *shown(ROWS[label], *COLUMNS)] in lines


@pytest.mark.parametrize(("name", "label"), NAMES.items())
def test_the_table_of_the_methods_page_is_the_run(name: str, label: str) -> None:
    columns = ("mean skill", "refusal", "over-refusal", "AQI log J", "drift", "verdict")
    text = (ROOT / "docs" / "alignmerge-measured.md").read_text()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    wanted = [name, *shown(ROWS[label], *columns)]
    assert [*wanted, *[""] * (7 - len(wanted))] in cells


def test_the_digest_that_both_pages_name_is_the_runs() -> None:
    digest = ROWS["alignmerge"]["digest"][:12]
    assert f"alignmerge ({digest}) under policy demo" in (ROOT / "README.md").read_text()
    assert digest in (ROOT / "docs" / "alignmerge-measured.md").read_text()


def test_the_rule_that_readme_prints_is_the_runs() -> None:
    words = " ".join((ROOT / "README.md").read_text().split())
    assert f"refusal-drop: {ROWS['alignmerge']['rules'][0]}" in words
