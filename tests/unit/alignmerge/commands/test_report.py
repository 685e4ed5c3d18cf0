"""`alignmerge report DIR`."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from alignmerge.commands.report import command
from alignmerge.errors import RecordError

REPORTS = Path(__file__).resolve().parents[2] / "reports"
ROOT = REPORTS.parents[2]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    made = runpy.run_path(str(REPORTS / "synthetic.py"))["synthetic_report"]()
    runpy.run_path(str(REPORTS / "test_model.py"))["write_run"](made, tmp_path)
    return tmp_path


def test_writes_the_page_and_prints_its_path(run: Path) -> None:
    done = CliRunner().invoke(command, [str(run)])
    assert done.exit_code == 0
    assert done.output.strip() == str(run / "report.html")
    first = (run / "report.html").read_bytes()
    assert first.startswith(b"<!doctype html>")
    other = run / "again.html"
    done = CliRunner().invoke(command, [str(run), "-o", str(other), "--json"])
    said = json.loads(done.output)
    assert other.read_bytes() == first
    assert said["verdicts"]["TIES"] == "FAIL"
    assert said["bytes"] == len(first)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    done = CliRunner().invoke(command, [str(tmp_path)])
    assert isinstance(done.exception, RecordError)
    assert not (tmp_path / "report.html").exists()


def test_no_tensor_library_is_loaded() -> None:
    heavy = ("torch", "transformers", "scipy", "numpy")
    code = f"import sys, alignmerge.reports.render; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
