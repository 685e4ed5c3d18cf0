"""The one-shot linear shield: the mixture without its part in the anchor's alignment subspace, in closed form.

What arXiv 2512.16245 describes most plainly, as a method of its own: nothing is iterated and nothing is measured. It
is here to be compared with: docs/alignmerge-measured.md has what it keeps of refusals, beside a random removal.
"""

from typing import TYPE_CHECKING, Any

from alignmerge.merger.methods import alignmerge, task_arithmetic
from alignmerge.merger.methods.base import Knobs, MergeMethod, Parameter, View
from alignmerge.merger.methods.coefficients import as_sum

if TYPE_CHECKING:
    from alignmerge.merger.geometry.solution import Solution


def prepare(view: View, knobs: Knobs) -> "Solution":
    """The shielded linear layers, float32, and the drift in the subspace before and after.

    The subspace is made at the anchor from matched pairs: margins of its own answers to a request and its look-alike.

    Source: arXiv 2512.16245 for the shield; the forms are ours (see merger/geometry/shield.py).
    Raises:
        RecipeError: no pair that the anchor answers differently, a rank that its margins do not span, or a sketch in a
            chart or for a control that needs the exact Gram matrix.
    """
    from dataclasses import replace

    from alignmerge.errors import RecipeError
    from alignmerge.merger.geometry.chart import make_chart
    from alignmerge.merger.geometry.gradients import merged_linears
    from alignmerge.merger.geometry.shield import equal_removal, fisher_shield, hard_shield
    from alignmerge.merger.geometry.solution import Solution, fixed_threads
    from alignmerge.merger.geometry.subspace import margins, random_subspace

    materials: alignmerge.Materials = view.materials
    calibration = materials.calibration
    pairs = calibration.fitting[: knobs["pairs"]]
    if not pairs:
        raise RecipeError("calibration: no matched pair was answered, so there is no subspace; take more items")
    given = margins([harmful for harmful, _ in pairs], [harmless for _, harmless in pairs])
    if knobs["rows"] != "pairs":
        given = given.only(harmful=knobs["rows"] == "harmful")
    with fixed_threads(knobs["threads"]):
        model = materials.ladder.load(0.0)
        layers = merged_linears(model)
        rows = [row for pair in pairs for row in pair]
        shared = {"damping": knobs["damping"], "seed": view.seed, "pad": calibration.pad}
        chart = make_chart(knobs["metric"], model, rows, layers, **shared, model_digest=_digest(model, knobs))
        subspace = _subspace(model, given, chart, calibration.pad, knobs, view.seed)
        tiles = {name: view.tile(name) for name in layers}
        delta = {name: task_arithmetic.merge(tile, None, knobs) - tile.anchor for name, tile in tiles.items()}
        shield = fisher_shield if knobs["form"] == "fisher" else hard_shield
        done = shield(subspace, delta, knobs["strength"])
        if knobs["sketch"]:  # what is left by the estimated Gram matrix is next to nothing whatever it is worth
            done = replace(done, after=subspace.drift(done.delta))
        if knobs["control"] == "random":
            done = equal_removal(random_subspace(subspace, view.seed), delta, done.removed)
    weights = {name: tile.anchor + done.delta[name] for name, tile in tiles.items()}
    return Solution(weights, _account(calibration.digest, subspace, done, len(given.rows), knobs))


def _subspace(model: Any, given: Any, chart: Any, pad: int, knobs: Knobs, seed: int) -> Any:
    """From the exact Gram matrix, or with `sketch` from one made of count sketches in that many buckets."""
    from alignmerge.merger.geometry.directions import RowGradients
    from alignmerge.merger.geometry.sketch import sketch, sketched_kernel
    from alignmerge.merger.geometry.subspace import span

    gradients, kernel = RowGradients(model, given.rows, pad=pad), None
    if knobs["sketch"]:
        kernel = sketched_kernel(sketch(gradients, chart, buckets=knobs["sketch"], seed=seed), given.signs)
    return span(gradients, chart, given.signs, rank=knobs["rank"] or None, kernel=kernel)


def _digest(model: Any, knobs: Knobs) -> str | None:
    """Names the anchor's weights where a chart depends on them, so that its Fisher is kept and found again."""
    from alignmerge.merger.reference import tensor_digest

    if knobs["metric"] == "identity":
        return None
    return tensor_digest({name: value.detach().cpu() for name, value in model.named_parameters()})


def _account(digest: str, subspace: Any, done: Any, rows: int, knobs: Knobs) -> dict[str, Any]:
    return {
        "calibration": digest,
        "rows": rows,
        "rank": subspace.rank,
        "sketch": knobs["sketch"] or None,
        "spectrum": [float(value) for value in subspace.spectrum[:64]],
        "drift_before": done.before._asdict(),
        "drift_after": done.after._asdict(),
        "removed": done.removed,
        "threads": knobs["threads"],
    }


def _number(name: str, default: float, text: str, low: float, high: float) -> Parameter:
    return Parameter(name, "number", default, text, low=low, high=high, scheduled=False)


def _choice(name: str, text: str, *choices: str) -> Parameter:
    return Parameter(name, "choice", choices[0], text, choices=choices)


ALIGNMENT_SHIELD = MergeMethod(
    name="alignment_shield",
    summary="Takes the mixture's part in the anchor's alignment subspace away, in one linear step.",
    reference="arXiv 2512.16245 (the shield); closed forms are this project's",
    parameters=(
        _number("scale", 1.0, "Factor on the summed task vectors of the mixture.", 0.0, 10.0),
        _number("strength", 1e6, "Weight of L_align; the part is shrunk by 1 / (1 + strength).", 0.0, 1e12),
        _choice("form", "A hard projector of chosen rank, or the whole safety Fisher.", "projector", "fisher"),
        Parameter("rank", "integer", 0, "Rank of the subspace; 0: 90 % of the spectrum, at most 64.", low=0, high=4096),
        Parameter("pairs", "integer", 24, "Matched pairs that span it, two margins each.", low=1, high=64),
        _choice("rows", "Margins of both sides of the pairs, or of one.", "pairs", "harmful", "harmless"),
        _choice("control", "A random removal of equal rank and length instead.", "none", "random"),
        _choice("metric", "Chart of the subspace.", "identity", "fisher", "kfac"),
        Parameter(
            "sketch", "integer", 0, "Buckets of count sketches for the Gram matrix; 0: exact.", low=0, high=1 << 20
        ),
        _number("damping", 0.3, "Damping of a Fisher chart, relative to its mean.", 1e-6, 1e6),
        Parameter("threads", "integer", 2, "CPU threads; part of the recipe, see the docs.", low=1, high=256),
    ),
    scope="model",
    needs=frozenset({"calibration"}),
    prepare=prepare,
    merge=alignmerge.merge,
    coefficients=as_sum,
    account=alignmerge.account,
)
