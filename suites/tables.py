"""Reads the JSON tables under suites/data, from a checkout or an installed wheel alike."""

from importlib.resources import files
from typing import Any

from alignmerge import jsonio


def read_rows(name: str) -> list[dict[str, Any]]:
    """The rows of `suites/data/NAME` (JSON Lines) in file order."""
    text = (files("alignmerge.suites") / "data" / name).read_text(encoding="utf-8")
    return [jsonio.loads(line, f"suites/data/{name}") for line in text.splitlines() if line]
