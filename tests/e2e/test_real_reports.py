"""Every form of report, made from the records of a real run."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from alignmerge.cli import cli

pytestmark = pytest.mark.model
TINY = 4  # items of every suite


def written(run: Path, output: Path, *more: str) -> str:
    """The text of the report file that the command line makes."""
    done = CliRunner().invoke(cli, ["report", str(run), "-o", str(output), *more], standalone_mode=False)
    assert done.exception is None, repr(done.exception)
    return output.read_text(encoding="utf-8")


def test_J14_a_real_run_has_the_same_bytes_in_every_process(real_run: Path, tmp_path: Path) -> None:
    kept = (real_run / "report.html").read_bytes()
    for seed in ("1", "2"):
        output = tmp_path / f"{seed}.html"
        subprocess.run(
            [
                sys.executable,
                "-c",
                "from alignmerge.cli import main; main()",
                "report",
                str(real_run),
                "-o",
                str(output),
            ],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": f"UTC+{seed}", "LC_ALL": "C.UTF-8"},
            check=True,
        )
        assert output.read_bytes() == kept


def test_the_forms_agree_on_a_real_run(real_run: Path, tmp_path: Path) -> None:
    value = json.loads(written(real_run, tmp_path / "r.json", "--format", "json"))
    merge = next(entry for entry in value["entries"] if entry["role"] == "merge")
    decision = merge["verdict"]["decision"]
    assert decision in ("FAIL", "INCONCLUSIVE")  # 4 items can pass nothing
    page = written(real_run, tmp_path / "r.html")
    text = written(real_run, tmp_path / "r.md", "--format", "markdown")
    assert f"**{merge['label']}: {decision}.**" in text
    assert f"The merge {merge['label']} may not ship under policy demo (digest " in page
    every = csv.DictReader(io.StringIO(written(real_run, tmp_path / "items.csv", "--format", "csv")))
    rows = [row for row in every if row["metric"] != "degeneration_rate"]  # it reads the items of all suites again
    asked = {(row["checkpoint"], row["suite"]) for row in rows}
    assert {suite for _, suite in asked} >= {"refusal", "over_refusal", "arithmetic", "instructions", "units"}
    for checkpoint, suite in asked:
        held = [row for row in rows if (row["checkpoint"], row["suite"]) == (checkpoint, suite)]
        assert len({row["item"] for row in held}) == TINY
    prompts = {row["prompt"] for row in rows if row["suite"] == "refusal"}
    redacted = written(real_run, tmp_path / "redacted.html", "--redact")
    assert not any(prompt in redacted or prompt in text for prompt in prompts)


def test_one_audit_and_an_index_of_a_real_run(real_run: Path, tmp_path: Path) -> None:
    audits = sorted((real_run / "audits").iterdir())
    alone = written(audits[-1], tmp_path / "audit.html")
    assert '<section id="readings"' in alone and '<section id="verdict"' not in alone
    page = written(real_run, tmp_path / "index.html", "--index")
    assert "spent: refusal-drop" in page
