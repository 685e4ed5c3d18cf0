"""Making cells: one set of inputs opened and calibrated once, every method on it, each result written as it comes."""

import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignmerge import jsonio
from alignmerge.auditor.record import AuditRecord
from alignmerge.merger.checkpoint import open_checkpoint
from alignmerge.merger.methods import get
from alignmerge.merger.recipe import Recipe, resolve
from alignmerge.merger.record import versions
from alignmerge.merger.stream import merge_in_memory
from alignmerge.pipeline.bench import Bench
from alignmerge.pipeline.workbench import Made, Workbench
from alignmerge.products import taken
from alignmerge.progress import say
from benchmarks.study import cells, checkpoints, records
from benchmarks.study.cells import Cell, Kind
from benchmarks.study.design import ANCHOR, REFERENCE, ZOO, placed
from benchmarks.study.drifts import Drifts
from benchmarks.study.external import StudyPlan
from benchmarks.study.job import Job, computed_on, plan_json
from benchmarks.study.memory import Growth

if TYPE_CHECKING:
    import torch

    from alignmerge.auditor.engines.transformers_engine import TransformersEngine

ROOT = Path(__file__).resolve().parents[2]
MACHINE = "not stated"


@dataclass
class Study:
    """Measures checkpoints under one plan and keeps each as a cell in `results`."""

    plan: StudyPlan
    zoo: Path
    results: Path = cells.RESULTS
    store: Path | None = None
    machine: str = MACHINE
    again: bool = False
    anchor_model: str = ANCHOR
    unaligned_model: str = REFERENCE
    records: Path | None = None  # where audit records are kept as runs; see records.py
    _anchor: AuditRecord | None = None
    _drifts: Drifts | None = None
    _seconds: list[float] = field(default_factory=list)

    def missing(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs that have no cell, or one of other work; all of them with `again`."""
        out = []
        for job in jobs:
            path = cells.path_of(self.results, job.kind, job.setting, job.seed, job.set, job.label)
            if self.again or not path.exists() or cells.read(path).key != job.key(self.plan):
                out.append(job)
        return out

    def run(self, jobs: Sequence[Job], norms: Mapping[str, str] | None = None) -> None:
        """Make every missing cell, inputs by inputs. `norms`: label to the label whose distance it is scaled to."""
        left = self.missing(jobs)
        say(f"{len(jobs)} cells, {len(jobs) - len(left)} made before, {len(left)} to make")
        left = [job for job in left if not self._known(job, norms or {})]
        for inputs in dict.fromkeys(job.inputs for job in left):
            group = [job for job in left if job.inputs == inputs]
            with Inputs(placed(group[0].recipe, self.zoo), self.plan, self.store) as bench:
                checkpoints.check(bench.digests(self.zoo), self.results, group[0].setting, group[0].seed)
                bench.use(self.anchor())
                asked = Asked(self, bench)
                for job in group:
                    started = time.monotonic()
                    made = asked.scaled(job, (norms or {})[job.label]) if job.label in (norms or {}) else job
                    self._done(asked.cell(job, made.recipe), started)
                    left.remove(job)
                    say(f"{len(left)} cells left, about {self.eta(len(left))}")

    def _known(self, job: Job, norms: Mapping[str, str]) -> bool:
        """Whether a cell of the same work was there under another name, as of a family's point that is the method."""
        if self.again or self.records or job.label in norms:
            return False
        same = cells.same_work(self.results, job.key(self.plan), job.recipe.to_json())
        if same is not None:
            note = f"measured as {same.kind} {same.method}: the recipe is the same"
            where = {"kind": job.kind, "setting": job.setting, "seed": job.seed, "set": job.set, "method": job.label}
            cells.write(replace(same, **where, notes=[*same.notes, note]), self.results)
            say(f"{job.label}: {note}")
        return same is not None

    def eta(self, count: int) -> str:
        """How long `count` more cells take if they take what the last ones did."""
        recent = self._seconds[-12:]
        minutes = round(count * sum(recent) / max(1, len(recent)) / 60)
        return f"{minutes // 60} h {minutes % 60:02d} min"

    def _done(self, cell: Cell, started: float) -> None:
        cells.write(cell, self.results)
        self._seconds.append(time.monotonic() - started)
        rates = "  ".join(f"{name} {one.rate:.3f}" for name, one in cell.suites.items() if one.rate is not None)
        say(f"{cell.setting} seed {cell.seed} {cell.set} {cell.method}: {rates}")

    def anchor(self) -> AuditRecord:
        """The anchor's audit with AQI's validity gate decided; the same in every setting."""
        if self._anchor is None:
            with Bench(self.plan, self.store) as bench:
                checkpoint = open_checkpoint(self.anchor_model)
                self._anchor = bench.anchor(
                    bench.engine(checkpoint), checkpoint, "anchor", open_checkpoint(self.unaligned_model)
                )
        return self._anchor

    def drifts(self) -> Drifts:
        """What measures drift from the anchor; made on first use."""
        if self._drifts is None:
            with Bench(self.plan, self.store) as bench:
                self._drifts = Drifts(bench, self.anchor_model)
        return self._drifts

    def anchors_cell(self, setting: str) -> None:
        """Keep the anchor's audit as a cell of the setting."""
        key = jsonio.digest([self.anchor_model, plan_json(self.plan)])
        path = cells.path_of(self.results, "anchor", setting, 0, "", "anchor")
        if not self.again and path.exists() and cells.read(path).key == key:
            return
        started = time.monotonic()
        found = self.anchor()
        self._done(self.audited(found, key, "anchor", setting, 0, "anchor", {"anchor": found.checkpoint}), started)

    def expert(self, setting: str, seed: int, name: str, model: str) -> None:
        """Measure one expert and keep it as a cell; `model` is portable."""
        label, key = f"expert-{name}", jsonio.digest([model, plan_json(self.plan)])
        path = cells.path_of(self.results, "expert", setting, seed, "", label)
        if not self.again and path.exists() and cells.read(path).key == key:
            return
        started = time.monotonic()
        with Bench(self.plan, self.store) as bench:
            bench.use(self.anchor())
            checkpoint = open_checkpoint(model.replace(f"{ZOO}/", f"{self.zoo}/"))
            engine = bench.engine(checkpoint)
            found = bench.audit(engine, checkpoint.digest, label)
        drift = self.drifts().of(engine.model, {name: checkpoint.read(name) for name in checkpoint.tensors})
        inputs = {"anchor": self.anchor().checkpoint, "expert": checkpoint.digest}
        cell = replace(self.audited(found, key, "expert", setting, seed, label, inputs), drift=drift)
        records.keep(self.records, cell, found, self.anchor())
        self._done(cell, started)

    def audited(
        self, found: AuditRecord, key: str, kind: Kind, setting: str, seed: int, label: str, inputs: dict[str, str]
    ) -> Cell:
        """A cell from an audit; what only merges have is empty."""
        return Cell(
            key=key,
            kind=kind,
            setting=setting,
            seed=seed,
            set="",
            method=label,
            limit=self.plan.limit,
            recipe=None,
            inputs=inputs,
            digest=found.checkpoint,
            suites=cells.outcomes(found, self.plan),
            aqi=cells.set_metrics(found),
            drift={},
            cost={},
            distance=None,
            unscored=dict(cells.NOT_MEASURED),
            account={},
            made=self.made(),
            notes=[str(cells.portable(note, str(self.zoo))) for note in found.notes],
        )

    def made(self) -> dict[str, Any]:
        """Where and with what a cell is measured."""
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
        return {
            "commit": commit.stdout.strip() or "unknown",
            "machine": self.machine,
            "device": computed_on(),
            "products": taken(self.plan.dtype, computed_on()) or "the processor's own",
            "processors": len(os.sched_getaffinity(0)),
            "platform": platform.machine(),
            "software": dict(versions()),
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        }


class Inputs(Workbench):
    """A workbench whose merges are measured against an audit of the anchor that was made before."""

    def use(self, anchor: AuditRecord) -> None:
        """Take `anchor` as what AQI is measured with."""
        self._bench.use(anchor)

    def digests(self, zoo: Path) -> dict[str, str]:
        """The digests of the anchor and of the experts, by what recipes say."""
        experts = {str(cells.portable(one.name, str(zoo))): one.digest for one in self.inputs.experts}
        return {"anchor": self.inputs.anchor.digest, **experts}

    def ask(self, engine: "TransformersEngine", digest: str, label: str) -> AuditRecord:
        """The audit of a model that is already loaded."""
        return self._bench.audit(engine, digest, label)


class Asked:
    """Merges of one workbench, measured."""

    def __init__(self, study: Study, bench: Inputs) -> None:
        self._study, self._bench = study, bench
        self._gathering: list[tuple[Any, float]] = []

    def materials(self, recipe: Recipe) -> tuple[Any, float]:
        """What the method is handed, and the seconds that gathering just that took when it was first asked for.

        No method of the study gathers by a knob that is tuned, so the default knobs stand for all of them: a Fisher
        per evaluation would fill the memory.
        """
        started = time.monotonic()
        found = self._bench.materials(resolve(replace(recipe, parameters={})))
        seconds = next((took for known, took in self._gathering if known is found), None)
        if seconds is None:
            seconds = time.monotonic() - started
            self._gathering.append((found, seconds))
        return found, seconds

    def merged(self, recipe: Recipe) -> tuple[Made, dict[str, float | str]]:
        """The merge of a placed recipe and what it cost."""
        recipe = resolve(recipe)
        materials, gathering = self.materials(recipe)
        account: dict[str, Any] = {}
        started = time.monotonic()
        with Growth() as growth:
            tensors = merge_in_memory(recipe, materials=materials, account=account)
        cost: dict[str, float | str] = {"merge_seconds": round(time.monotonic() - started, 2)}
        if "calibration" in get(recipe.method).needs:
            cost["calibration_seconds"] = round(gathering, 2)
        cost["peak_growth_mb"] = growth.reason if growth.megabytes is None else growth.megabytes
        return Made(recipe, tensors, account), cost

    def outcomes(self, made: Made, label: str) -> dict[str, cells.Outcome]:
        """Every suite's outcome of a merge."""
        return cells.outcomes(self._bench.audit(made, label), self._study.plan)

    def scaled(self, job: Job, other: str) -> Job:
        """`job` with its scale set so that the merge lies as far from the anchor as the cell `other` does."""
        target = cells.read(cells.path_of(self._study.results, "merge", job.setting, job.seed, job.set, other)).distance
        made, _ = self.merged(placed(job.recipe, self._study.zoo))
        assert target is not None
        scale = round(float(job.recipe.parameters["scale"]) * target / self.distance(made), 4)
        return replace(job, recipe=resolve(replace(job.recipe, parameters={**job.recipe.parameters, "scale": scale})))

    def cell(self, job: Job, recipe: Recipe) -> Cell:
        """The job's cell, measured on `recipe` (the job's own, or that with its scale set)."""
        study = self._study
        made, cost = self.merged(placed(recipe, study.zoo))
        started = time.monotonic()
        engine = self._bench.engine(made.tensors)
        found = self._bench.ask(engine, made.digest, job.label)
        cost["audit_seconds"] = round(time.monotonic() - started, 2)
        inputs = self._bench.digests(study.zoo)
        plain = study.audited(found, job.key(study.plan), job.kind, job.setting, job.seed, job.label, inputs)
        account = cells.portable(made.account, str(study.zoo))
        cell = replace(
            plain,
            set=job.set,
            recipe=recipe.to_json(),
            digest=made.digest,
            drift=study.drifts().of(engine.model, made.tensors),
            cost=cost,
            distance=self.distance(made),
            account=cells.short(account),
        )
        records.keep(study.records, cell, found, study.anchor(), account)
        return cell

    def distance(self, made: Made) -> float:
        """Euclidean distance of the merge from the anchor over all floating-point tensors."""
        anchor = self._bench.inputs.anchor
        total = 0.0
        for name, value in made.tensors.items():
            if value.is_floating_point():
                total += float(_square(value, anchor.read(name)))
        return total**0.5


def _square(value: "torch.Tensor", start: "torch.Tensor") -> "torch.Tensor":
    return (value.float() - start.float()).square().sum(dtype=value.float().double().dtype)
