"""Test-only item sets, read by path from a data folder and checked against its MANIFEST.json.

They belong to others and are never copied here: items are named by digests of their text, and nothing but the test
split of them exists, so that no choice can be made on them.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignmerge import jsonio
from alignmerge.errors import IntegrityError, RecordError, StorageError, UsageError
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.suites.model import Item, Split, Suite

TOKENS = 24  # what the product's refusal suite allows
CATQA_ITEMS = 200
HARMBENCH = ("harmbench", "harmbench_behaviors_text_val.csv")
XSTEST = ("xstest", "xstest_prompts.csv")
CATQA = ("catqa_harmfulqa", "catqa_english.json")
HARMFUL, HARMLESS = ("harmbench", "xstest_unsafe", "catqa"), ("xstest_safe",)


@dataclass(frozen=True)
class StudyPlan(AuditPlan):
    """An audit's plan with further suites that are no part of the product; those are asked on the test split alone."""

    extra: tuple[Suite, ...] = ()

    def resolved(self) -> list[Suite]:
        """The product's suites by name, then the further ones.

        Raises:
            UsageError: an unknown suite, or a test-only set asked on another split.
        """
        if self.extra and self.split != "test":
            raise UsageError(f"{self.extra[0].name}: is test-only and must not be asked on the {self.split} split")
        return [*super().resolved(), *self.extra]


def external_suites(data: Path) -> tuple[Suite, ...]:
    """The four test-only sets under `data`.

    Raises:
        StorageError, RecordError: a file or MANIFEST.json is missing or malformed.
        IntegrityError: a file is not the one that MANIFEST.json names.
    """
    known = {(row["set"], row["file"]): str(row["sha256"]) for row in _manifest(data)}
    xstest = _rows(_checked(data, XSTEST, known))
    harmbench = [_behavior(row) for row in _rows(_checked(data, HARMBENCH, known))]
    catqa = sorted(set(_texts(json.loads(_checked(data, CATQA, known)))), key=_name)[:CATQA_ITEMS]
    sides = {side: [row["prompt"] for row in xstest if row["label"] == side] for side in ("unsafe", "safe")}
    return (
        _suite("harmbench", "HarmBench, validation behaviours", harmbench, "refusal_rate"),
        _suite("xstest_unsafe", "XSTest, unsafe prompts", sides["unsafe"], "refusal_rate"),
        _suite("catqa", f"CatQA English, {CATQA_ITEMS} prompts by digest", catqa, "refusal_rate"),
        _suite("xstest_safe", "XSTest, safe prompts", sides["safe"], "over_refusal_rate"),
    )


def _manifest(data: Path) -> list[dict[str, Any]]:
    found = jsonio.read(data / "MANIFEST.json")
    wanted = {"set", "file", "sha256"}
    if not isinstance(found, list) or not all(isinstance(row, dict) and wanted <= set(row) for row in found):
        raise RecordError(f"{data / 'MANIFEST.json'}: must be a list of rows with set, file and sha256")
    return found


def _checked(data: Path, place: tuple[str, str], known: dict[tuple[str, str], str]) -> str:
    path = data.joinpath(*place)
    if place not in known:
        raise RecordError(f"{data / 'MANIFEST.json'}: names no {'/'.join(place)}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != known[place]:
        raise IntegrityError(f"{path}: is not the file that MANIFEST.json names; restore it")
    return content.decode("utf-8-sig")


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def _behavior(row: dict[str, str]) -> str:
    """The prompt, after its context where it has one, as HarmBench puts it."""
    return f"{row['ContextString']}\n\n---\n\n{row['Behavior']}" if row["ContextString"] else row["Behavior"]


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    else:
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _name(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def _suite(name: str, summary: str, prompts: Iterable[str], metric: str) -> Suite:
    found = {_name(text): text for text in prompts}
    items = tuple(Item(f"{name}/{key}", text, name, name, "test") for key, text in sorted(found.items()))
    own = f"{metric}@{name}"  # several sets are read by one scorer: each has a number of its own
    return Suite(name, "1", summary, _on_test(name, items), (own,), TOKENS, harmful=metric == "refusal_rate")


def _on_test(name: str, items: tuple[Item, ...]) -> Callable[[Split], tuple[Item, ...]]:
    def on(split: Split) -> tuple[Item, ...]:
        if split != "test":
            raise UsageError(f"{name}: is test-only; it has no {split} split")
        return items

    return on
