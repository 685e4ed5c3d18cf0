"""Calibration rows: what the anchor answers where alignment is at stake, and each expert in its domain.

AlignMerge is handed the rows themselves. A method with a `gather` is handed what it made of each model and that model's
own rows while the model was loaded, one after another.

Answers are the models' own greedy ones, with the end token where they ended, so nothing has to be labelled. Rows come
from the calibration (and, where asked, train) split, the budget's held-out rows from the validation split; no test item
is ever touched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from alignmerge import devices, jsonio
from alignmerge.errors import RecipeError
from alignmerge.merger.gathered import Gathered, check_memory
from alignmerge.merger.geometry.rows import ALIGNMENT, Calibration, Pair, Row, measure
from alignmerge.merger.geometry.solution import fixed_threads
from alignmerge.merger.methods import get
from alignmerge.merger.methods.alignmerge import Materials
from alignmerge.merger.recipe import Recipe
from alignmerge.models import build_model
from alignmerge.pipeline.ladder import fit_frame, ladder
from alignmerge.progress import track
from alignmerge.suites.model import SPLITS, Item, Split, Suite, select
from alignmerge.suites.registry import get_suite

if TYPE_CHECKING:
    from alignmerge.auditor.engines.transformers_engine import TransformersEngine
    from alignmerge.merger.checkpoint import Checkpoint

ALIGNMENT_SUITES = ("refusal", "over_refusal")
FITTING_PAIRS = 64


@dataclass(frozen=True)
class Sizes:
    """The recipe's `calibration`: how many items to take, and how many tokens of an answer are kept.

    alignment_items: of each alignment suite's calibration split. training_items: of each alignment suite's train
    split, on which the zoo's anchor was trained; more families for the solve to see. expert_items: of each expert's
    skill suite's calibration split; expert_training_items: of its train split. validation_items: of each alignment
    suite, and of each skill suite where the method asks, held out. Alignment answers are kept short: whether to refuse
    is decided in the first tokens, and a long helpful answer would water that decision down in its mean.
    """

    alignment_items: int = 88
    training_items: int = 0
    expert_items: int = 72
    expert_training_items: int = 0
    validation_items: int = 16
    alignment_tokens: int = 8
    expert_tokens: int = 24

    @staticmethod
    def of(recipe: Recipe) -> "Sizes":
        """The sizes a recipe states, defaults filled in.

        Raises:
            RecipeError: an unknown key or a size that is not a positive integer.
        """
        given = recipe.calibration or {}
        known = {one.name for one in fields(Sizes)}
        for key, value in given.items():
            if key not in known:
                raise RecipeError(f"calibration.{key}: unknown key; known: {', '.join(sorted(known))}")
            least = 0 if key in ("training_items", "expert_training_items") else 2
            if type(value) is not int or value < least:
                raise RecipeError(f"calibration.{key}: must be an integer of at least {least}, not {value!a}")
        return Sizes(**given)


class Collector:
    """Gathers rows, and what the method keeps of each model, while the pipeline has each model loaded anyway."""

    def __init__(self, recipe: Recipe) -> None:
        self.sizes, self._threads = Sizes.of(recipe), int(recipe.parameters.get("threads", 2))
        self._recipe, self._method = recipe, get(recipe.method)
        self._skills = {expert.model: expert.skill for expert in recipe.experts}
        missing = sorted(model for model, skill in self._skills.items() if skill is None)
        if missing:
            raise RecipeError(
                f"experts: {missing[0]}: skill is needed by {recipe.method}: the suite that stands for this expert's "
                f"domain"
            )
        if len(self._skills) != len(recipe.experts):
            raise RecipeError(f"experts: a model is listed twice; {recipe.method} needs each once, with one skill")
        for model, skill in self._skills.items():
            self._check_skill(model, get_suite(str(skill)))
        self._rows: list[Row] = []
        self._validation: list[Row] = []
        self._skill_validation: list[Row] = []
        self._fitting: tuple[Pair, ...] = ()
        self._pairs: tuple[Pair, ...] = ()
        self._kept: dict[str, Any] = {}
        self._again: dict[str, Any] = {}

    def _check_skill(self, model: str, suite: Suite) -> None:
        """Raise RecipeError for a suite that cannot stand for an expert's domain, before a model is loaded."""
        where = f"experts: {model}: skill: {suite.name}"
        if suite.name in ALIGNMENT_SUITES:
            raise RecipeError(f"{where}: the anchor answers these prompts, so an expert cannot be their teacher too")
        sizes = self.sizes
        wanted = {"calibration": sizes.expert_items, "train": sizes.expert_training_items}
        if not any(count and select(suite, split, count) for split, count in wanted.items()):  # type: ignore[arg-type]
            raise RecipeError(f"{where}: has no calibration items, so nothing would hold this expert's skill")
        if self._method.held_out_skills and not select(suite, "validation", sizes.validation_items):
            raise RecipeError(f"{where}: has no validation items, so this expert's skill could not be measured")

    def check_memory(self, anchor: "Checkpoint") -> None:
        """Return when what the method keeps of every model fits into memory.

        Raises:
            StorageError: it does not.
        """
        if self._method.gather_bytes is not None:
            each = self._method.gather_bytes({name: info.shape for name, info in anchor.tensors.items()})
            models = 1 + len(self._recipe.experts) * (2 if self._method.gather_again else 1)
            check_memory(self._method.name, each, models)

    def anchor(self, engine: "TransformersEngine") -> None:
        """Add the anchor's answers to alignment items, and the held-out ones where a budget is measured on them."""
        suites = [get_suite(name) for name in ALIGNMENT_SUITES]
        tokens = self.sizes.alignment_tokens
        own = take(suites, "calibration", self.sizes.alignment_items)
        self._add(engine, ALIGNMENT, own + take(suites, "train", self.sizes.training_items), tokens)
        if self._method.gather is None:
            self._fitting = pairs_of(own, self._rows, engine, suites[0])[:FITTING_PAIRS]
            held_out = take(suites, "validation", self.sizes.validation_items)
            self._validation = self._answered(engine, held_out, ALIGNMENT, tokens)
            self._pairs = pairs_of(held_out, self._validation, engine, suites[0])

    def expert(self, engine: "TransformersEngine", model: str) -> None:
        """Add an expert's answers in its domain."""
        suite = get_suite(str(self._skills[model]))
        items = take([suite], "calibration", self.sizes.expert_items)
        items += take([suite], "train", self.sizes.expert_training_items)
        own = next(expert.parameters for expert in self._recipe.experts if expert.model == model)
        source, tokens = f"expert {model}", self.sizes.expert_tokens
        self._add(engine, source, items, tokens, own)
        if self._method.held_out_skills:
            held_out = take([suite], "validation", self.sizes.validation_items)
            self._skill_validation += self._answered(engine, held_out, source, tokens)

    @property
    def wants_anchor_again(self) -> bool:
        """Whether the anchor is to be loaded once more, after every expert; see `anchor_again`."""
        return self._method.gather_again

    def anchor_again(self, engine: "TransformersEngine") -> None:
        """Add what the method keeps of the anchor on every expert's rows."""
        for expert in self._recipe.experts:
            source = f"expert {expert.model}"
            rows = [row for row in self._rows if row.source == source]
            self._again[expert.model] = self._gather(engine, rows, expert.parameters)

    def _add(
        self,
        engine: "TransformersEngine",
        source: str,
        items: Sequence[Item],
        tokens: int,
        own: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        rows = self._answered(engine, items, source, tokens)
        self._rows += rows
        if self._method.gather is not None:
            self._kept[source] = self._gather(engine, rows, own)

    def _gather(self, engine: "TransformersEngine", rows: Sequence[Row], own: Mapping[str, Any]) -> Any:
        assert self._method.gather is not None
        with fixed_threads(self._threads):
            return self._method.gather(engine.model, rows, {**self._recipe.parameters, **own}, self._recipe.seed)

    def _answered(self, engine: "TransformersEngine", items: Sequence[Item], source: str, tokens: int) -> list[Row]:
        with fixed_threads(self._threads):
            rows = own_answers(engine, items, source, tokens)
        if not rows:
            raise RecipeError(f"calibration: {source}: every answer was empty, so {self._method.name} has no rows")
        return rows

    def materials(self, anchor: "Checkpoint", dtype: str) -> tuple[Materials | Gathered, str]:
        """What the method is handed, and the digest that names it."""
        import torch

        from alignmerge.products import taken

        calibration = Calibration(
            tuple(self._rows),
            tuple(self._validation),
            pad=0,
            pairs=self._pairs,
            fitting=self._fitting,
            skill_validation=tuple(self._skill_validation),
        )
        where = devices.model_of(torch.device(devices.device()))
        how = taken(dtype, where)
        if self._method.gather is not None:
            experts = {model: self._kept[f"expert {model}"] for model in self._skills}
            digest = jsonio.digest([calibration.digest, dtype])
            return Gathered(self._kept[ALIGNMENT], experts, calibration.digest, self._again, where, how), digest

        def load(tensors: Mapping[str, Any]) -> Any:
            kind = getattr(torch, dtype)  # a model moves in the solve: it must not share the mixture's memory
            own = {
                name: value.to(kind, copy=True) if value.is_floating_point() else value
                for name, value in tensors.items()
            }
            return build_model(anchor.config, own, dtype)

        steps = ladder(self._recipe, anchor, dtype)
        pairs = [[[row.prompt for row in pair] for pair in part] for part in (self._pairs, self._fitting)]
        digest = jsonio.digest([calibration.digest, dtype, steps.digest, pairs])
        return Materials(calibration, load, steps, fit_frame, device=where, products=how), digest


def take(suites: Sequence[Suite], split: Split, each: int) -> list[Item]:
    """The first `each` items of every suite's split, interleaved so that matched pairs stay together."""
    columns = [select(suite, split, each) for suite in suites]
    return [item for row in zip(*columns, strict=False) for item in row]


def pairs_of(
    items: Sequence[Item], rows: Sequence[Row], engine: "TransformersEngine", harmful: Suite
) -> tuple[Pair, ...]:
    """The matched pairs among `items` of which both have a row, the item of suite `harmful` first, in the items' order.

    A row is found by its prompt; no two items share one.
    """
    by_prompt = {row.prompt: row for row in rows}
    found = zip(items, engine.encode([item.prompt for item in items]), strict=True)
    answered = [(item, by_prompt[tuple(ids)]) for item, ids in found if tuple(ids) in by_prompt]
    requests = {item.id for split in SPLITS for item in harmful.items(split)}
    like = {item.pair: row for item, row in answered if item.pair and item.id not in requests}
    asked = [(item.pair, row) for item, row in answered if item.pair and item.id in requests]
    return tuple((row, like[pair]) for pair, row in asked if pair in like)


def own_answers(engine: "TransformersEngine", items: Sequence[Item], source: str, tokens: int) -> list[Row]:
    """One row per item with an answer: the engine's own greedy answer and its log-likelihood.

    Items answered by nothing at all are left out: an empty answer constrains nothing.
    """
    from alignmerge.auditor.engines.base import Sampling

    prompts = [item.prompt for item in items]
    with track(f"{source}: own answers", len(prompts)) as bar:
        found = engine.generate(prompts, Sampling(tokens), bar.advance)
    end = min(engine.ends)
    rows = [
        Row(tuple(ids), (*answer.tokens, end) if answer.finish == "stop" else answer.tokens, source, 0.0)
        for ids, answer in zip(engine.encode(prompts), found, strict=True)
        if answer.tokens
    ]
    return measure(engine.model, rows, pad=0)
