"""What a data-aware method keeps of every model, gathered by the pipeline while it has each one loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alignmerge.errors import StorageError

if TYPE_CHECKING:
    from alignmerge.merger.methods.base import View


@dataclass(frozen=True)
class Gathered:
    """A method's `gather` of the anchor on its alignment rows and of each expert, by name, on rows of its domain.

    digest: SHA-256 of every token of every row. anchor_on: the anchor's on each expert's rows, for methods that ask.
    device: what the models were computed on. products: how, where not by the processor's own (see products.py).
    """

    anchor: Any
    experts: Mapping[str, Any]
    digest: str
    anchor_on: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    products: str | None = None

    def in_order(self, view: "View") -> tuple[Any, ...]:
        """The anchor's, then the experts' in the order in which the merge sees them."""
        return (self.anchor, *(self.experts[expert.name] for expert in view.experts))


def check_memory(method: str, each: int, models: int) -> None:
    """Return when `models` times `each` bytes can be kept in memory, or when the system does not say how much is free.

    Raises:
        StorageError: they cannot.
    """
    from alignmerge.merger.plan import available_memory

    free = available_memory()
    if free is not None and each * models > free:
        raise StorageError(
            f"{method}: keeps up to {each / 1e9:.1f} GB of each of {models} models in memory while it merges, "
            f"{each * models / 1e9:.1f} GB in all, and {free / 1e9:.1f} GB are available; merge fewer experts or use a "
            f"machine with more memory"
        )
