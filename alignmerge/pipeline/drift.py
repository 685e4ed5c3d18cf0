"""How far a merge has drifted from its anchor, for every method alike; measured beside the audit, kept beside it.

Finite drift is the mean KL(anchor || merge) per token on the anchor's own answers to held-out alignment items. They are
the last ones of the validation split, which the solve's budget and a search, both reading from its front, reach last.
Linear drift is what of the move lies in the alignment subspace at the anchor, absolute and relative to the move, in the
identity chart; it comes from matched pairs of the calibration split. No test item is used.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignmerge.errors import RecipeError, TensorMismatch
from alignmerge.merger.geometry.rows import ALIGNMENT, Row
from alignmerge.pipeline.calibration import ALIGNMENT_SUITES, own_answers, pairs_of, take
from alignmerge.progress import track
from alignmerge.reports.drift import SCHEMA
from alignmerge.suites.model import Item, select
from alignmerge.suites.registry import get_suite

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear

    from alignmerge.auditor.engines.transformers_engine import TransformersEngine
    from alignmerge.merger.checkpoint import Checkpoint
    from alignmerge.merger.geometry.drift import AnswerLogs
    from alignmerge.merger.geometry.subspace import AlignmentSubspace

ITEMS = 30  # of each alignment suite
PAIRS = 12
TOKENS = 8  # whether to refuse is decided in the first ones
FACTOR_BYTES = 4 << 30  # of layer inputs and output gradients that are kept
CHUNK = 16  # rows that are passed at once where all factors fit


@dataclass(frozen=True)
class Drift:
    """One merge's drift: each kind's numbers as the report and `--json` show them, or {"unscored": why}."""

    checkpoint: str
    anchor: str
    finite: Mapping[str, Any]
    linear: Mapping[str, Any]

    @property
    def value(self) -> float | None:
        """The finite drift, in nats per token; None where it was not measured."""
        found: float | None = self.finite.get("value")
        return found

    def to_json(self) -> dict[str, Any]:
        """The record kept in the run's folder."""
        named = {"schema": SCHEMA, "checkpoint": self.checkpoint, "anchor": self.anchor}
        return {**named, "finite_drift": dict(self.finite), "linear_drift": dict(self.linear)}


def held_out(limit: int | None = None) -> list[Item]:
    """The last items of each alignment suite's validation split, ITEMS or `limit`, matched pairs side by side."""
    count = ITEMS if limit is None else min(limit, ITEMS)
    columns = [select(get_suite(name), "validation")[-count:] for name in ALIGNMENT_SUITES]
    return [item for row in zip(*columns, strict=True) for item in row]


class DriftGauge:
    """Measures merges against one anchor. `anchor` comes first; the anchor's model stays in memory afterwards.

    Beside it, the anchor's logits at some 500 answer tokens and, up to 4 GiB, the layer inputs and output gradients of
    its matched pairs are kept. Per merge it costs one forward pass over the held-out answers, and about as much again
    for the linear drift; where what the pairs need is larger than 4 GiB, it is made again for every merge, some rows at
    a time, by a forward and a backward pass. `limit` cuts items and pairs.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._anchor: Checkpoint | None = None
        self._rows: list[Row] = []
        self._logs: AnswerLogs | str = "the anchor was not asked"
        self._subspace: AlignmentSubspace | str = "the anchor was not asked"

    def anchor(self, engine: "TransformersEngine", checkpoint: "Checkpoint") -> None:
        """Keep what merges are measured against."""
        from alignmerge.merger.geometry.drift import answer_logs

        self._anchor = checkpoint
        self._rows = own_answers(engine, held_out(self._limit), ALIGNMENT, TOKENS)
        if len(self._rows) < 2:
            self._logs = f"the anchor answered {len(self._rows)} of the held-out items; an interval needs two"
        else:
            self._logs = answer_logs(engine.model, self._rows)
        try:
            with track("alignment subspace", 1) as bar:
                self._subspace = anchor_subspace(engine, min(PAIRS, self._limit or PAIRS))
                bar.advance()
        except RecipeError as error:
            self._subspace = str(error)

    def measure(self, engine: "TransformersEngine", digest: str) -> Drift:
        """The drift of the loaded merge with manifest `digest`."""
        assert self._anchor is not None
        return Drift(
            digest, self._anchor.digest, _scored(lambda: self._finite(engine)), _scored(lambda: self._linear(engine))
        )

    def _finite(self, engine: "TransformersEngine") -> dict[str, Any]:
        from alignmerge.merger.geometry.drift import finite_drift, summary

        if isinstance(self._logs, str):
            return {"unscored": self._logs}
        drifts = finite_drift(engine.model, self._rows, self._logs)
        if not bool(drifts.isfinite().all()):
            return {"unscored": "infinite: an answer that the anchor may give has no probability at all in the merge"}
        found = summary(drifts)
        interval = {"value": found.mean, "low": found.low, "high": found.high}
        return {**interval, "largest": found.largest, "rows": found.rows, "tokens": TOKENS}

    def _linear(self, engine: "TransformersEngine") -> dict[str, Any]:
        if isinstance(self._subspace, str):
            return {"unscored": self._subspace}
        assert self._anchor is not None
        found = self._subspace.drift(_Move(engine.model, self._anchor))
        margins = len(self._subspace.signs)
        numbers = {"absolute": found.absolute, "relative": found.relative}
        return {**numbers, "rank": self._subspace.rank, "margins": margins, "chart": self._subspace.chart.name}


def _scored(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `measure` returns; where the merge's output or weights are no numbers, that as the reason for none."""
    try:
        return measure()
    except TensorMismatch as error:
        return {"unscored": str(error)}


def anchor_subspace(engine: "TransformersEngine", count: int = PAIRS) -> "AlignmentSubspace":
    """The alignment subspace of the anchor on matched calibration pairs.

    Raises:
        RecipeError: no pair that the anchor answers differently, or no gradient.
    """
    from alignmerge.merger.geometry.chart import Identity
    from alignmerge.merger.geometry.gradients import merged_linears
    from alignmerge.merger.geometry.subspace import alignment_subspace, margins

    suites = [get_suite(name) for name in ALIGNMENT_SUITES]
    items = take(suites, "calibration", count)
    rows = own_answers(engine, items, ALIGNMENT, TOKENS)
    pairs = pairs_of(items, rows, engine, suites[0])
    given = margins([harmful for harmful, _ in pairs], [harmless for _, harmless in pairs])
    chunk = _rows_at_once(merged_linears(engine.model).values(), given.rows)
    return alignment_subspace(engine.model, given, Identity(), pad=0, memory=FACTOR_BYTES, chunk=chunk)


def _rows_at_once(layers: "Iterable[Linear]", rows: Sequence[Row]) -> int:
    """CHUNK where the factors of all rows fit into FACTOR_BYTES and are kept; else as many as fit, at least one.

    What must fit then is one chunk's factors, and two chunks' gradients of the largest layer in float32.
    """
    layers = list(layers)
    longest = max(len(row.prompt) + len(row.answer) for row in rows)
    factors = longest * sum((one.in_features + one.out_features) * one.weight.element_size() for one in layers)
    if factors * len(rows) <= FACTOR_BYTES:
        return CHUNK
    gradients = 2 * 4 * max(one.in_features * one.out_features for one in layers)
    return min(CHUNK, max(1, FACTOR_BYTES // max(factors, gradients)))


class _Move(Mapping[str, "Tensor"]):
    """A loaded merge minus the anchor, layer by layer as it is asked for, float32; never the whole at once."""

    def __init__(self, model: Any, anchor: "Checkpoint") -> None:
        from alignmerge.merger.geometry.gradients import merged_linears

        self._layers, self._anchor = merged_linears(model), anchor

    def __getitem__(self, name: str) -> "Tensor":
        weight = self._layers[name].weight.detach()
        return weight.float() - self._anchor.read(name).to(weight.device, weight.dtype).float()

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)
