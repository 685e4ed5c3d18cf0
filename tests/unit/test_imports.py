"""Import directions hold, in the layout a wheel has, and the folders cannot be imported under a second name."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("auditor", "merger", "policies", "reports", "suites")


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    """import-linter over `tree`/alignmerge with the contracts of pyproject.toml."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(sys.argv[1], no_cache=True))"
    return subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "pyproject.toml")],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder holding the package as a wheel lays it out."""
    only_python = shutil.ignore_patterns("__pycache__", "data", "adapters", "templates")
    shutil.copytree(ROOT / "alignmerge", tmp_path / "alignmerge", ignore=only_python)
    for part in PARTS:
        shutil.copytree(ROOT / part, tmp_path / "alignmerge" / part, ignore=only_python)
    return tmp_path


def test_import_directions_are_kept(tree: Path) -> None:
    result = lint(tree)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("merger/planted.py", "alignmerge.auditor.record"),
        ("merger/planted.py", "alignmerge.commands.gate"),
        ("suites/planted.py", "alignmerge.auditor.record"),
        ("auditor/planted.py", "alignmerge.policies.verdict"),
        ("policies/planted.py", "alignmerge.reports"),
        ("reports/planted.py", "alignmerge.merger"),
        ("jsonio.py", "alignmerge.suites"),
        ("planted.py", "alignmerge.errors"),
    ],
)
def test_a_planted_import_breaks_a_contract(tree: Path, module: str, imported: str) -> None:
    """The last case is a new top-level module that has not taken its place among the layers."""
    with (tree / "alignmerge" / module).open("a") as file:
        file.write(f"\nimport {imported}\n")
    assert lint(tree).returncode != 0


def bare(code: str) -> subprocess.CompletedProcess[str]:
    """`code` run with the checkout on sys.path and no installed package at all."""
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_importable_below_alignmerge_only(part: str) -> None:
    assert bare(f"import alignmerge.{part}").returncode == 0
    result = bare(f"import {part}")
    assert result.returncode != 0
    assert f"ImportError: import alignmerge.{part}, not {part}" in result.stderr
