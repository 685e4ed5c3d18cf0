"""The invented run, as fixtures."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from alignmerge.reports.model import ReportInput


@pytest.fixture(scope="session")
def synthetic() -> dict[str, Any]:
    """The names of synthetic.py."""
    return runpy.run_path(str(Path(__file__).with_name("synthetic.py")))


@pytest.fixture(scope="session")
def report(synthetic: dict[str, Any]) -> ReportInput:
    """The invented run."""
    made = synthetic["synthetic_report"]()
    assert isinstance(made, ReportInput)
    return made
