"""How large a model and the rows asked of it are, as the geometry benchmark's formulas see them."""

from collections.abc import Mapping
from dataclasses import dataclass

HALF, SINGLE, DOUBLE = 2, 4, 8  # bytes of a bfloat16, of a float32 and of a float64


@dataclass(frozen=True)
class Size:
    """A model's merged layers (d_out, d_in) by name, its output head, and the rows asked of it.

    shapes: in the order of a forward pass. shared: layers whose input is that of a layer before, as the key's and the
    value's are the query's. experts: the teachers of a start, beside the anchor. blocks: how many blocks, all alike,
    the layers are in.
    """

    shapes: Mapping[str, tuple[int, int]]
    vocabulary: int
    hidden: int
    rows: int
    tokens: int
    answers: int
    points: int = 8
    shared: frozenset[str] = frozenset()
    experts: int = 1
    blocks: int = 1

    @property
    def weights(self) -> int:
        return sum(out * inside for out, inside in self.shapes.values())

    @property
    def layer(self) -> int:
        """Weights of the largest layer."""
        return max(out * inside for out, inside in self.shapes.values())

    @property
    def sides(self) -> list[int]:
        return [side for shape in self.shapes.values() for side in shape]

    @property
    def inputs(self) -> list[int]:
        """The widths of the layers' inputs, of a shared one once."""
        return [inside for name, (_, inside) in self.shapes.items() if name not in self.shared]

    @property
    def groups(self) -> list[list[tuple[int, int]]]:
        """The layers of one block, those that share an input together, in the order of a forward pass."""
        found: list[list[tuple[int, int]]] = []
        for name, shape in list(self.shapes.items())[: len(self.shapes) // self.blocks]:
            if name in self.shared:
                found[-1].append(shape)
            else:
                found.append([shape])
        return found

    @property
    def product(self) -> float:
        """Operations of one product of every weight with every token."""
        return 2.0 * self.weights * self.rows * self.tokens

    def logits(self, tokens: int) -> float:
        """Operations of the output head at `tokens` positions of each row."""
        return 2.0 * self.vocabulary * self.hidden * self.rows * tokens
