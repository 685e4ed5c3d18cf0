"""What a solve of an 8 B model would take, from the formulas of geometry_work.py; nothing of it was run."""

from dataclasses import replace
from typing import Any

from alignmerge.merger.geometry.start import ROWS
from benchmarks.geometry_size import HALF, SINGLE, Size
from benchmarks.geometry_starts import (
    STARTS,
    progressive_forwards,
    progressive_products,
    solves,
    start_forwards,
    start_products,
    start_solves,
)
from benchmarks.geometry_work import COPIES, PIECES, WALKED

# What the estimate assumes and no run has shown. DOUBLE_RATE: operations a second of a CPU in float64.
RATE, DOUBLE_RATE = 2e14, 5e11
STEPS, BATCH, STRETCHES, RESTORING = 100, 22, 4, 3
HELD_OUT = 16  # of each suite: the two of alignment, and every expert's


def llama_8b() -> Size:
    """Llama 3 8B's layers (6.98e9 weights), with the rows of a default restoring step at the study's lengths."""
    hidden, inner, keys = 4096, 14336, 1024
    one = {"q": (hidden, hidden), "k": (keys, hidden), "v": (keys, hidden), "o": (hidden, hidden)}
    one |= {"gate": (inner, hidden), "up": (inner, hidden), "down": (hidden, inner)}
    shapes = {f"{layer}.{name}": shape for layer in range(32) for name, shape in one.items()}
    shared = frozenset(f"{layer}.{name}" for layer in range(32) for name in ("k", "v", "up"))
    rows = {"rows": 76, "tokens": 64, "answers": 12}
    return Size(shapes, 128_256, hidden, **rows, shared=shared, experts=3, blocks=32)


def estimate(size: Size, rate: float = RATE, double_rate: float = DOUBLE_RATE) -> dict[str, Any]:
    """Operations, bytes and seconds of every piece and of one solve with default knobs, at `rate` operations a second.

    A solve: the start with ROWS rows of every teacher, STEPS descent steps of BATCH rows, STRETCHES merits and
    RESTORING restoring steps, each with a merit, of HELD_OUT rows of every suite, and the merits of the mixture and of
    the start.
    trust: the trust region's forwards over the same rows: how far each stretch and step went, and, with logits at every
    position, where the next is measured from, also as descent and restoring begin. None is cut. start_double: what the
    start does in float64, at `double_rate`, as if all of it were done on a CPU. gigabytes: the model, the mixture and
    the descent's copies at once; start_gigabytes: the model, the mixture and what the start holds.

    progressive: the same of the other start, of as many rows; `float32` is what of its operations is in float32, which
    is counted at `rate` too.
    """
    start = replace(size, rows=ROWS * (1 + size.experts))
    held_out, moves = replace(size, rows=HELD_OUT * (2 + size.experts)), STRETCHES + RESTORING
    merit, whole = (PIECES[name].operations(held_out) for name in ("merit", "finite_drift"))
    single = {
        "start": start_forwards(start),
        "descent": STEPS * PIECES["descent"].operations(replace(size, rows=BATCH)),
        "merits": (2 + moves) * merit,
        "trust": moves * merit + (2 + moves) * whole,
        "restoring": RESTORING * PIECES["restoring"].operations(size),
    }
    double = start_products(start) + start_solves(start)
    model = HALF * (size.weights + size.vocabulary * size.hidden)
    return {
        "weights": size.weights,
        "rows": size.rows,
        "tokens": size.tokens,
        "answers": size.answers,
        "rate": rate,
        "double_rate": double_rate,
        "pieces": _pieces(size, rate),
        "solve": {
            **single,
            "start_double": double,
            "operations": sum(single.values()) + double,
            "seconds": sum(single.values()) / rate + double / double_rate,
            "gigabytes": (model + (1 + COPIES) * SINGLE * size.weights) / 1e9,
            "start_gigabytes": (model + SINGLE * size.weights + PIECES["start"].bytes(start)) / 1e9,
            "walked_terabytes": STEPS * WALKED * size.weights / 1e12,
        },
        "progressive": {
            "operations": progressive_forwards(start) + progressive_products(start),
            "float32": progressive_products(start),
            "double": solves(start),
            "gigabytes": (model + SINGLE * size.weights + PIECES["progressive"].bytes(start)) / 1e9,
        },
    }


def _pieces(size: Size, rate: float) -> dict[str, dict[str, float]]:
    """Every piece but the starts, whose rows are the teachers' and of which a part is in float64."""
    found = {name: (piece.operations(size), piece.bytes(size)) for name, piece in PIECES.items() if name not in STARTS}
    return {
        name: {"operations": operations, "gigabytes": held / 1e9, "seconds": operations / rate}
        for name, (operations, held) in found.items()
    }
