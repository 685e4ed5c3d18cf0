"""One set of inputs, several methods, the same questions: merge, audit, decide, publish or reject, report.

A merge is staged, audited from the staged bytes, and only then published; a rejected one leaves its records and no
checkpoint. `merge` is this with one method, and audits of the experts only where its policy compares with them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignmerge import __version__, jsonio
from alignmerge.auditor.record import AuditRecord
from alignmerge.errors import AlignMergeError, RecordError, StorageError, UsageError
from alignmerge.merger.ingredients import Ingredients, open_ingredients
from alignmerge.merger.methods import get
from alignmerge.merger.recipe import Recipe, resolve
from alignmerge.merger.record import MergeRecord
from alignmerge.merger.staging import check_apart, check_target
from alignmerge.merger.stream import Staged, stage
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.pipeline.bench import Bench
from alignmerge.pipeline.calibration import Collector
from alignmerge.pipeline.card import CARD, card
from alignmerge.pipeline.drift import Drift, DriftGauge
from alignmerge.pipeline.lineage import lineage_of
from alignmerge.pipeline.runfolder import LABEL, RunFolder, unique_labels
from alignmerge.policies.decide import decide
from alignmerge.policies.evidence import check_comparable
from alignmerge.policies.references import check_root, needs_experts
from alignmerge.policies.schema import Policy, policy_json
from alignmerge.policies.verdict import Verdict
from alignmerge.progress import say
from alignmerge.suites.registry import get_suite

if TYPE_CHECKING:
    from alignmerge.auditor.engines.transformers_engine import TransformersEngine


@dataclass(frozen=True)
class Contestant:
    """One method to run on a recipe's inputs, under `label`; `parameters` are its knobs (defaults for the rest)."""

    label: str
    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def recipe(self, recipe: Recipe) -> Recipe:
        """`recipe` with this method and these knobs; experts keep knobs of their own for the recipe's method alone.

        Raises:
            RecipeError: unknown method or knob.
        """
        same = self.method == recipe.method
        experts = recipe.experts if same else tuple(replace(expert, parameters={}) for expert in recipe.experts)
        return resolve(replace(recipe, method=self.method, parameters=dict(self.parameters), experts=experts))


@dataclass(frozen=True)
class Gated:
    """One merge's outcome. `model` is where it was published, None when it was rejected. `drift`: None if not asked.

    `kept` is where a rejected merge was kept to be looked at, None where it was not.
    """

    label: str
    audit: AuditRecord
    verdict: Verdict | None
    merge: MergeRecord
    model: Path | None
    drift: Drift | None = None
    kept: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """A finished comparison: the anchor's and experts' audits and every merge, in the order run."""

    anchor: AuditRecord
    experts: Mapping[str, AuditRecord]
    merges: tuple[Gated, ...]
    folder: Path


def now() -> str:
    """The time for records: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Comparison:
    """Runs contestants on the inputs of one recipe and keeps every record in `folder`."""

    def __init__(
        self,
        recipe: Recipe,
        contestants: Sequence[Contestant],
        folder: RunFolder,
        bench: Bench,
        *,
        publish_to: Mapping[str, Path],
        policy: Policy | None = None,
        also: Sequence[Policy] = (),
        audit_experts: bool = True,
        before_publish: Callable[[Staged, Verdict | None], None] | None = None,
        keep_rejected: Path | None = None,
        workers: int | None = None,
        clean: bool = False,
        recipe_notes: Sequence[str] = (),
        drift: DriftGauge | None = None,
        ledger: Path | None = None,
        root: AuditRecord | None = None,
    ) -> None:
        """Whatever can be refused is refused here, before any model answers. `publish_to`: label to final place.

        `workers`, `clean` and `recipe_notes` are those of `stage`. `drift` measures every merge; None: none is.
        `keep_rejected` is where a merge that its policy rejects is put; None removes it. `before_publish` sees both.
        `ledger` knows what merges that led to the anchor have spent; `root`: audit of the anchor that they began with.
        `audit_experts`: a policy that compares with the
        best of them is inconclusive without.

        Raises:
            UsageError: a label, target, skill or knob that cannot be used.
            RecordError: `root` is of another checkpoint than the ledger says.
            InputRejected, StorageError: see open_ingredients.
        """
        self.recipes = {one.label: one.recipe(recipe) for one in contestants}
        self.folder, self.bench, self.policy, self.also = folder, bench, policy, tuple(also)
        self._targets = dict(publish_to)
        _check_labels([one.label for one in contestants])
        folder.check()
        asking = [one for one in self.recipes.values() if "calibration" in get(one.method).needs]
        self._collectors = {one.digest: collector(one) for one in asking}
        self.inputs: Ingredients = open_ingredients(resolve(next(iter(self.recipes.values()))))
        for one in self._collectors.values():
            one.check_memory(self.inputs.anchor)
        check_apart(folder.path, input_folders(self.inputs))
        for target in (*publish_to.values(), *([keep_rejected] if keep_rejected else [])):
            check_target(target, input_folders(self.inputs))
        names = [expert.name for expert in self.inputs.experts]
        self.expert_labels = unique_labels(names, taken=("anchor", *self.recipes))
        self._audit_experts, self._before_publish, self._kept = audit_experts, before_publish, keep_rejected
        self._workers, self._clean, self._recipe_notes, self._drift = workers, clean, recipe_notes, drift
        self._lineage = lineage_of(ledger, self.inputs.anchor.digest, self.inputs.anchor.folder)
        self._root = root
        if root is not None and self._lineage is not None:
            check_root(root, self._lineage)
        self.verdicts: dict[str, Verdict | None] = {}
        self.further: dict[str, list[Verdict]] = {}
        self.experts: dict[str, AuditRecord] = {}

    def run(self) -> Outcome:
        """Everything, in order.

        Raises: see stage, audit and decide; records made before a failure stay in the folder, without run.json.
        """
        self.folder.start()
        anchor = self._anchor()
        self.experts = self._experts()
        merges = tuple(self._contest(label, anchor, self._targets[label]) for label in self.recipes)
        return Outcome(anchor, self.experts, merges, self.folder.path)

    def _anchor(self) -> AuditRecord:
        say(f"anchor {self.inputs.anchor.name}")
        engine = self.bench.engine(self.inputs.anchor)
        found = self.bench.anchor(engine, self.inputs.anchor, "anchor", self.inputs.base)
        if self._root is not None:  # before anything is merged
            check_comparable(found, self._root)
        for collector in self._collectors.values():
            collector.anchor(engine)
        if self._drift is not None:
            self._drift.anchor(engine, self.inputs.anchor)
        self.folder.add("anchor", "anchor", found)
        return found

    def _experts(self) -> dict[str, AuditRecord]:
        found: dict[str, AuditRecord] = {}
        if not (self._audit_experts or self._collectors):
            return found
        for label, expert in zip(self.expert_labels, self.inputs.experts, strict=True):
            say(f"expert {expert.name}")
            engine = self.bench.engine(expert)
            for collector in self._collectors.values():
                collector.expert(engine, expert.name)
            if self._audit_experts:
                found[label] = self.bench.audit(engine, expert.digest, label)
                self.folder.add(label, "expert", found[label])
            del engine  # else two models are held while the next one is loaded
        again = [collector for collector in self._collectors.values() if collector.wants_anchor_again]
        if again:
            engine = self.bench.engine(self.inputs.anchor)
            for collector in again:
                collector.anchor_again(engine)
        return found

    def _contest(self, label: str, anchor: AuditRecord, target: Path) -> Gated:
        recipe = self.recipes[label]
        say(f"merge {label}")
        materials, digest = None, None
        if recipe.digest in self._collectors:
            collector = self._collectors[recipe.digest]
            materials, digest = collector.materials(self.inputs.anchor, self.bench.plan.dtype)
        with stage(
            recipe,
            target,
            materials=materials,
            materials_digest=digest,
            workers=self._workers,
            clean=self._clean,
            notes=self._recipe_notes,
        ) as staged:
            return self._judge(label, staged, anchor)

    def _judge(self, label: str, staged: Staged, anchor: AuditRecord) -> Gated:
        try:
            audit, verdict, drift = self._audit(label, staged, anchor)
        except AlignMergeError as error:
            # Refused for what it is: it must not lie there complete. A disk or server failure leaves it for a resume.
            if not isinstance(error, StorageError):
                staged.discard()
            raise
        rejected = verdict is not None and verdict.exit_code != 0
        if rejected and self._kept is None:
            staged.discard()
            return Gated(label, audit, verdict, staged.record, None, drift)
        jsonio.write_bytes(staged.folder / CARD, card(staged.record, verdict).encode())
        if self._before_publish is not None:
            self._before_publish(staged, verdict)
        place = staged.publish(self._kept if rejected else None).folder
        return Gated(
            label, audit, verdict, staged.record, None if rejected else place, drift, place if rejected else None
        )

    def _audit(
        self, label: str, staged: Staged, anchor: AuditRecord
    ) -> tuple[AuditRecord, Verdict | None, Drift | None]:
        from alignmerge.merger.checkpoint import open_checkpoint

        if staged.record.anchor != anchor.checkpoint:
            raise RecordError(f"{label}: the anchor's files have changed since its audit; run again")
        engine: TransformersEngine = self.bench.engine(open_checkpoint(staged.folder))
        audit = self.bench.audit(engine, staged.manifest.digest, label)
        drift = self._drift.measure(engine, staged.manifest.digest) if self._drift is not None else None
        verdict, also = self._decide(audit, anchor)
        self.verdicts[label], self.further[label] = verdict, also
        merge, kept = staged.record.to_json(), drift.to_json() if drift is not None else None
        self.folder.add(label, "merge", audit, merge=merge, drift=kept, verdict=verdict, also=also)
        return audit, verdict, drift

    def _decide(self, audit: AuditRecord, anchor: AuditRecord) -> tuple[Verdict | None, list[Verdict]]:
        def one(policy: Policy) -> Verdict:
            experts = tuple(self.experts.values()) if needs_experts(policy) else ()
            before: dict[str, Any] = {"lineage": self._lineage, "root": self._root}
            return decide(policy, audit, anchor, experts, created=now(), version=__version__, **before)

        return (one(self.policy) if self.policy else None), [one(policy) for policy in self.also]


def _check_labels(labels: Sequence[str]) -> None:
    for label in labels:
        if not LABEL.fullmatch(label) or label.casefold() == "anchor":
            raise UsageError(f"label {label!r}: letters, digits, '.', '_' and '-', and not the anchor's")
    if len({label.casefold() for label in labels}) != len(labels):
        raise UsageError("methods: each label may be used once")


def collector(recipe: Recipe) -> Collector:
    """What gathers the recipe's calibration rows, once every expert's skill is known to be a suite.

    Raises:
        RecipeError: see Collector.
        UsageError: a skill that is no suite.
    """
    found = Collector(recipe)
    for expert in recipe.experts:
        get_suite(str(expert.skill))
    return found


def input_folders(inputs: Ingredients) -> list[Path]:
    """Every folder that the inputs are read from."""
    return [folder for checkpoint in inputs.all for folder in checkpoint.folders]


def finish(folder: RunFolder, policies: Sequence[Policy], *, title: str, notes: Sequence[str]) -> Path:
    """Path of the HTML report, after run.json and the policies that were used are in the folder."""
    from alignmerge.reports.model import load_run
    from alignmerge.reports.render import render

    for index, policy in enumerate(policies):
        name = "policy.yaml" if index == 0 else f"policy.{policy.name}.yaml"
        # JSON is YAML, and the strict reader takes it; the digest does not depend on layout.
        jsonio.write(folder.path / name, policy_json(policy))
    folder.finish(title=title, created=now(), policy=policies[0] if policies else None, notes=notes)
    report = folder.path / "report.html"
    jsonio.write_bytes(report, render(load_run(folder.path)).encode())
    return report


__all__ = ["AuditPlan", "Comparison", "Contestant", "Gated", "Outcome", "collector", "finish", "input_folders", "now"]
