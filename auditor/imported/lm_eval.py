"""lm-eval's `results_DATE.json` and its `samples_TASK_DATE.jsonl`, as written by version 0.4.

Source: lm_eval/loggers/evaluation_tracker.py. A sample row is one item under one filter, with the item's value of every
metric under the metric's bare name.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alignmerge import jsonio
from alignmerge.auditor.imported.evidence import Directions, Imported, file_bytes, named_file, number, result
from alignmerge.auditor.imported.shapes import count as counted_in
from alignmerge.auditor.imported.shapes import mapping
from alignmerge.auditor.record import ItemScore, MetricResult, SuiteUse
from alignmerge.auditor.template import clean
from alignmerge.errors import RecordError

TOOL = "lm_eval"
Row = Mapping[str, Any]


def is_results(value: Any) -> bool:
    """Whether a JSON value is a results file of lm-eval."""
    return isinstance(value, dict) and isinstance(value.get("results"), dict) and "n-samples" in value


def read(path: Path, samples: Sequence[Path], directions: Directions) -> Imported:
    """The results at `path` with the samples that belong to them.

    Raises:
        RecordError: not lm-eval's format, a task's samples incomplete or contradicting its summary.
        UsageError: a metric's direction is neither known nor given.
        StorageError: a file cannot be read.
    """
    data = file_bytes(path)
    value = jsonio.loads(data, str(path))
    if not is_results(value):
        raise RecordError(f"{path}: not a results file of lm-eval: keys 'results' and 'n-samples' are not there")
    files = [named_file(path, data)]
    suites: list[SuiteUse] = []
    metrics: list[MetricResult] = []
    items: list[ItemScore] = []
    by_task = _by_task(path, samples)
    for task in sorted(value["results"]):
        file = by_task.pop(task, None)
        rows = None
        if file is not None:
            told = file_bytes(file)
            files.append(named_file(file, told))
            rows = _rows(file, told)
        use, found, scored = _task(path, value, task, rows, directions)
        suites.append(use)
        metrics += found
        items += scored
    if by_task:
        raise RecordError(f"{path}: holds no task {sorted(by_task)[0]!r}, of which samples were given")
    return Imported(tuple(suites), tuple(metrics), tuple(items), _source(value, files), _created(path, value))


def _by_task(path: Path, samples: Sequence[Path]) -> dict[str, Path]:
    date = path.stem.removeprefix("results_")
    out = {}
    for file in samples:
        task = file.name.removeprefix("samples_").removesuffix(f"_{date}.jsonl")
        if file.name != f"samples_{task}_{date}.jsonl":
            raise RecordError(f"{file}: samples of another run than {path.name}; give the results file of that run")
        out[task] = file
    return out


def _rows(file: Path, data: bytes) -> list[Row]:
    rows = [jsonio.loads(line, f"{file}:{number}") for number, line in enumerate(data.splitlines(), 1) if line.strip()]
    seen = set()
    for row in rows:
        key = (row.get("doc_id"), row.get("filter")) if isinstance(row, dict) else (None, None)
        if type(key[0]) is not int or not isinstance(key[1], str | None) or key in seen:
            raise RecordError(f"{file}: a sample without doc_id, or one twice: {key[0]}")
        seen.add(key)
    return rows


def _task(
    path: Path, value: Row, task: str, rows: list[Row] | None, directions: Directions
) -> tuple[SuiteUse, list[MetricResult], list[ItemScore]]:
    where = f"{path}: results.{task}"
    summary = value["results"][task]
    counted = mapping(where, mapping(str(path), value, "n-samples"), task)
    count = counted_in(where, counted, "effective")
    better = mapping(where, mapping(str(path), value, "higher_is_better"), task)
    if rows is not None and count is not None and len({row["doc_id"] for row in rows}) != count:
        raise RecordError(f"{where}: {count} items were asked, but samples of another number of items were given")
    metrics, items = [], []
    for key, metric in _values(where, summary):
        bare, _, filtered = key.partition(",")
        told = better.get(bare)
        shown = bare if filtered in ("none", "") else key
        name = directions.named(where, TOOL, task, shown, told if isinstance(told, bool) else None)
        error = number(summary.get(f"{bare}_stderr,{filtered}"))
        scored = [] if rows is None else _scores(task, name, bare, filtered, rows, metric)
        metrics.append(result(where, name, f"{TOOL}/{task}", metric, error, scored, count or 0))
        items += scored
    digest = jsonio.digest(_settings(path, value, task, rows))
    total = counted_in(where, counted, "original") or count or 0
    version = str(mapping(str(path), value, "versions").get(task, "unknown"))
    asked = count if count is not None else len({row["doc_id"] for row in rows or ()})
    return SuiteUse(f"{TOOL}/{task}", version, digest, "test", asked, max(total, asked)), metrics, items


def _values(where: str, summary: Any) -> Iterator[tuple[str, float]]:
    """`METRIC,FILTER` and value of everything that is a metric; bypass and standard errors are not."""
    if not isinstance(summary, dict):
        raise RecordError(f"{where}: not a mapping of metrics")
    for key, value in sorted(summary.items()):
        bare = key.partition(",")[0]
        if "," not in key or bare.endswith("_stderr") or bare == "bypass" or value == "N/A":
            continue
        found = number(value)
        if found is None:
            raise RecordError(f"{where}.{key}: {value!r} is not a number")
        yield key, found


def _scores(task: str, name: str, bare: str, filtered: str, rows: Sequence[Row], summary: float) -> list[ItemScore]:
    """A score per item; none where an item's value is no number, or the summary is not the mean of the items'."""
    mine = [row for row in rows if row.get("filter", "none") == (filtered or "none") and bare in row]
    values = [number(row[bare]) for row in mine]
    found = [value for value in values if value is not None]
    rate = bare.startswith(("acc", "exact_match"))
    if not found or len(found) < len(values) or (not rate and abs(sum(found) / len(found) - summary) > 1e-6):
        return []
    return [
        ItemScore(
            suite=f"{TOOL}/{task}",
            item=f"{task}/{row['doc_id']}",
            metric=name,
            value=value,
            unscored=None,
            prompt=clean(_prompt(row)),
            answer=clean(_answer(row)),
            finish="unknown",
            category=task,
        )
        for row, value in zip(mine, found, strict=True)
    ]


def _prompt(row: Row) -> str:
    arguments = row.get("arguments")
    first = arguments.get("gen_args_0") if isinstance(arguments, dict) else None
    return str(first.get("arg_0", "")) if isinstance(first, dict) else ""


def _answer(row: Row) -> str:
    answers = row.get("filtered_resps")
    return answers[0] if isinstance(answers, list) and answers and isinstance(answers[0], str) else ""


def _settings(path: Path, value: Row, task: str, rows: Sequence[Row] | None) -> dict[str, Any]:
    """What must be equal for two runs of a task to be compared, the model aside."""
    config = dict(mapping(f"{path}: configs", mapping(str(path), value, "configs"), task))
    for own in ("metadata", "dataset_kwargs"):  # hold the model's name, and where files lay on that machine
        config.pop(own, None)
    asked = None if rows is None else sorted((row["doc_id"], jsonio.digest(_asked(row))) for row in rows)
    return {
        "task": task,
        "version": mapping(str(path), value, "versions").get(task),
        "shots": mapping(str(path), value, "n-shot").get(task),
        "items": mapping(str(path), value, "n-samples").get(task),
        "config": config,
        "chat_template": value.get("chat_template_sha"),
        "system": value.get("system_instruction_sha"),
        "asked": asked,
    }


def _asked(row: Row) -> dict[str, Any]:
    return {"doc": row.get("doc"), "arguments": row.get("arguments"), "target": row.get("target")}


def _source(value: Row, files: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "tool": TOOL,
        "version": str(value.get("lm_eval_version", "of an unknown version")),
        "model": str(value.get("model_name", "")),
        "template": value.get("chat_template_sha"),
        "files": files,
    }


def _created(path: Path, value: Row) -> str:
    date = number(value.get("date"))
    if date is None:
        raise RecordError(f"{path}: key 'date' is not there: when was this measured?")
    try:
        return datetime.fromtimestamp(date, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        raise RecordError(f"{path}: date {date} is no time") from None
