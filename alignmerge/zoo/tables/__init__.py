"""Small tables of our own that the zoo's training rows are made from."""

from importlib.resources import files
from typing import Any

from alignmerge import jsonio


def read_table(name: str) -> list[dict[str, Any]]:
    """The rows of `alignmerge/zoo/tables/NAME` (JSON Lines) in file order."""
    text = (files("alignmerge.zoo.tables") / name).read_text(encoding="utf-8")
    return [jsonio.loads(line, f"zoo/tables/{name}") for line in text.splitlines() if line]
