"""Where the drift comes from: the blame record, read strictly, and its heat map."""

import re
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignmerge import jsonio
from alignmerge.errors import RecordError
from alignmerge.reports.blame import BlameRecord, read_blame
from alignmerge.reports.drawing import Label, Rect
from alignmerge.reports.heat import heat_map
from alignmerge.reports.model import ReportInput, load_run
from alignmerge.reports.render import render
from alignmerge.reports.sections import blamed

VALUE: dict[str, Any] = {
    "schema": "alignmerge.blame/1",
    "checkpoint": "a" * 64,
    "anchor": "b" * 64,
    "finite": {
        "finite_drift": 0.5,
        "total": 0.5,
        "quadrature_error": 0.0,
        "points": 8,
        "rows": 16,
        "cells": [
            {"contributor": "one", "layer": 0, "module": "mlp", "share": 0.6},
            {"contributor": "two", "layer": None, "module": "other", "share": -0.1},
        ],
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """VALUE with another value at a dotted path."""
    made: Any = jsonio.loads(jsonio.canonical(VALUE), "value")
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = made
    for part in way:
        place = place[part]
    place[last] = value
    assert isinstance(made, dict)
    return made


def test_a_record_is_read(tmp_path: Path) -> None:
    jsonio.write(tmp_path / "b.json", VALUE)
    found = read_blame(tmp_path / "b.json", "a" * 64)
    assert found.finite.cells[1].layer is None and found.finite.cells[0].share == 0.6


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("schema", "alignmerge.blame/2", "schema"),
        ("checkpoint", "c" * 64, "speaks of checkpoint cccccccccccc"),
        ("anchor", None, "anchor"),
        ("finite", [], "finite"),
        ("finite.cells", [], "finite.cells"),
        ("finite.cells.0.share", "0.6", r"finite.cells.0.share"),
        ("finite.cells.0.share", 1e300, r"finite.cells.0.share"),
        ("finite.cells.0.share", True, r"finite.cells.0.share"),
        ("finite.cells.1.layer", -1, r"finite.cells.1.layer"),
        ("finite.cells.1.contributor", "", r"finite.cells.1.contributor"),
        ("finite.quadrature_error", -1.0, "quadrature_error"),
    ],
)
def test_a_malformed_record_is_refused_by_its_key(tmp_path: Path, path: str, value: Any, named: str) -> None:
    jsonio.write(tmp_path / "b.json", changed(path, value))
    with pytest.raises(RecordError, match=named):
        read_blame(tmp_path / "b.json", "a" * 64)


def test_the_page_names_the_largest_spender_and_its_layers(report: ReportInput) -> None:
    [found] = blamed.view(report)
    assert found.label == "TIES" and found.who == "mostly expert units (most of it in layers 21-26)"
    assert found.contributors[0].name == "units" and found.contributors[-1].share.startswith("−")
    shares = [float(one.part.removesuffix(" %").replace("−", "-")) for one in found.contributors]
    assert sum(shares) == pytest.approx(100, abs=0.3)
    page = re.sub(r"\s+", " ", render(report))
    assert f"TIES: drift {found.drift} nats per token on 32 held-out answers, {found.who}" in page


def test_no_section_without_a_record(report: ReportInput) -> None:
    page = render(replace(report, entries=tuple(replace(entry, blame=None) for entry in report.entries)))
    assert 'id="blame"' not in page and 'href="#blame"' not in page


def test_a_cell_that_takes_drift_back_has_a_sign_beside_its_hue() -> None:
    drawing = heat_map("h", "t", ["a", "b"], {("a", 0): 1.0, ("a", 1): 0.5, ("b", 0): -0.5, ("b", None): 0.0})
    cells = [mark for mark in drawing.marks if isinstance(mark, Rect)]
    assert [cell.css for cell in cells] == [
        "heat h8 spends",
        "heat h4 spends",
        "heat h0 spends",
        "heat h4 gives",
        "heat h0 spends",
        "heat h0 spends",
    ]
    signs = [mark for mark in drawing.marks if isinstance(mark, Label) and mark.text == "−"]
    assert len(signs) == 1 and cells[3].x <= signs[0].x <= cells[3].x + cells[3].width
    assert all(cell.x >= 0 and cell.x + cell.width <= drawing.width for cell in cells)


def test_nothing_spent_is_drawn_too() -> None:
    assert heat_map("h", "t", ["a"], {("a", None): 0.0}).marks
    assert heat_map("h", "t", ["a"], {}).height > 0


def test_a_wrong_quadrature_is_said(report: ReportInput) -> None:
    record = BlameRecord.model_validate(changed("finite.quadrature_error", 0.2), strict=False)
    entries = tuple(replace(entry, blame=record if entry.role == "merge" else None) for entry in report.entries)
    assert "miss the drift by 20.0%: read them as rough" in render(replace(report, entries=entries))


def test_a_record_outside_the_folder_or_of_another_checkpoint_is_refused(
    report: ReportInput, tmp_path: Path, write_run: Callable[[ReportInput, Path], None]
) -> None:
    write_run(report, tmp_path / "run")
    value: Any = jsonio.read(tmp_path / "run/run.json")
    [row] = [row for row in value["entries"] if row.get("blame")]
    jsonio.write(tmp_path / "b.json", jsonio.read(tmp_path / "run" / row["blame"]))
    row["blame"] = "../b.json"
    jsonio.write(tmp_path / "run/run.json", value)
    with pytest.raises(RecordError, match="leaves the run's folder"):
        load_run(tmp_path / "run")


@pytest.fixture
def write_run() -> Any:
    """How test_model.py writes a run."""
    return runpy.run_path(str(Path(__file__).with_name("test_model.py")))["write_run"]
