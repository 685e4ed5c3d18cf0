"""AlignMerge: the merge that answers like the anchor where it matters and like each expert in its domain.

The mixture scale * sum_k w_k tau_k minimises L_geo alone (with one metric for all experts the metric cancels, so that
term alone is task arithmetic). The linear layers go from there to the closed form of the objective with a metric for
each teacher, and on by the solve; everything else stays at the mixture.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.budget import DEFAULT_LIMIT
from alignmerge.merger.methods import task_arithmetic
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, Tile, View
from alignmerge.merger.methods.coefficients import as_sum
from alignmerge.merger.tiles import row_elements

if TYPE_CHECKING:
    from torch import Tensor

    from alignmerge.merger.geometry.functionals.aqi import FrameFit
    from alignmerge.merger.geometry.rows import Calibration
    from alignmerge.merger.geometry.solution import Solution
    from alignmerge.merger.geometry.start import Teachers
    from alignmerge.merger.geometry.validity import Ladder


@dataclass(frozen=True)
class Materials:
    """What the pipeline hands in: calibration rows, and how tensors by name become a model that can be differentiated.

    The model is computed in the dtype that `load` chooses; it must be the one the rows were measured in. `ladder` leads
    from the anchor to weaker models and `fit` makes AQI's frame: the validity gate of the budget asks for them.
    keep_hard: False for a merge that is only looked at, though it is over its hard budget. device: what the models are
    computed on. products: how, where not by the processor's own (see products.py).
    """

    calibration: "Calibration"
    load: "Callable[[Mapping[str, Tensor]], Any]"
    ladder: "Ladder"
    fit: "FrameFit | None" = None
    keep_hard: bool = True
    device: str = "cpu"
    products: str | None = None


def prepare(view: View, knobs: Knobs) -> "Solution":
    """The solved linear layers, float32. Holds six float32 copies of the model and one in the solve's dtype.

    Source: arXiv 2512.16245, L = L_geo + lambda_align L_align + lambda_bud L_bud; the forms of the terms and the solver
    are ours (see merger/geometry/start.py, descent.py and solver.py).
    """
    from alignmerge.merger.geometry.solution import solve

    materials: Materials = view.materials
    mixture = {name: task_arithmetic.merge(view.tile(name), None, knobs) for name in view.names}
    return solve(
        lambda: materials.load(mixture),
        mixture,
        materials.calibration,
        _knobs(knobs, view.seed),
        materials.ladder,
        materials.fit,
        materials.keep_hard,
        _teachers(view),
    )


def _teachers(view: View) -> "Teachers":
    from alignmerge.merger.geometry.start import Teachers

    def tensor(name: str, index: int | None) -> "Tensor":
        return (view.anchor if index is None else view.experts[index]).read(name)

    return Teachers(
        sources=[f"expert {one.name}" for one in view.experts],
        tensor=tensor,
        task_vector=lambda name, index: view.experts[index].read(name) - view.references[index].read(name),
        weights=lambda name: view.tiles(name).weights,
    )


def check(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError for a hard budget without a strength: nothing would keep it."""
    if knobs["budget_form"] == "hard" and knobs["lambda_bud"] == 0:
        raise RecipeError("parameters.lambda_bud: 0 switches the budget off; a hard one needs a strength above 0")


def _knobs(knobs: Knobs, seed: int) -> Any:
    from alignmerge.merger.geometry import descent, solver
    from alignmerge.merger.geometry.merit import Weights
    from alignmerge.merger.geometry.solution import Knobs as SolveKnobs

    weights = Weights(*(knobs[f"lambda_{term}"] for term in ("geo", "align", "skill", "bud")))
    shared = {"weights": weights, "residual": knobs["residual"], "seed": seed}
    down = descent.Settings(
        radius=knobs["radius"],
        steps=knobs["descent_steps"],
        batch_rows=knobs["batch_rows"],
        alignment_share=knobs["alignment_share"],
        stretches=knobs["stretches"],
        **shared,
    )
    names = ("steps", "alignment_rows", "skill_rows")
    rest = ("start", "budget", "budget_form", "functional", "trust", "metric", "damping", "threads")
    restore = solver.Settings(**{name: knobs[name] for name in names}, **shared)
    return SolveKnobs(weights, down, restore, **{name: knobs[name] for name in rest})


def merge(tile: Tile, stats: "Solution", knobs: Knobs) -> "Tensor":
    """The solved values of a linear layer; of any other tensor, the mixture's."""
    if tile.name in stats.weights:
        start = tile.offset // max(1, row_elements(tile.shape))
        return stats.weights[tile.name][start : start + tile.anchor.shape[0]]
    return task_arithmetic.merge(tile, None, knobs)


def account(stats: "Solution") -> dict[str, Any]:
    """The trace, the functional before and after, and the calibration's digest."""
    return dict(stats.account)


def _number(name: str, default: float, text: str, low: float, high: float) -> Parameter:
    return Parameter(name, "number", default, text, low=low, high=high, scheduled=False)


ALIGNMERGE = MergeMethod(
    name="alignmerge",
    summary="Answers like the anchor where alignment is at stake and like each expert in its domain.",
    reference="arXiv 2512.16245 (objective); solver and residuals are this project's",
    parameters=(
        _number(
            "scale",
            0.7,
            "Factor on the mixture's task vectors: what is not solved for, and the start's first inputs.",
            0.0,
            10.0,
        ),
        Parameter(
            "start",
            "choice",
            "closed-form",
            "What linear layers start from: all led to their teachers at once, one by one, or the mixture.",
            choices=("closed-form", "progressive", "mixture"),
        ),
        Parameter(
            "residual",
            "choice",
            "divergence",
            "Distance of two answers: of whole distributions (sharp: on skill rows to the answer itself; hellinger: "
            "bounded), or of the one answer's likelihood.",
            choices=("divergence", "sharp", "hellinger", "likelihood"),
        ),
        _number("lambda_geo", 0.001, "Weight of the squared distance from the start, in the chart.", 0.0, 1e3),
        _number("lambda_align", 1.0, "Weight of the distance to the anchor where alignment is at stake.", 0.0, 1e6),
        _number("lambda_skill", 1.0, "Weight of the distance to each expert in its domain.", 0.0, 1e6),
        _number("lambda_bud", 10.0, "Strength of the budget on the alignment functional; 0: none.", 0.0, 1e6),
        _number(
            "budget", DEFAULT_LIMIT, "Largest validation gap, in the functional's unit (nats per token).", 0.0, 100.0
        ),
        Parameter("budget_form", "choice", "soft", "A penalty, or a limit that must hold.", choices=("soft", "hard")),
        Parameter(
            "functional",
            "choice",
            "own-answers",
            "What the budget is kept on, if it passes the validity gate.",
            choices=("own-answers", "refusal-margin", "aqi"),
        ),
        _number("trust", 2.0, "Trust region: KL that a stretch or step may go, nats per token; 0: any.", 0.0, 100.0),
        Parameter("descent_steps", "integer", 100, "Steps of the descent.", low=0, high=100_000),
        _number("radius", 3e-5, "Length of a step of the descent in its moving chart.", 0.0, 1.0),
        Parameter("batch_rows", "integer", 22, "Rows of a step of the descent.", low=1, high=4096),
        _number("alignment_share", 0.45, "Share of alignment rows among them.", 0.0, 1.0),
        Parameter("stretches", "integer", 4, "How often the merit is measured on the way.", low=1, high=1000),
        Parameter("steps", "integer", 3, "Most restoring steps, while the budget does not hold.", low=0, high=1000),
        Parameter("alignment_rows", "integer", 40, "Alignment rows of a restoring step.", low=1, high=4096),
        Parameter("skill_rows", "integer", 36, "Skill rows of a restoring step.", low=0, high=4096),
        Parameter(
            "metric",
            "choice",
            "identity",
            "Chart of distances and restoring steps.",
            choices=("identity", "fisher", "kfac"),
        ),
        _number("damping", 0.3, "Damping of a Fisher chart, relative to its mean.", 1e-6, 1e6),
        Parameter(
            "threads", "integer", 2, "CPU threads of the solve; part of the recipe, see the docs.", low=1, high=256
        ),
    ),
    held_out_skills=True,
    scope="model",
    needs=frozenset({"calibration"}),
    merge=merge,
    coefficients=as_sum,
    check=check,
    prepare=prepare,
    account=account,
)
