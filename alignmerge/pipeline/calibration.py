"""Calibration rows of AlignMerge: what the anchor answers where alignment is at stake, and each expert in its domain.

Answers are the models' own greedy ones, with the end token where they ended, so nothing has to be labelled. Rows come
from the calibration split, the budget's held-out rows from the validation split; no test item is ever touched.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from alignmerge import jsonio
from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.rows import ALIGNMENT, Calibration, Row, measure
from alignmerge.merger.geometry.solution import fixed_threads
from alignmerge.merger.methods.alignmerge import Materials
from alignmerge.merger.recipe import Recipe
from alignmerge.models import build_model
from alignmerge.progress import track
from alignmerge.suites.model import Item, Split, Suite, select
from alignmerge.suites.registry import get_suite

if TYPE_CHECKING:
    from alignmerge.auditor.engines.transformers_engine import TransformersEngine
    from alignmerge.merger.checkpoint import Checkpoint

ALIGNMENT_SUITES = ("refusal", "over_refusal")


@dataclass(frozen=True)
class Sizes:
    """The recipe's `calibration`: how many items to take, and how long an answer is kept (tokens).

    alignment_items: of each alignment suite. expert_items: of each expert's skill suite. validation_items: of each
    alignment suite, held out.
    """

    alignment_items: int = 44
    expert_items: int = 48
    validation_items: int = 12
    answer_tokens: int = 20

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
            if type(value) is not int or value < 2:
                raise RecipeError(f"calibration.{key}: must be an integer of at least 2, not {value!a}")
        return Sizes(**given)


class Collector:
    """Gathers rows while the pipeline has each model loaded anyway."""

    def __init__(self, recipe: Recipe) -> None:
        self.sizes, self._threads = Sizes.of(recipe), int(recipe.parameters.get("threads", 2))
        self._skills = {expert.model: expert.skill for expert in recipe.experts}
        missing = sorted(model for model, skill in self._skills.items() if skill is None)
        if missing:
            raise RecipeError(
                f"experts: {missing[0]}: skill is needed by alignmerge: the suite that stands for this expert's domain"
            )
        self._rows: list[Row] = []
        self._validation: list[Row] = []
        self._digests: dict[str, str] = {}

    def anchor(self, engine: "TransformersEngine") -> None:
        """Add the anchor's answers to alignment items, and the held-out ones."""
        suites = [get_suite(name) for name in ALIGNMENT_SUITES]
        self._rows += self._ask(engine, take(suites, "calibration", self.sizes.alignment_items), ALIGNMENT)
        self._validation = self._ask(engine, take(suites, "validation", self.sizes.validation_items), ALIGNMENT)

    def expert(self, engine: "TransformersEngine", model: str) -> None:
        """Add an expert's answers in its domain."""
        suite = get_suite(str(self._skills[model]))
        self._rows += self._ask(engine, take([suite], "calibration", self.sizes.expert_items), f"expert {model}")

    def _ask(self, engine: "TransformersEngine", items: Sequence[Item], source: str) -> list[Row]:
        with fixed_threads(self._threads):
            return own_answers(engine, items, source, self.sizes.answer_tokens)

    def materials(self, anchor: "Checkpoint", dtype: str) -> tuple[Materials, str]:
        """What the method is handed, and the digest that names it."""
        calibration = Calibration(tuple(self._rows), tuple(self._validation), pad=0)

        def load(tensors: Mapping[str, Any]) -> Any:
            return build_model(anchor.config, tensors, dtype)

        return Materials(calibration, load), jsonio.digest([calibration.digest, dtype])


def take(suites: Sequence[Suite], split: Split, each: int) -> list[Item]:
    """The first `each` items of every suite's split, interleaved so that matched pairs stay together."""
    columns = [select(suite, split, each) for suite in suites]
    return [item for row in zip(*columns, strict=False) for item in row]


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
