"""What a merge method is: a name, typed knobs, and a pure function from one tensor's values to the merged ones.

Every method works on float32 values and measures its result from the anchor. Only elementwise operations, exact
selections and sums in a fixed order (merger/sums.py) are used, so the result does not depend on thread count or
processor. A tensor is seen in tiles: ranges of whole rows, cut in the same places on every machine.
"""

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from alignmerge.errors import RecipeError
from alignmerge.merger import schedule

if TYPE_CHECKING:
    from torch import Tensor

    from alignmerge.merger.checkpoint import Checkpoint
    from alignmerge.merger.geometry.rows import Row

Knobs = Mapping[str, Any]
Scope = Literal["tile", "row", "matrix", "model"]


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """A message about an unknown name, with the nearest known one."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(names) or 'none'}"
    return f"unknown {what}: {name!a}{hint}"


@dataclass(frozen=True)
class Parameter:
    """One knob of a method. `kind` is "number", "integer" or "choice"; `low` and `high` are inclusive.

    per_expert: an expert in the recipe may have its own value; see `each`. scheduled: a number may differ between
    tensors; methods that use a knob in `prepare` or `gather` say False (or name it in MergeMethod.constant). only_with:
    the choice (knob, value) without which it has no effect; it must then be left at its default.
    """

    name: str
    kind: Literal["number", "integer", "choice"]
    default: float | int | str
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    per_expert: bool = False
    scheduled: bool = True
    only_with: tuple[str, str] | None = None

    def accept(self, value: Any) -> Any:
        """`value` checked: one value, or for a number a schedule (see merger/schedule.py) of them.

        Raises:
            RecipeError: see `check`; or a schedule where none is understood.
        """
        if not isinstance(value, list) or self.kind == "choice":
            return self.check(value)
        if self.kind != "number" or not self.scheduled:
            raise RecipeError(f"{self.name}: must be one value; it cannot differ between tensors")
        for number in schedule.numbers(value, self.name):
            self.check(number)
        return value

    def check(self, value: Any) -> float | int | str:
        """`value` in the knob's type.

        Raises:
            RecipeError: wrong type, not finite, out of range or not among the choices.
        """
        if self.kind == "choice":
            if value not in self.choices:
                raise RecipeError(f"{self.name}: must be one of {', '.join(self.choices)}, not {value!a}")
            return str(value)
        if type(value) is not int and (self.kind == "integer" or type(value) is not float):
            raise RecipeError(
                f"{self.name}: must be {'an integer' if self.kind == 'integer' else 'a number'}, not {value!a}"
            )
        if not math.isfinite(value):
            raise RecipeError(f"{self.name}: must be finite, not {value!a}")
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            raise RecipeError(f"{self.name}: {value} is outside [{self.low}, {self.high}]")
        return int(value) if self.kind == "integer" else float(value)


@dataclass(frozen=True)
class Tile:
    """A range of whole rows of one tensor, of every ingredient; float32, all of one shape. Not to be changed.

    experts[k] is theta_k; references[k] is what its task vector is measured from (the anchor or the base, as the
    recipe states); weights[k] is its weight in the recipe, for this tensor. others holds "base", "unaligned" and
    "safety" where the method needs them. keys[k] names the random numbers of expert k in this tensor (see
    merger/random.py). shape is the whole tensor's, offset the flat index of the tile's first element in it.
    """

    name: str
    anchor: "Tensor"
    experts: tuple["Tensor", ...]
    references: tuple["Tensor", ...]
    weights: tuple[float, ...]
    others: Mapping[str, "Tensor"] = field(default_factory=dict)
    keys: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    offset: int = 0

    def task_vector(self, index: int) -> "Tensor":
        """tau_k = theta_k - theta_(trained_from), a new float32 tensor."""
        return self.experts[index] - self.references[index]


class Tiles(Protocol):
    """One tensor as its tiles, in order; every iteration reads them anew."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def weights(self) -> tuple[float, ...]: ...

    def __iter__(self) -> Iterator[Tile]: ...


class View(Protocol):
    """What a method may look at before the merge: the ingredients, tensor by tensor."""

    @property
    def names(self) -> Sequence[str]:
        """Tensor names in the order in which they are merged."""
        ...

    @property
    def anchor(self) -> "Checkpoint": ...

    @property
    def experts(self) -> "Sequence[Checkpoint]":
        """In canonical order, which does not depend on the order in the recipe."""
        ...

    @property
    def references(self) -> "Sequence[Checkpoint]":
        """For every expert the checkpoint its task vector is measured from."""
        ...

    @property
    def weights(self) -> tuple[float, ...]:
        """The experts' weights.

        Raises:
            RecipeError: a weight differs between tensors.
        """
        ...

    @property
    def seed(self) -> int: ...

    @property
    def materials(self) -> Any:
        """What the pipeline handed in for methods that need data (calibration rows, a functional); or None."""
        ...

    def tile(self, name: str) -> Tile:
        """The whole tensor as one tile."""
        ...

    def tiles(self, name: str) -> Tiles: ...

    def elements(self, name: str) -> int:
        """How many values the tensor has."""
        ...


@dataclass(frozen=True)
class MergeMethod:
    """A way to merge.

    scope: what `merge` must see at once: "tile" or "row" (a range of whole rows), "matrix" (the whole tensor),
    "model" (everything, in prepare). needs: what a recipe must give beyond anchor and experts ("base", "unaligned",
    "safety": checkpoints; "calibration"). trained_from: "anchor" where every expert must have been trained from it.
    check(weights, knobs) raises RecipeError for combinations without meaning. constant(knobs) names what must be the
    same for every tensor, knobs or "weight" (the experts' weights), and why.

    prepare(view, knobs) is a pass over the whole model before the merge, with the knobs of `whole`. survey(tiles,
    prepared, knobs) is a pass (or several) over one tensor before its tiles are merged, and may run for several tensors
    at once; its knobs and merge's are those of `knobs_at`. merge(tile, stats, knobs) returns the merged values,
    float32, and touches nothing; stats is what survey returned, without survey what prepare returned. remark(stats) is
    what the record keeps of one tensor's survey, account(prepared) of the whole: JSON values. tensor_bytes(shape,
    experts) is the most memory that merging one tensor takes, for scope "matrix". coefficients(weights, knobs, depth)
    are the factors on the task vectors of a tensor (see coefficients.py), depth as in merger/schedule.py.

    gather(model, rows, knobs, seed) is what a method that needs calibration keeps of one model (its Fisher, say) while
    the pipeline has it loaded; the rows are that model's own answers. View.materials is then a Gathered (see
    merger/gathered.py). gather_bytes(shapes) is the most memory that one model's takes, from its tensors' shapes. With
    gather_again the anchor is loaded once more and gathered on every expert's rows; gather_knobs are the knobs it
    reads. held_out_skills: it is handed held-out answers of the experts too. rows_are_outputs: `merge` takes a matrix
    for (out, in), and models that store them as (in, out) are refused.
    """

    name: str
    summary: str
    reference: str
    parameters: tuple[Parameter, ...]
    merge: Callable[[Tile, Any, Knobs], "Tensor"]
    coefficients: Callable[[Sequence[float], Knobs, float], tuple[float, ...]]
    scope: Scope = "tile"
    needs: frozenset[str] = frozenset()
    trained_from: Literal["anchor"] | None = None
    check: Callable[[Sequence[float], Knobs], None] | None = None
    constant: Callable[[Knobs], Mapping[str, str]] | None = None
    prepare: Callable[[View, Knobs], Any] | None = None
    survey: Callable[[Tiles, Any, Knobs], Any] | None = None
    remark: Callable[[Any], Any] | None = None
    account: Callable[[Any], dict[str, Any]] | None = None
    tensor_bytes: Callable[[tuple[int, ...], int], int] | None = None
    gather: "Callable[[Any, Sequence[Row], Knobs, int], Any] | None" = None
    gather_bytes: Callable[[Mapping[str, tuple[int, ...]]], int] | None = None
    gather_again: bool = False
    gather_knobs: frozenset[str] = frozenset()
    held_out_skills: bool = False
    rows_are_outputs: bool = False

    def knobs(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """`given` checked, with defaults filled in; numbers may still be schedules.

        Raises:
            RecipeError: an unknown knob (with the nearest known one), an unacceptable value, or one without effect.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                raise RecipeError(unknown(f"parameter of {self.name}", name, known))
        knobs = {name: parameter.accept(given.get(name, parameter.default)) for name, parameter in known.items()}
        for name, parameter in known.items():
            other, value = parameter.only_with or (name, knobs[name])
            if knobs[other] != value and knobs[name] != parameter.default:
                found = knobs[other]
                raise RecipeError(f"{name}: has no effect with {other}: {found}, only with {value}; leave it out")
        return knobs

    def own_knobs(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The knobs of one expert, checked.

        Raises:
            RecipeError: a knob that the method does not take per expert, or an unacceptable value.
        """
        known = {parameter.name: parameter for parameter in self.parameters if parameter.per_expert}
        for name in given:
            if name not in known:
                raise RecipeError(unknown(f"parameter of one expert in {self.name}", name, known))
        return {name: known[name].accept(value) for name, value in given.items()}

    def check_origin(self, place: str, from_anchor: bool) -> None:
        """Raise RecipeError where the method asks for experts trained from the anchor; `place` names this one."""
        if self.trained_from == "anchor" and not from_anchor:
            raise RecipeError(
                f"{place}: {self.name} judges updates made on the anchor, and this expert was trained from the base; "
                "take one that was trained from the anchor, or another method"
            )

    def knobs_at(
        self, knobs: Mapping[str, Any], own: Sequence[Mapping[str, Any]], name: str, layers: int
    ) -> dict[str, Any]:
        """`knobs` for the tensor `name`: schedules resolved, and a knob that experts have of their own a tuple."""
        out: dict[str, Any] = {}
        for parameter in self.parameters:
            key = parameter.name
            if any(key in one for one in own):
                values = (one.get(key, knobs[key]) for one in own)
                out[key] = tuple(schedule.at(value, name, layers, key) for value in values)
            else:
                out[key] = schedule.at(knobs[key], name, layers, key)
        return out

    def whole(self, knobs: Mapping[str, Any], own: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """`knobs` for the whole model, as `prepare` gets them: a knob that experts have of their own is a tuple.

        Schedules are left as they are; the recipe was refused where one concerns `prepare`.
        """
        return {
            key: tuple(one.get(key, value) for one in own) if any(key in one for one in own) else value
            for key, value in knobs.items()
        }


def each(value: Any, count: int) -> tuple[Any, ...]:
    """The value of a per-expert knob for every one of `count` experts."""
    return value if isinstance(value, tuple) else (value,) * count


def moved(anchor: "Tensor", delta: "Tensor") -> "Tensor":
    """anchor + delta, float32; where delta is zero the anchor's bits are kept (-0.0 + 0.0 would be +0.0)."""
    import torch

    return torch.where(delta == 0, anchor, anchor + delta)
