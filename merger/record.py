"""merge.json: what was merged, with which versions, and what came out. It holds no clock time."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from alignmerge import __version__, jsonio
from alignmerge.errors import RecordError

SCHEMA = "alignmerge.merge/1"
FILE_NAME = "merge.json"
PACKAGES = ("torch", "transformers", "numpy", "scipy")


@dataclass(frozen=True)
class Input:
    """One ingredient: its role ("anchor", "base", "expert"), the reference in the recipe, and its manifest digest."""

    role: str
    reference: str
    digest: str


@dataclass(frozen=True)
class MergeRecord:
    """A finished merge.

    recipe: resolved. versions: software that computed it. account: the method's own account. output_digest: manifest
    digest of the result. tensor_digest: SHA-256 over the result's tensors alone, the same at any shard size.
    """

    recipe: Mapping[str, Any]
    inputs: tuple[Input, ...]
    versions: Mapping[str, str]
    account: Mapping[str, Any]
    notes: tuple[str, ...]
    output_digest: str
    tensor_digest: str

    def to_json(self) -> dict[str, Any]:
        """The record as plain data."""
        return {"schema": SCHEMA, **asdict(self)}


def versions() -> dict[str, str]:
    """Versions of AlignMerge, Python and the numeric libraries, and the processor family."""
    found = {"alignmerge": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def write(record: MergeRecord, folder: Path) -> Path:
    """Put `record` into `folder` as merge.json; its path."""
    path = folder / FILE_NAME
    jsonio.write(path, record.to_json())
    return path


def read(folder: Path) -> MergeRecord:
    """The merge record in `folder`.

    Raises:
        StorageError: there is none, or it cannot be read.
        RecordError: it is malformed.
    """
    path = folder / FILE_NAME
    value = jsonio.read(path)
    try:
        if value.pop("schema") != SCHEMA:
            raise ValueError(f"schema is not {SCHEMA}")
        inputs = tuple(Input(**entry) for entry in value.pop("inputs"))
        record = MergeRecord(inputs=inputs, notes=tuple(value.pop("notes")), **value)
        for text in (record.output_digest, record.tensor_digest):
            if not isinstance(text, str):
                raise TypeError("digests must be text")
        return record
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{path}: not a merge record: {error}") from None
