"""What each piece of the geometry must do, by formula: floating-point operations and bytes.

Rows have t tokens, a of them answers. The product of a weight with one token's state is 2 operations; a backward pass
is two such products, or one where no weight's gradient is taken. Attention, norms and everything elementwise are left
out, which is why a piece may cost more than its operations say.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from alignmerge.merger.geometry.chart import chart_bytes
from alignmerge.merger.geometry.start import ROUNDS
from benchmarks.geometry_size import HALF, SINGLE, Size
from benchmarks.geometry_starts import (
    progressive_bytes,
    progressive_forwards,
    progressive_products,
    solves,
    start_bytes,
    start_forwards,
    start_products,
    start_solves,
)

COPIES = 5  # float32 copies of the linear layers that a descent holds beside the mixture's
# Bytes per weight that one descent step reads and writes beside its pass: gradient to float32 (8), pull to the start
# (24), clipping (12), AdamW (28), the model's rounded copy (6).
WALKED = 78


@dataclass(frozen=True)
class Piece:
    """What a piece is called, its operations and bytes, and how it grows with rows: "linear", "quadratic", "part".

    part: linearly, but for a part that does not grow. expected: said before the first run, beside what the operations
    say.
    """

    title: str
    operations: Callable[[Size], float]
    bytes: Callable[[Size], float]
    growth: str = "linear"
    expected: str = ""


def _pass(size: Size) -> float:
    return 3 * size.product + 2 * size.logits(size.answers)


def _factors(size: Size) -> float:
    return 2 * size.product + 2 * size.logits(size.answers)


def _gram(size: Size) -> float:
    return size.product + 2.0 * size.weights * size.rows**2


def _whitening(size: Size) -> float:
    tokens = size.rows * size.answers
    return sum(4.0 * size.rows * size.tokens * side * min(side, tokens) for side in size.sides)


def _kept(size: Size) -> float:
    """Bytes of the factors: layers that share an input are counted once each, so this is the most it can be."""
    return float(HALF * size.rows * size.tokens * sum(size.sides))


def _restoring(size: Size) -> float:
    return _factors(size) + _gram(size) + 2 * size.product


def _kfac(size: Size) -> float:
    tokens = size.rows * size.answers
    return _factors(size) + sum(4.0 * side * min(side, tokens) ** 2 for side in size.sides)


def _start(size: Size) -> float:
    return start_forwards(size) + start_products(size) + start_solves(size)


def _progressive(size: Size) -> float:
    return progressive_forwards(size) + progressive_products(size) + solves(size)


def _blame(size: Size) -> float:
    point = 3 * size.product + 2 * size.logits(size.tokens)
    return size.points * point + 2 * (size.product + size.logits(size.tokens))


def _chart(kind: str) -> Callable[[Size], float]:
    return lambda size: float(chart_bytes(size.shapes, kind, size.rows * size.answers).making)


PIECES = {
    "pass": Piece("one forward-backward pass", _pass, lambda s: HALF * s.weights, expected="1 by definition"),
    "factors": Piece("factors of the rows' residuals", _factors, _kept, expected="0.7: no weight's gradient"),
    "gram_identity": Piece(
        "Gram matrix, identity", _gram, lambda s: HALF * s.rows * s.layer, "quadratic", "1: writes rows x parameters"
    ),
    "gram_diagonal": Piece(
        "Gram matrix, diagonal", _gram, lambda s: 2 * HALF * s.rows * s.layer, "quadratic", "1.5: scales them too"
    ),
    "gram_kfac": Piece(
        "Gram matrix, K-FAC",
        lambda s: _gram(s) + _whitening(s),
        lambda s: HALF * s.rows * s.layer,
        "quadratic",
        "3: whitens in float32",
    ),
    "step": Piece(
        "combining rows into a step", lambda s: s.product, lambda s: SINGLE * s.layer, expected="0.5: reads weights"
    ),
    "merit": Piece(
        "merit on as many rows", lambda s: s.product + s.logits(s.answers), lambda s: 0.0, expected="0.4: forward only"
    ),
    "start": Piece(
        f"closed form, {ROUNDS} rounds, one expert",
        _start,
        start_bytes,
        "part",
        "15: mostly in float64, of which an operation costs about six of a pass",
    ),
    "progressive": Piece(
        "progressive start, one expert",
        _progressive,
        progressive_bytes,
        "part",
        "7: forward 1.8, float32 0.6 at three times, float64 0.5 at six times the cost of a pass's operation",
    ),
    "descent": Piece(
        "one descent step",
        _pass,
        lambda s: COPIES * SINGLE * s.weights,
        expected="2: walks six copies of the weights",
    ),
    "restoring": Piece(
        "one restoring step, without merit",
        _restoring,
        lambda s: _kept(s) + 2 * SINGLE * s.weights,
        "quadratic",
        "3: factors, Gram, S d, step",
    ),
    "fisher": Piece(
        "diagonal Fisher",
        lambda s: _factors(s) + s.product,
        _chart("fisher"),
        expected="4: squares each row's gradient in float32",
    ),
    "kfac": Piece("K-FAC factors", _kfac, _chart("kfac"), "quadratic", "2: float64 eigenvectors of answer tokens"),
    "subspace": Piece(
        "alignment subspace",
        lambda s: _factors(s) + _gram(s),
        lambda s: _kept(s) + SINGLE * s.rows * s.layer,
        "quadratic",
        "5: its Gram matrix is in float32",
    ),
    "coordinates": Piece(
        "drift coordinates of a move", lambda s: s.product, lambda s: 0.0, expected="2: float32 products"
    ),
    "finite_drift": Piece(
        "finite drift of a merge",
        lambda s: s.product + s.logits(s.tokens),
        lambda s: HALF * s.vocabulary * s.rows * s.tokens,
        expected="1: forward, and KL in float64",
    ),
    "blame": Piece(
        "finite blame, 8 points",
        _blame,
        lambda s: SINGLE * s.weights,
        expected="10 passes of its own dtype, float32",
    ),
}


def predicted(name: str, size: Size) -> float:
    """The piece's operations as a multiple of one forward-backward pass over the same rows."""
    return PIECES[name].operations(size) / PIECES["pass"].operations(size)


def quadratic_share(costs: Mapping[int, float]) -> float:
    """What part of the cost at the most rows grows with their square, from a fit of b n + c n^2; in [0, 1].

    The fit is by least squares of relative errors, so that few rows count as much as many.

    Raises:
        ValueError: fewer than two numbers of rows.
    """
    import numpy as np

    if len(costs) < 2:
        raise ValueError("a fit of two terms needs costs at two numbers of rows")
    ns = np.array(sorted(costs), dtype=np.float64)
    y = np.array([costs[int(n)] for n in ns])
    terms = np.stack([ns, ns**2], axis=1) / y[:, None]
    linear, square = np.linalg.lstsq(terms, np.ones(len(ns)), rcond=None)[0]
    most = ns[-1]
    return float(min(1.0, max(0.0, square * most**2 / (linear * most + square * most**2))))


def table(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The pieces' lines: multiples of a pass measured and by operations, CPU and wall seconds, memory."""
    lines = [f"{'':34} {'CPU s':>8} {'wall s':>8} {'passes':>7} {'by op.':>7} {'MB':>7} {'by formula':>10}"]
    for name, one in found.items():
        grown = "-" if one["megabytes"] is None else f"{one['megabytes']:.0f}"
        ratios = f"{one['passes']:7.2f} {one['predicted']:7.2f}"
        times = f"{one['cpu']:8.2f} {one['wall']:8.2f}"
        lines.append(f"{PIECES[name].title:34} {times} {ratios} {grown:>7} {one['formula_mb']:10.0f}")
    return lines


def scaling(costs: Mapping[int, Mapping[str, float]], half: Mapping[str, float], at: int) -> dict[str, dict[str, Any]]:
    """How each piece's CPU seconds grow: by doubling of rows, in its quadratic share, and with twice the depth.

    costs: CPU seconds by rows and piece. half: those of a model of half the depth at `at` rows.
    """
    ns: Sequence[int] = sorted(costs)
    found: dict[str, dict[str, Any]] = {}
    for name in costs[ns[0]]:
        own = {n: costs[n][name] for n in ns}
        doublings = {f"{n}/{m}": round(own[n] / own[m], 2) for m, n in pairwise(ns)}
        share = round(quadratic_share(own), 2)
        found[name] = {"rows": doublings, "quadratic_share": share, "depth": round(own[at] / half[name], 2)}
    return found
