"""Repair by plain fine-tuning: the experts' mixture, trained on the rows that AlignMerge is constrained by.

The honest alternative to AlignMerge: same mixture, same rows, same layers; no distance, no budget, no metric.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from alignmerge.errors import RecipeError
from alignmerge.merger.methods import alignmerge, task_arithmetic
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, View
from alignmerge.merger.methods.coefficients import as_sum

if TYPE_CHECKING:
    from alignmerge.merger.geometry.solution import Solution

AS_IN_THE_ROWS = -1.0


def prepare(view: View, knobs: Knobs) -> "Solution":
    """The fine-tuned linear layers, float32; see merger/geometry/finetune.py.

    Raises:
        RecipeError: see finetune.
    """
    from alignmerge.merger.geometry.finetune import Settings, finetune
    from alignmerge.merger.geometry.gradients import merged_linears

    materials: alignmerge.Materials = view.materials
    mixture = {name: task_arithmetic.merge(view.tile(name), None, knobs) for name in view.names}
    model = materials.load(mixture)
    linears = {name: mixture[name] for name in merged_linears(model)}
    share = knobs["alignment_share"]
    names = ("learning_rate", "steps", "batch_rows", "weight_decay", "checks")
    settings = Settings(
        **{name: knobs[name] for name in names},
        alignment_share=None if share == AS_IN_THE_ROWS else share,
        seed=view.seed,
    )
    return finetune(model, linears, materials.calibration, settings, knobs["threads"])


def check(weights: Sequence[float], knobs: Knobs) -> None:
    """Raise RecipeError for a share that is none."""
    share = knobs["alignment_share"]
    if share < 0 and share != AS_IN_THE_ROWS:
        raise RecipeError(f"parameters.alignment_share: {share} is no share; take 0 to 1, or -1 for that in the rows")


def _number(name: str, default: float, text: str, low: float, high: float) -> Parameter:
    return Parameter(name, "number", default, text, low=low, high=high, scheduled=False)


REPAIR_FINETUNE = MergeMethod(
    name="repair_finetune",
    summary="Fine-tunes the experts' mixture on the rows that alignmerge is constrained by.",
    reference="common practice; AdamW by Loshchilov and Hutter, arXiv 1711.05101",
    parameters=(
        _number("scale", 0.5, "Factor on the summed task vectors of the mixture.", 0.0, 10.0),
        Parameter("loss", "choice", "answers", "What is minimised: answers' mean loss.", choices=("answers",)),
        _number("learning_rate", 2e-5, "Peak of AdamW's learning rate; 0 moves nothing.", 0.0, 1.0),
        Parameter("steps", "integer", 60, "Steps, a tenth of them warm-up, then linear decay.", low=0, high=100000),
        Parameter("batch_rows", "integer", 8, "Rows per step.", low=1, high=4096),
        _number("weight_decay", 0.0, "AdamW's decoupled decay, towards 0 (not the mixture).", 0.0, 10.0),
        _number(
            "alignment_share", AS_IN_THE_ROWS, "Share of alignment rows in a batch; -1: as in the rows.", -1.0, 1.0
        ),
        Parameter("checks", "integer", 4, "Validation gaps measured on the way.", low=0, high=1000),
        Parameter("threads", "integer", 2, "CPU threads; part of the recipe, see the docs.", low=1, high=256),
    ),
    scope="model",
    needs=frozenset({"calibration"}),
    check=check,
    prepare=prepare,
    merge=alignmerge.merge,
    coefficients=as_sum,
    account=alignmerge.account,
)
