"""The start of a solve in closed form: the least sum of every teacher's quadratic distance, each in its own chart.

The objective's terms to second order with K-FAC-like charts, but that every teacher counts once: the descent takes the
mean over experts, and knows no weights.

    delta = argmin  lambda_align ||delta||^2_{A_0} + lambda_skill sum_k w_k ||delta - tau_k||^2_{A_k}
          = (lambda_skill sum_k w_k tau_k A_k) (lambda_align A_0 + lambda_skill sum_k w_k A_k)^-1

layer by layer. ||D||^2_A = tr(D A D^T), with A_0 the mean of x x^T over the layer's inputs x on alignment rows and A_k
on those of expert k, is the mean squared change of the layer's outputs there: K-FAC's Fisher with its output factor
left out. With one chart for all it would cancel and leave the plain mixture; with one for each teacher every one
decides along the directions that its own rows use, so that experts and anchor get less into each other's way.

The inputs are those of the merge itself, of the mixture first. They change with the layers before, so a second round
measures them anew at the first one's result.

Source: arXiv 2512.16245 for L_geo and L_align as quadratic forms; the closed form is that of Jin et al., arXiv
2212.09849, equation 2, with the inputs of the merged model as in arXiv 2508.03121. The anchor on alignment rows as one
of the teachers, the lambdas and the rounds are ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.gradients import merged_linears
from alignmerge.merger.geometry.grams import input_grams, shrunk
from alignmerge.merger.geometry.merit import Weights
from alignmerge.merger.geometry.rows import ALIGNMENT, Calibration, Row

ROUNDS = 2
ROWS = 64  # of each teacher: some thousand tokens, more than a layer of a small model has inputs
KEPT = 0.9  # of what lies beside the diagonal of A, as in arXiv 2212.09849


@dataclass(frozen=True)
class Teachers:
    """What a start knows of the models, one tensor at a time.

    sources: the experts' rows are marked by these names, in the order of the task vectors. tensor(name, k) is a tensor
    of expert k in float32, of the anchor where k is None; task_vector(name, k) what expert k adds to the anchor's,
    which is another thing for experts trained from elsewhere; weights(name) the experts' weights.
    """

    sources: Sequence[str]
    tensor: Callable[[str, int | None], Tensor]
    task_vector: Callable[[str, int], Tensor]
    weights: Callable[[str], Sequence[float]]

    def anchor(self, name: str) -> Tensor:
        """A tensor of the anchor, float32."""
        return self.tensor(name, None)


class Group(NamedTuple):
    """A teacher with its rows: the expert's number (None: the anchor), the lambda of its term."""

    teacher: int | None
    strength: float
    rows: list[Row]


def unfit(names: Sequence[str], teachers: Teachers, weights: Weights) -> str:
    """Why a start in closed form is no merge of these experts; empty where it is one."""
    if weights.skill == 0:
        return "without lambda_skill it would lead to the anchor itself"
    every = [teachers.weights(name) for name in names]
    if any(min(one) < 0 for one in every):
        return "with a weight below 0 it may be no minimum"
    if not any(max(one) > 0 for one in every):
        return "no expert has a weight, so it would lead to the anchor itself"
    return ""


def closed_form(model: Any, calibration: Calibration, teachers: Teachers, weights: Weights) -> dict[str, Tensor]:
    """The merged linear layers by weight name, float32; `model`, which holds the mixture, holds them rounded after.

    Takes ROUNDS forward passes over up to ROWS rows of each teacher. Holds, beside the mixture, a float32 copy of every
    layer, its chart in float32, and the charts of one teacher in float64.

    Raises:
        RecipeError: a teacher has no rows, or a layer's inputs are not finite, all zero, too large to be solved for or
            without rows of their own.
    """
    groups = grouped(calibration, teachers, weights)
    layers = merged_linears(model)
    found: dict[str, Tensor] = {}
    for _ in range(ROUNDS):
        found.clear()  # the model holds it
        found.update(_round(model, groups, list(layers), teachers))
        for name, module in layers.items():
            module.weight.data.copy_(found[name])
    return found


def grouped(calibration: Calibration, teachers: Teachers, weights: Weights) -> list[Group]:
    """All teachers whose term counts, the anchor first.

    Raises:
        RecipeError: one has no rows.
    """
    groups: list[Group] = []
    for index, source in enumerate((ALIGNMENT, *teachers.sources)):
        rows = [row for row in calibration.rows if row.source == source]
        strength = weights.skill if index else weights.align
        if strength > 0 and not rows:
            raise RecipeError(f"calibration: {source} has no rows to start from; set parameters.start: mixture")
        if strength > 0:
            groups.append(Group(index - 1 if index else None, strength, rows))
    return groups


def _round(model: Any, groups: Sequence[Group], names: Sequence[str], teachers: Teachers) -> dict[str, Tensor]:
    total: dict[str, Tensor] = {}
    moves: dict[str, Tensor] = {}
    for index, strength, rows in groups:
        grams = input_grams(model, rows[:ROWS])
        for name in names:
            weight = strength * (1.0 if index is None else teachers.weights(name)[index])
            gram = shrunk(grams.pop(name), KEPT).mul_(weight)
            if index is not None:
                _add(moves, name, teachers.task_vector(name, index).double() @ gram)
            _add(total, name, gram)
    return {name: _solved(name, teachers, total.pop(name), moves.pop(name)) for name in names}


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    sums[name] = sums[name].add_(value) if name in sums else value.float()


def _solved(name: str, teachers: Teachers, total: Tensor, moves: Tensor) -> Tensor:
    anchor = teachers.anchor(name)
    if max(teachers.weights(name)) == 0:
        return anchor
    return anchor + solved_for(name, total.double(), moves.double()).float()


def solved_for(name: str, gram: Tensor, moves: Tensor) -> Tensor:
    """X with X gram = moves, (d_out, d_in) float64; `name` is the layer's.

    Raises:
        RecipeError: there is none that is finite.
    """
    try:
        found: Tensor = torch.linalg.solve(gram, moves, left=False)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # a singular system; memory that runs out is not
        found = torch.full_like(moves, torch.nan)
    if not bool(found.isfinite().all()):
        raise RecipeError(f"calibration: the inputs of {name} cannot be solved for; set parameters.start: mixture")
    return found
