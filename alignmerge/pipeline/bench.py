"""Checkpoints audited one after another on the same items, each loaded once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignmerge.auditor.audit import audit
from alignmerge.auditor.engines.base import Engine
from alignmerge.auditor.engines.served import Served
from alignmerge.auditor.engines.transformers_engine import TransformersEngine
from alignmerge.auditor.graders import Grader
from alignmerge.auditor.pairs import pair_states, paired_suites
from alignmerge.auditor.record import AuditRecord
from alignmerge.auditor.scorers.aqi_validity import WeakerModel
from alignmerge.auditor.store import CompletionStore
from alignmerge.cache import cache_dir
from alignmerge.errors import TensorMismatch
from alignmerge.models import build_model, load_model, load_tokenizer
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.pipeline.grading import graders_of, reads
from alignmerge.pipeline.resuming import ServedAnswers
from alignmerge.progress import track

if TYPE_CHECKING:
    import torch

    from alignmerge.auditor.endpoint import Endpoint
    from alignmerge.auditor.judge.judging import Judging
    from alignmerge.merger.checkpoint import Checkpoint


class Bench:
    """Audits checkpoints under one plan. The first, the anchor, fixes what AQI is measured with.

    store: the file of answers, by default the cache's; what a server of unknown content says is kept in one opened for
    that audit alone (pipeline/resuming.py), which its owner closes.
    """

    def __init__(
        self, plan: AuditPlan, store: Path | CompletionStore | None = None, judging: "Judging | None" = None
    ) -> None:
        self.plan, self._judging = plan, judging
        self._anchor: AuditRecord | None = None
        self._graders = graders_of(plan)
        self._own = None
        if not isinstance(store, CompletionStore) and (store is not None or plan.engine != "openai"):
            self._own = CompletionStore(store or cache_dir() / "answers.sqlite")
        self._store = store if isinstance(store, CompletionStore) else self._own
        self._reference: Any = None

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        if self._own is not None:
            self._own.close()

    def engine(self, checkpoint: "Checkpoint") -> TransformersEngine:
        """The checkpoint loaded, ready to answer."""
        model, tokenizer = load_model(checkpoint, self.plan.dtype)
        return TransformersEngine(model, tokenizer, batch_size=self.plan.batch_size)

    def audit_served(self, checkpoint: "Checkpoint | None", label: str | None) -> AuditRecord:
        """The audit through the plan's server; without a checkpoint, of whatever that server serves."""
        from alignmerge.pipeline.engines import served

        with served(self.plan, checkpoint) as engine:
            digest = checkpoint.digest if checkpoint is not None else engine.identity
            shown = label or f"{engine.endpoint.model} at {engine.endpoint.base_url}"
            return self._audit(engine, digest, shown, (), engine.endpoint)

    def anchor(
        self, engine: Engine, checkpoint: "Checkpoint", label: str, base: "Checkpoint | None" = None
    ) -> AuditRecord:
        """The anchor's audit; with its unaligned `base`, AQI's validity gate is decided."""
        weaker = self._weaker(checkpoint, base) if base is not None else ()
        found = self._audit(engine, checkpoint.digest, label, weaker)
        self._reference, self._anchor = found.aqi_reference, found
        return found

    def use(self, anchor: AuditRecord) -> None:
        """Take an earlier audit of the anchor as the one that later audits are measured with."""
        self._reference, self._anchor = anchor.aqi_reference, anchor

    def audit(self, engine: Engine, digest: str, label: str) -> AuditRecord:
        """The audit of the checkpoint with manifest digest `digest`, AQI measured with the anchor's reference."""
        return self._audit(engine, digest, label, ())

    def _audit(
        self,
        engine: Engine,
        digest: str,
        label: str,
        weaker: Sequence[WeakerModel],
        answers: "Endpoint | None" = None,
    ) -> AuditRecord:
        plan = self.plan
        graders = (*self._graders, *self._judges(digest, answers))
        with track(f"audit {label}", plan.items() + reads(plan, graders)) as bar:
            found = audit(
                engine,
                checkpoint=digest,
                name=label,
                suites=plan.resolved(),
                split=plan.split,
                limit=plan.limit,
                seed=plan.seed,
                store=self._store,
                aqi_reference=self._reference,
                weaker=weaker,
                graders=graders,
                progress=bar.advance,
            )
        told = engine.notes if isinstance(engine, Served) else ()
        kept = self._store.notes if isinstance(self._store, ServedAnswers) else ()
        notes = (*found.notes, *told, *kept, *(() if plan.note is None else (plan.note,)))
        return replace(found, notes=notes)

    def _judges(self, digest: str, answers: "Endpoint | None") -> tuple[Grader, ...]:
        """The judge before this candidate, its exam sat; with the anchor's audit it also compares."""
        if self._judging is None:
            return ()
        from alignmerge.auditor.judge.grading import graders, sitting

        suites = self.plan.resolved()
        first = sitting(self._judging, digest, suites, self._anchor, answers)
        with track("exam of the judge", self._judging.replies(first.rubrics, first.pairwise)) as bar:
            first.exam(bar.advance)
        return graders(first, suites, self._anchor)

    def _weaker(self, anchor: "Checkpoint", base: "Checkpoint") -> tuple[WeakerModel, ...]:
        """States of the model half-way to the base, and of the base, on the anchor's pairs.

        Raises:
            TensorMismatch: the base has not the anchor's tensors.
        """
        suites = self.plan.resolved()
        if paired_suites(suites) is None:
            return ()
        for name, one in anchor.tensors.items():
            below = base.tensors.get(name)
            if below is None or below.shape != one.shape:
                here = "missing here" if below is None else f"{below.shape} here"
                raise TensorMismatch(f"{base.name}: no base of {anchor.name}: {name!a}, {one.shape} there, is {here}")
        out = []
        for name, share in (("half-way to the base", 0.5), ("the base", 1.0)):
            tensors = {key: _between(anchor.read(key), base.read(key), share) for key in anchor.tensors}
            model = build_model(anchor.config, tensors, self.plan.dtype)
            engine = TransformersEngine(model, load_tokenizer(anchor), batch_size=self.plan.batch_size)
            with track(f"AQI validity: {name}", 1) as bar:
                out.append(WeakerModel(name, pair_states(engine, suites, self.plan.split, self.plan.limit)))
                bar.advance()
            del model, engine  # else two models are held while the next one is loaded
        return tuple(out)


def _between(anchor: "torch.Tensor", base: "torch.Tensor", share: float) -> "torch.Tensor":
    return anchor.lerp(base, share) if anchor.is_floating_point() else anchor  # integers have nothing half-way
