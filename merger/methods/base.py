"""What a merge method is: a name, typed knobs, and a pure function from one tensor's values to the merged ones.

Every method works on float32 values and measures its result from the anchor. Only elementwise operations, exact
selections and sums in a fixed order are used, so the result does not depend on thread count or processor.
"""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from alignmerge.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor

    from alignmerge.merger.checkpoint import Checkpoint

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
    """One knob of a method. `kind` is "number", "integer" or "choice"; `low` and `high` are inclusive."""

    name: str
    kind: Literal["number", "integer", "choice"]
    default: float | int | str
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

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
    """One tensor of every ingredient, float32, all of one shape.

    experts[k] is theta_k; references[k] is what its task vector is measured from (the anchor or the base, as the
    recipe states); weights[k] is its weight in the recipe.
    """

    name: str
    anchor: "Tensor"
    experts: tuple["Tensor", ...]
    references: tuple["Tensor", ...]
    weights: tuple[float, ...]

    def task_vector(self, index: int) -> "Tensor":
        """tau_k = theta_k - theta_(trained_from), a new float32 tensor."""
        return self.experts[index] - self.references[index]


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
    def weights(self) -> tuple[float, ...]: ...

    @property
    def seed(self) -> int: ...

    @property
    def materials(self) -> Any:
        """What the pipeline handed in for methods that need data (calibration rows, a functional); or None."""
        ...

    def tile(self, name: str) -> Tile: ...


@dataclass(frozen=True)
class MergeMethod:
    """A way to merge.

    scope: what must be seen at once. needs: what a recipe must give beyond anchor and experts ("base", "calibration").
    check(weights, knobs) raises RecipeError for combinations that have no meaning. prepare(view, knobs) is a pass over
    the ingredients before the merge; its result is handed to every merge(tile, stats, knobs), which returns the merged
    values, float32, and touches nothing. account(stats) is the method's own account for the merge record.
    """

    name: str
    summary: str
    reference: str
    parameters: tuple[Parameter, ...]
    merge: Callable[[Tile, Any, Knobs], "Tensor"]
    scope: Scope = "tile"
    needs: frozenset[str] = frozenset()
    check: Callable[[Sequence[float], Knobs], None] | None = None
    prepare: Callable[[View, Knobs], Any] | None = None
    account: Callable[[Any], dict[str, Any]] | None = None

    def knobs(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """`given` checked, with defaults filled in.

        Raises:
            RecipeError: an unknown knob (with the nearest known one) or an unacceptable value.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                raise RecipeError(unknown(f"parameter of {self.name}", name, known))
        return {name: parameter.check(given.get(name, parameter.default)) for name, parameter in known.items()}


def moved(anchor: "Tensor", delta: "Tensor") -> "Tensor":
    """anchor + delta, float32; where delta is zero the anchor's bits are kept (-0.0 + 0.0 would be +0.0)."""
    import torch

    return torch.where(delta == 0, anchor, anchor + delta)
