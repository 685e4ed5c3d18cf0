"""recipe.yaml: what is merged, how, and from where task vectors are measured. Strict in, resolved out.

    anchor: zoo:safety
    experts:
      - {model: zoo:arithmetic, trained_from: anchor, weight: 1.0}
    method: ties
    parameters: {density: 0.2}
    dtype: bfloat16
    seed: 0

Relative folders are meant relative to the recipe's own folder.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alignmerge import jsonio
from alignmerge.errors import RecipeError
from alignmerge.merger.methods import MergeMethod, get
from alignmerge.merger.methods.base import unknown
from alignmerge.yamlio import Document, load_document

Reference = Literal["anchor", "base"]
Dtype = Literal["bfloat16", "float16", "float32"]
MAX_EXPERTS = 64


@dataclass(frozen=True)
class Expert:
    """One expert: its checkpoint, what it was trained from (its task vector is measured from there), its weight.

    `skill` names the suite that stands for its domain, for methods that keep the expert's own answers there.
    """

    model: str
    trained_from: Reference
    weight: float = 1.0
    skill: str | None = None


@dataclass(frozen=True)
class Recipe:
    """A merge, fully resolved: `parameters` holds every knob of the method, defaults filled in."""

    anchor: str
    experts: tuple[Expert, ...]
    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    base: str | None = None
    calibration: Mapping[str, Any] | None = None
    dtype: Dtype = "bfloat16"
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain data."""
        return {
            **asdict(self),
            "experts": [asdict(expert) for expert in self.experts],
            "parameters": dict(self.parameters),
        }

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the resolved recipe."""
        return jsonio.digest(self.to_json())


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class _Expert(_Strict):
    model: str = Field(min_length=1)
    trained_from: Reference
    weight: float = Field(1.0, ge=-100.0, le=100.0)
    skill: str | None = Field(None, min_length=1)


class _Recipe(_Strict):
    anchor: str = Field(min_length=1)
    experts: list[_Expert] = Field(min_length=1, max_length=MAX_EXPERTS)
    method: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    base: str | None = Field(None, min_length=1)
    calibration: dict[str, str | int | float | bool] | None = None
    dtype: Dtype = "bfloat16"
    seed: int = Field(0, ge=0, lt=2**32)


def load_recipe(path: Path) -> Recipe:
    """The recipe in the YAML file at `path`.

    Raises:
        RecipeError: malformed or contradictory; the message starts with `file:line`.
        StorageError: the file cannot be read.
    """
    document = load_document(path, RecipeError)
    try:
        raw = _Recipe.model_validate(document.value)
    except ValidationError as problem:
        raise _explain(document, problem) from None
    folder = path.absolute().parent
    try:
        return resolve(
            Recipe(
                anchor=_place(raw.anchor, folder),
                experts=tuple(
                    Expert(_place(e.model, folder), e.trained_from, float(e.weight), e.skill) for e in raw.experts
                ),
                method=raw.method,
                parameters=raw.parameters,
                base=_place(raw.base, folder) if raw.base else None,
                calibration=raw.calibration,
                dtype=raw.dtype,
                seed=raw.seed,
            )
        )
    except RecipeError as problem:
        raise RecipeError(f"{path}: {problem}") from None


def resolve(recipe: Recipe) -> Recipe:
    """`recipe` with every knob of its method filled in, checked as a whole.

    Raises:
        RecipeError: unknown method or knob, a value out of range, or parts that contradict each other.
    """
    method: MergeMethod = get(recipe.method)
    if not 1 <= len(recipe.experts) <= MAX_EXPERTS:
        raise RecipeError(f"experts: between 1 and {MAX_EXPERTS} are needed, not {len(recipe.experts)}")
    knobs = method.knobs(recipe.parameters)
    if method.check is not None:
        method.check([expert.weight for expert in recipe.experts], knobs)
    from_base = [expert.model for expert in recipe.experts if expert.trained_from == "base"]
    if recipe.base is None and (from_base or "base" in method.needs):
        raise RecipeError(f"base: is needed: {f'{from_base[0]} was trained from it' if from_base else recipe.method}")
    if "calibration" in method.needs and recipe.calibration is None:
        raise RecipeError(f"calibration: is needed by {recipe.method}")
    return Recipe(**{**vars(recipe), "parameters": knobs})


def _place(reference: str, folder: Path) -> str:
    if ":" in reference or Path(reference).expanduser().is_absolute():
        return reference
    return str(folder / reference)


def _explain(document: Document, problem: ValidationError) -> RecipeError:
    """The first problem, with its place and, for an unknown key, the nearest known one."""
    first = problem.errors()[0]
    location = tuple(first["loc"])
    where, key = document.where(location), ".".join(map(str, location)) or "recipe"
    if first["type"] == "extra_forbidden":
        known = (_Expert if location[0] == "experts" else _Recipe).model_fields
        return RecipeError(f"{where}: {unknown('key', str(location[-1]), known)}")
    hint = ""
    if first["type"] == "missing" and location[-1] == "trained_from":
        hint = " (anchor or base: what the expert was fine-tuned from; it is stated, never guessed)"
    return RecipeError(f"{where}: {key}: {first['msg']}{hint}")
