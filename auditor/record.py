"""The audit record: what was measured on one checkpoint, item by item.

Outside it is `audit.json` (this record without the items) and `items.jsonl` beside it (one row per item and metric,
named by its SHA-256 in audit.json).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from alignmerge import jsonio
from alignmerge.auditor import item_rows
from alignmerge.errors import RecordError, StorageError

SCHEMA = "alignmerge.audit/1"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_Part = TypeVar("_Part")
_STRICT = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


@dataclass(frozen=True)
class Interval:
    """A two-sided interval at `level` (0.95) and the method that made it."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    low: float
    high: float
    level: float
    method: str


@dataclass(frozen=True)
class ItemScore:
    """One metric on one item: `value` in the metric's unit, or `unscored` with a reason. Never both, never neither.

    `note` is what a grader said of the answer.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    suite: str
    item: str
    metric: str
    value: float | None
    unscored: str | None
    prompt: str
    answer: str
    finish: str
    category: str
    note: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.unscored is None):
            raise RecordError(f"item {self.item!r}, metric {self.metric!r}: needs a value or a reason, not both")
        if self.value is not None and not abs(self.value) < float("inf"):
            raise RecordError(f"item {self.item!r}, metric {self.metric!r}: {self.value} is not a number")


@dataclass(frozen=True)
class MetricResult:
    """A metric over a suite. `value` is None, with a `reason`, when nothing could be scored.

    `replicates` are bootstrap values of set-level metrics (AQI), drawn with a seed that every checkpoint shares, so
    that replicate i of two records is the same resample and their difference is a paired bootstrap. `standard_error`
    is their standard deviation. `valid` tells whether the metric's validity gate passed (None: the metric has none).
    `detail` is what a set-level metric is made of, or an item metric's `categories`; for people, no rule decides on it.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    metric: str
    suite: str
    unit: str
    direction: Literal["higher", "lower"]
    value: float | None
    scored: int
    unscored: int
    interval: Interval | None = None
    reason: str | None = None
    standard_error: float | None = None
    replicates: tuple[float, ...] = ()
    valid: bool | None = None
    valid_reason: str | None = None
    detail: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class SuiteUse:
    """Which items of a suite were asked. `digest` is suites.model.items_digest of exactly those items."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    name: str
    version: str
    digest: str
    split: str
    items: int
    of: int


@dataclass(frozen=True)
class AuditRecord:
    """One checkpoint's audit.

    `checkpoint` is its manifest digest. `template`, `sampling` and `engine` carry a `digest` key. Records that differ
    in the template, or in the items or sampling of a suite that both asked, must not be compared. `aqi_reference` holds
    the frozen layer weights and standardisation (fitted on the anchor) that the AQI values were computed with.
    `graders` holds what each grader's numbers depend on, by name: its `digest`, and the `metrics` it filled.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    checkpoint: str
    name: str
    suites: tuple[SuiteUse, ...]
    metrics: tuple[MetricResult, ...]
    items: tuple[ItemScore, ...]
    template: Mapping[str, Any]
    sampling: Mapping[str, Any]
    engine: Mapping[str, Any]
    seed: int
    software: Mapping[str, str]
    created: str
    aqi_reference: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)
    graders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def result(self, metric: str) -> MetricResult | None:
        """The result of `metric`, or None when it was not measured."""
        return next((row for row in self.metrics if row.metric == metric), None)

    @cached_property
    def by_metric(self) -> Mapping[str, tuple[ItemScore, ...]]:
        """The rows of each metric, in their order."""
        found: dict[str, list[ItemScore]] = {}
        for row in self.items:
            found.setdefault(row.metric, []).append(row)
        return {metric: tuple(rows) for metric, rows in found.items()}

    def scores(self, metric: str) -> dict[str, ItemScore]:
        """Item scores of `metric` by item id."""
        return {row.item: row for row in self.by_metric.get(metric, ())}


def items_bytes(record: AuditRecord) -> bytes:
    """The content of items.jsonl: rows sorted by metric and item id, one canonical JSON object per line."""
    return item_rows.content(record.items)


def to_json(record: AuditRecord) -> dict[str, Any]:
    """audit.json as a value (items are named by digest, not contained)."""
    value = asdict(replace(record, items=()))
    del value["items"]
    if not record.graders:
        del value["graders"]
    for result in value["metrics"]:
        if result["detail"] is None:  # as above
            del result["detail"]
    value["schema"] = SCHEMA
    value["items"] = {"file": "items.jsonl", "sha256": item_rows.digest(record.items)}
    return value


def record_digest(record: AuditRecord) -> str:
    """SHA-256 that names this audit in verdicts."""
    return jsonio.digest(to_json(record))


def save(record: AuditRecord, folder: Path) -> Path:
    """Path of the audit.json written into `folder` (created), after items.jsonl.

    Raises:
        StorageError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made: {error.strerror}") from None
    jsonio.write_bytes(folder / "items.jsonl", items_bytes(record))
    jsonio.write(folder / "audit.json", to_json(record))
    return folder / "audit.json"


def load(path: Path) -> AuditRecord:
    """The audit record at `path` (audit.json, or a folder holding it), items checked against their digest.

    Raises:
        RecordError: malformed (the message names the key), of another schema, or another tool's results.
        IntegrityError: items.jsonl is not the file that was recorded.
        StorageError: a file cannot be read.
    """
    if path.is_dir():
        path = path / "audit.json"
    value = jsonio.read(path)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise RecordError(f"{path}: {_other(value)}")
    del value["schema"]
    named = value.pop("items", None)
    if not isinstance(named, dict) or not isinstance(named.get("sha256"), str):
        raise RecordError(f"{path}: malformed audit record: items: names no sha256")
    items = _items(path.parent / "items.jsonl", named["sha256"])
    record = _reader(AuditRecord)(jsonio.canonical(value | {"items": []}), str(path))
    if not _SHA256.fullmatch(record.checkpoint):
        raise RecordError(
            f"{path}: malformed audit record: checkpoint: {record.checkpoint[:80]!r} is no SHA-256 in hex"
        )
    return replace(record, items=items)


def _other(value: Any) -> str:
    """What a JSON value is, if no audit record of this version, and what to do with it."""
    from alignmerge.auditor.imported import inspect_ai, lm_eval

    tool = "lm-eval" if lm_eval.is_results(value) else "inspect_ai" if inspect_ai.is_log(value) else None
    if tool is None:
        return f"key 'schema' is not {SCHEMA!r}; make the audit again with this version"
    return (
        f"results of {tool}, which do not say whose weights were asked; make them an audit record first: "
        "alignmerge import-results FILE --checkpoint SHA256 -o FOLDER"
    )


def _items(path: Path, sha256: str) -> tuple[ItemScore, ...]:
    return item_rows.read(path, sha256, _reader(ItemScore), _reader(list[ItemScore]))


def _reader(kind: type[_Part]) -> Callable[[bytes, str], _Part]:
    """What reads a JSON text, and where it is, as a `kind`, no value converted from another type.

    It raises RecordError, which names the place and the key.
    """
    from pydantic import TypeAdapter, ValidationError

    validate = TypeAdapter(kind).validator.validate_json

    def parse(text: bytes, where: str) -> _Part:
        try:
            found: _Part = validate(text, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise RecordError(f"{where}: malformed audit record: {key}: {first['msg']}") from None
        except RecordError as error:
            raise RecordError(f"{where}: {error}") from None
        return found

    return parse
