"""What the two starts of a solve must do, by formula: the closed form in ROUNDS rounds, and the progressive start.

`size.rows` are the rows of all teachers together, of each as many; no more than a start takes of it.
"""

from itertools import accumulate

from alignmerge.merger.geometry.progressive import CHUNK
from alignmerge.merger.geometry.start import ROUNDS
from benchmarks.geometry_size import DOUBLE, HALF, SINGLE, Size

STARTS = ("start", "progressive")  # the pieces by name


def grams(size: Size) -> float:
    """Operations of X^T X, once for every distinct input."""
    return sum(2.0 * size.rows * size.tokens * side**2 for side in size.inputs)


def solves(size: Size) -> float:
    """Operations of a float64 solve of every layer: an LU decomposition and two triangular solves."""
    return sum(2 / 3 * inside**3 + 2.0 * out * inside**2 for out, inside in size.shapes.values())


def start_forwards(size: Size) -> float:
    """Operations of the start in the model's dtype: forward passes, with logits at every position, which none reads."""
    return ROUNDS * (size.product + size.logits(size.tokens))


def start_products(size: Size) -> float:
    """Operations of its float64 products: X^T X of every distinct input, tau_k A_k of every layer and expert."""
    moves = sum(2.0 * out * inside**2 for out, inside in size.shapes.values())
    return ROUNDS * (grams(size) + size.experts * moves)


def start_solves(size: Size) -> float:
    """Operations of its float64 solves."""
    return ROUNDS * solves(size)


def start_bytes(size: Size) -> float:
    """Bytes while the last teacher's charts are summed: these in float64, shared ones once, all before in float32."""
    charts = sum(inside**2 for _, inside in size.shapes.values())
    moves = size.weights if size.experts > 1 else 0
    return float(SINGLE * (moves + charts) + DOUBLE * sum(side**2 for side in size.inputs))


def progressive_forwards(size: Size) -> float:
    """Operations of the progressive start in the model's dtype; none is the output head's.

    Whole: each teacher's own pass, every layer's answer to its input, each block's last pass. The pass that enters ends
    before the last block. Each group of layers is reached once by a pass through what the block has before it; the
    first batch goes once more through each block for the order.
    """
    groups = [sum(out * inside for out, inside in group) for group in size.groups]
    reached = sum(accumulate(groups[:-1])) / sum(groups)
    ordering = min(CHUNK / size.rows, 1 / (1 + size.experts))
    return size.product * (3 + (size.blocks - 1) / size.blocks + reached + ordering)


def progressive_products(size: Size) -> float:
    """Operations of its float32 products: X^T X of every distinct input, (y - W x) x^T of every layer."""
    return grams(size) + size.product


def progressive_bytes(size: Size) -> float:
    """Bytes while the last block's largest group is solved: states twice, a block's outputs, the systems, the result.

    Left out: what is gone by then (the clones of one block of a teacher, of the embeddings before), what the blocks are
    given beside the states, a batch's own activations and what a solve copies of its system.
    """
    block = [shape for group in size.groups for shape in group]
    states = 2 * size.hidden + sum(out for out, _ in block)
    systems = max(sum(inside * (inside + out) for out, inside in group) for group in size.groups)
    return float(HALF * size.rows * size.tokens * states + DOUBLE * systems + SINGLE * size.weights)
