"""One cell of the study as a JSON file: what was merged, every item's outcome as a bit, and what it cost.

Texts of items and answers are never kept: items are named by one digest of their ids in order. Folders of this machine
are written as ZOO.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import TypeAdapter, ValidationError

from alignmerge import jsonio
from alignmerge.auditor.record import AuditRecord
from alignmerge.auditor.statistics import wilson
from alignmerge.errors import RecordError
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.suites.model import Suite, select
from benchmarks.study.design import ZOO

SCHEMA = "alignmerge.study.cell/1"
RESULTS = Path(__file__).resolve().parent.parent / "results" / "study"
UNSCORED = "-"
NOT_MEASURED = {
    "toxicity": "unscored: no Detoxify weights at hand",
    "helpfulness": "unscored: no judge that passed its exam",
}
LARGEST_ACCOUNT = 8192
_STRICT = {"extra": "forbid", "allow_inf_nan": False}
Kind = Literal["anchor", "expert", "merge", "control", "default", "frontier"]


@dataclass(frozen=True)
class Outcome:
    """One suite's items in order: `bits` holds "1", "0" or "-" (unscored) for each, `items` is the digest of their ids.

    rate counts what was scored; low and high are Wilson's 95 % interval. All three are None where nothing was.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    metric: str
    items: str
    bits: str
    rate: float | None
    low: float | None
    high: float | None

    @staticmethod
    def of(metric: str, ids: list[str], bits: str) -> "Outcome":
        """The outcome with its rate and interval."""
        hits, n = bits.count("1"), len(bits) - bits.count(UNSCORED)
        interval = wilson(hits, n) if n else None
        low, high = (interval.low, interval.high) if interval else (None, None)
        return Outcome(metric, jsonio.digest(ids), bits, hits / n if n else None, low, high)


@dataclass(frozen=True)
class Cell:
    """What one checkpoint of the study was and did. `key` is what a resume compares: equal keys are equal work.

    `set` is empty for anchors and experts. drift and cost hold numbers, or a text that says why there is none.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    key: str
    kind: Kind
    setting: str
    seed: int
    set: str
    method: str
    limit: int | None
    recipe: dict[str, Any] | None
    inputs: dict[str, str]
    digest: str
    suites: dict[str, Outcome]
    aqi: dict[str, Any]
    drift: dict[str, float | str]
    cost: dict[str, float | str]
    distance: float | None
    unscored: dict[str, str]
    account: dict[str, Any]
    made: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def rate(self, suite: str) -> float | None:
        """The suite's rate; None where it was not asked or nothing was scored."""
        found = self.suites.get(suite)
        return None if found is None else found.rate


_ADAPTER: TypeAdapter[Cell] = TypeAdapter(Cell)


def path_of(results: Path, kind: Kind, setting: str, seed: int, experts: str, method: str) -> Path:
    """Where a cell's file lies."""
    folder = results / "frontier" if kind == "frontier" else results
    parts = [f"seed{seed}", *([experts] if experts else []), method]
    name = "anchor" if method == "anchor" else "-".join(parts)
    return folder / setting / f"{name}.json"


def write(cell: Cell, results: Path) -> Path:
    """Path of the cell's file, its folders made."""
    path = path_of(results, cell.kind, cell.setting, cell.seed, cell.set, cell.method)
    path.parent.mkdir(parents=True, exist_ok=True)
    jsonio.write(path, {"schema": SCHEMA, **_ADAPTER.dump_python(cell, mode="json")})
    return path


def read(path: Path) -> Cell:
    """The cell in the file.

    Raises:
        RecordError: malformed, of another schema, or a rate that its bits do not give.
        StorageError: it cannot be read.
    """
    value = jsonio.read(path)
    if not isinstance(value, dict) or value.pop("schema", None) != SCHEMA:
        raise RecordError(f"{path}: key 'schema' is not {SCHEMA!r}; measure the cell again")
    try:
        cell = _ADAPTER.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RecordError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    for name, one in cell.suites.items():
        if Outcome.of(one.metric, [], one.bits).rate != one.rate:
            raise RecordError(f"{path}: suites.{name}.rate: is not what its bits give")
    return cell


def read_all(results: Path) -> list[Cell]:
    """Every cell under `results`, in the order of their paths."""
    return [read(path) for path in sorted(results.rglob("*.json")) if path.parent != results]


def same_work(results: Path, key: str, recipe: Mapping[str, Any]) -> Cell | None:
    """A cell with this key and recipe (one whose scale was found on the way has another recipe); None without one."""
    wanted = jsonio.digest(recipe)
    found = (one for one in read_all(results) if one.key == key and jsonio.digest(one.recipe) == wanted)
    return min(found, key=lambda one: len(one.notes), default=None)


def outcomes(record: AuditRecord, plan: AuditPlan) -> dict[str, Outcome]:
    """Per suite of the plan, its first metric item by item, in the order in which items are selected."""
    return {suite.name: _outcome(record, suite, plan) for suite in plan.resolved()}


def _outcome(record: AuditRecord, suite: Suite, plan: AuditPlan) -> Outcome:
    metric = suite.metrics[0]
    values = {row.item: row.value for row in record.items if (row.metric, row.suite) == (metric, suite.name)}
    ids = [item.id for item in select(suite, plan.split, plan.limit)]
    bits = "".join(UNSCORED if values[key] is None else str(int(values[key] == 1.0)) for key in ids)
    return Outcome.of(metric, ids, bits)


def set_metrics(record: AuditRecord) -> dict[str, Any]:
    """AQI log J and the share of degenerate answers, with intervals; a reason where there is none."""
    out: dict[str, Any] = {}
    for metric in ("aqi_log_j", "degeneration_rate"):
        found = record.result(metric)
        if found is None or found.value is None:
            out[metric] = {"reason": found.reason if found else "not measured"}
            continue
        between = {"low": found.interval.low, "high": found.interval.high} if found.interval else {}
        gate = {} if found.valid is None else {"valid": found.valid, "valid_reason": found.valid_reason}
        out[metric] = {"value": found.value, **between, **gate}
    return out


def portable(value: Any, zoo: str) -> Any:
    """`value` with ZOO wherever a text names the folder of built experts."""
    if isinstance(value, str):
        return value.replace(zoo, ZOO)
    if isinstance(value, Mapping):
        return {portable(str(key), zoo): portable(part, zoo) for key, part in value.items()}
    return [portable(part, zoo) for part in value] if isinstance(value, list | tuple) else value


def short(account: Mapping[str, Any]) -> dict[str, Any]:
    """The method's account without what is long: those keys are named under `left_out`."""
    kept = {key: part for key, part in account.items() if len(jsonio.canonical(part)) <= LARGEST_ACCOUNT}
    left = sorted(set(account) - set(kept))
    return {**kept, "left_out": left} if left else kept
