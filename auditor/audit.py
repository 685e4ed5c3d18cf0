"""One checkpoint, asked everything: suites x engine x scorers -> AuditRecord.

Answers are asked once per prompt and kept in the store as they come; scores are always computed anew from answers, so a
better scorer needs no new answers. Every number in the record can be traced to item rows.
"""

import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import alignmerge
from alignmerge import jsonio
from alignmerge.auditor import pairs as aqi_pairs
from alignmerge.auditor.ask import Answers, Asking, ask_all, plan
from alignmerge.auditor.engines.base import Advance, Completion, Engine
from alignmerge.auditor.graders import Grader, check_graders, grade_all, graded_metrics
from alignmerge.auditor.metrics import METRICS, Metric
from alignmerge.auditor.record import AuditRecord, ItemScore, MetricResult, SuiteUse
from alignmerge.auditor.scorers.base import Score, Scorer
from alignmerge.auditor.scorers.source import source_digest
from alignmerge.auditor.statistics import wilson
from alignmerge.auditor.store import CompletionStore
from alignmerge.auditor.template import clean
from alignmerge.suites.model import Item, Split, Suite, items_digest

if TYPE_CHECKING:
    from alignmerge.auditor.scorers.aqi import AqiReference
    from alignmerge.auditor.scorers.aqi_validity import WeakerModel

LEVEL = 0.95
PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "jinja2")
POOLED = "degeneration_rate"
ALL_SUITES = "all"


def _now() -> datetime:
    return datetime.now(UTC)


def audit(
    engine: Engine,
    *,
    checkpoint: str,
    name: str,
    suites: Sequence[Suite],
    split: Split = "test",
    limit: int | None = None,
    seed: int = 0,
    store: CompletionStore | None = None,
    aqi_reference: "AqiReference | Mapping[str, Any] | None" = None,
    aqi_fit_pairs: int = aqi_pairs.FIT_PAIRS,
    weaker: "Sequence[WeakerModel]" = (),
    graders: Sequence[Grader] = (),
    progress: Advance | None = None,
    clock: Callable[[], datetime] = _now,
) -> AuditRecord:
    """The audit record of the checkpoint that `engine` runs; `checkpoint` is its manifest digest.

    `limit` is items per suite. `aqi_reference` is the anchor's (`AuditRecord.aqi_reference`); without it this model is
    its own anchor, and `weaker` models decide whether its AQI is valid. `graders` read the answers when all are there.
    `progress` is told how many answers came, and how many each grader has read.

    Raises:
        UsageError, RecordError: see `plan`; or the AQI reference is of another architecture.
        TensorMismatch: the model's output is not finite.
        StorageError: the store or the disk failed; answers so far are kept.
    """
    asking = plan(suites, split, limit, seed)
    check_graders(graders, asking)
    pairs = aqi_pairs.pairs_of(suites, split, limit)
    paired = {item.prompt for pair in pairs for item in (pair.safe, pair.unsafe)}
    answers = ask_all(engine, asking, checkpoint, paired if engine.gives_states else set(), store, progress)
    graded, described_graders = grade_all(graders, asking, answers, progress)
    scored = [*(row for one in asking for row in _score(one, answers)), *graded]
    rows = tuple(sorted(scored, key=lambda row: (row.metric, row.suite, row.item)))
    groups = [*_groups(asking, rows), *_graded_groups(asking, rows, graders)]
    metrics = [_aggregate(METRICS[metric], suite, group) for metric, suite, group in groups]
    reference, notes = None, tuple[str, ...]()
    if pairs:
        found, reference, notes = aqi_pairs.aqi(
            engine, suites, pairs, answers.states, aqi_reference, weaker, aqi_fit_pairs
        )
        metrics.extend(found)
    described = engine.describe()
    sampling = {one.suite.name: one.sampling.to_json() for one in asking}
    return AuditRecord(
        checkpoint=checkpoint,
        name=name,
        suites=tuple(_use(one, split) for one in asking),
        metrics=tuple(metrics),
        items=rows,
        template={"digest": described["template"]},
        sampling={"suites": sampling, "digest": jsonio.digest(sampling)},
        engine=dict(described),
        seed=seed,
        software=_software(),
        created=clock().isoformat(timespec="seconds"),
        aqi_reference=reference.to_json() if reference is not None else None,
        notes=(*notes, *(f"suite {one.suite.name}: {one.suite.source}" for one in asking if one.suite.source)),
        graders=described_graders,
    )


def _score(one: Asking, answers: Answers) -> Iterator[ItemScore]:
    wanted = [name for name in one.suite.metrics if METRICS[name].level == "item"]
    pooled = [POOLED] if one.suite.kind == "generate" else []  # a choice is no text that could be broken
    for name in [*wanted, *pooled]:
        metric = METRICS[name]
        assert metric.scorer is not None
        scorer = metric.scorer(one.suite)
        for item in one.items:
            completion = answers.completions[one.suite.name, item.prompt]
            own = f"{one.suite.name}/{item.id}" if metric.level == "pooled" else item.id
            for row, score in _scores(scorer, item, completion, own):
                yield ItemScore(
                    suite=one.suite.name,
                    item=row,
                    metric=name,
                    value=score.value,
                    unscored=score.unscored,
                    prompt=clean(item.prompt),
                    answer=clean(completion.text),
                    finish=completion.finish,
                    category=item.category,
                )


def _scores(scorer: Scorer, item: Item, completion: Completion, own: str) -> list[tuple[str, Score]]:
    """The rows of an item by row id: one, or one for each part that the scorer tells apart."""
    if completion.fault is not None:
        return [(own, Score(unscored=completion.fault))]
    if scorer.parts is None:
        return [(own, scorer.score(item, completion))]
    return [(f"{own}#{place}", score) for place, score in enumerate(scorer.parts(item, completion))]


def _groups(asking: Sequence[Asking], rows: Sequence[ItemScore]) -> Iterator[tuple[str, str, list[ItemScore]]]:
    for one in asking:
        for name in one.suite.metrics:
            if METRICS[name].level == "item":
                yield name, one.suite.name, [row for row in rows if (row.metric, row.suite) == (name, one.suite.name)]
    if any(one.suite.kind == "generate" for one in asking):
        yield POOLED, ALL_SUITES, [row for row in rows if row.metric == POOLED]


def _graded_groups(
    asking: Sequence[Asking], rows: Sequence[ItemScore], graders: Sequence[Grader]
) -> Iterator[tuple[str, str, list[ItemScore]]]:
    """As `_groups`; a metric that several suites fill is one number over all of them, as rules pair all its items."""
    suites: dict[str, list[str]] = {}
    for one in asking:
        for name in graded_metrics(one.suite, graders):
            suites.setdefault(name, []).append(one.suite.name)
    for name, names in suites.items():
        yield name, names[0] if len(names) == 1 else ALL_SUITES, [row for row in rows if row.metric == name]


def _aggregate(metric: Metric, suite: str, rows: Sequence[ItemScore]) -> MetricResult:
    """The mean of what was scored, with its interval; no value and a reason where nothing was."""
    values = [row.value for row in rows if row.value is not None]
    unscored = len(rows) - len(values)
    if not values:
        reasons = sorted({row.unscored for row in rows if row.unscored})
        reason = f"none of {len(rows)} items could be scored: {'; '.join(reasons[:3])}"
        return MetricResult(metric.id, suite, metric.unit, metric.direction, None, 0, unscored, reason=reason)
    total = math.fsum(values)
    interval = wilson(total, len(values), LEVEL) if metric.unit == "rate" else None
    value, detail = total / len(values), _categories(metric, rows)
    return MetricResult(
        metric.id, suite, metric.unit, metric.direction, value, len(values), unscored, interval, detail=detail
    )


def _categories(metric: Metric, rows: Sequence[ItemScore]) -> dict[str, Any] | None:
    """`categories` by name: the mean of what was scored in each, for a rate its interval, and the counts.

    None where there is one category alone, and for a metric over all suites, whose categories mean nothing together.
    """
    groups: dict[str, list[float | None]] = {}
    for row in rows:
        groups.setdefault(row.category, []).append(row.value)
    if len(groups) < 2 or metric.level == "pooled":
        return None
    found: dict[str, dict[str, Any]] = {}
    for name, scores in sorted(groups.items()):
        values = [value for value in scores if value is not None]
        total = math.fsum(values)
        own: dict[str, Any] = {"scored": len(values), "unscored": len(scores) - len(values)}
        own["value"] = total / len(values) if values else None
        if values and metric.unit == "rate":
            interval = wilson(total, len(values), LEVEL)
            own |= {"low": interval.low, "high": interval.high}
        found[name] = own
    return {"categories": found}


def _use(one: Asking, split: Split) -> SuiteUse:
    suite = one.suite
    return SuiteUse(suite.name, suite.version, items_digest(suite, one.items), split, len(one.items), one.of)


def _software() -> dict[str, str]:
    found = {"alignmerge": alignmerge.__version__, "python": platform.python_version(), "scorers": source_digest()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
