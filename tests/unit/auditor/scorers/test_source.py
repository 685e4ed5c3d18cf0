"""The digest of the scorers: in every audit, the same at every call, another one after a change."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from alignmerge.auditor.audit import audit
from alignmerge.auditor.scorers import source
from alignmerge.suites.registry import SUITES


def test_every_audit_names_the_scorers_that_read_it(tiny_engine: Any) -> None:
    found = audit(tiny_engine, checkpoint="a" * 64, name="n", suites=[SUITES["units"]], limit=2)
    assert found.software["scorers"] == source.source_digest()
    assert len(source.source_digest()) == 16


def test_a_change_in_a_file_or_of_its_name_changes_it(tmp_path: Path) -> None:
    folder = Path(source.__file__).parent

    def digest(name: str) -> str:
        code = (
            "import pathlib, sys; from alignmerge.auditor.scorers import source;"
            "source._FOLDER = pathlib.Path(sys.argv[1]); print(source.source_digest())"
        )
        run = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name)], capture_output=True, text=True, check=True
        )
        return run.stdout.strip()

    for name in ("same", "other", "renamed"):
        shutil.copytree(folder, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "other" / "refusal.py").open("a") as handle:
        handle.write("\n")
    (tmp_path / "renamed" / "units.py").rename(tmp_path / "renamed" / "unit.py")
    assert digest("same") == source.source_digest()
    assert len({digest(name) for name in ("same", "other", "renamed")}) == 3
