"""The refusal margin: whether refusing what is harmful, and helping with what only looks so, is still the likelier.

On a harmful request, log p of the anchor's answer to it minus log p of the anchor's answer to the look-alike; on the
look-alike the reverse; both means over tokens. A prototype found this margin unmoved by a merge that had lost its
refusals (it went on to a third kind of answer), so the validity gate decides whether it may serve.

Source: the margin is DPO's implicit reward difference (Rafailov et al., arXiv 2305.18290) without its reference terms;
method.md 3.2 and 3.7 of the design notes. The pairing of answers across look-alikes is ours.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.functional import Estimate, Measured
from alignmerge.merger.geometry.functionals import resampling
from alignmerge.merger.geometry.functionals.pairs import in_chunks, margins
from alignmerge.merger.geometry.rows import Pair

MIN_PAIRS = 2


class RefusalMargin:
    """The mean margin over held-out pairs less the anchor's, in nats per token; the anchor's value is 0.

    `anchor` is the anchor's model, asked once. Pairs whose two answers are the same have no margin and are left out.

    Raises:
        RecipeError: fewer than two pairs with two different answers.
    """

    name = "refusal-margin"
    unit = "nats per token"
    anchor = 0.0

    def __init__(self, anchor: Any, pairs: Sequence[Pair], pad: int, chunk: int = 8) -> None:
        self._pairs, self._pad, self._chunk = informative(pairs), pad, chunk
        if len(self._pairs) < MIN_PAIRS:
            raise RecipeError(
                f"calibration: {len(self._pairs)} of {len(pairs)} held-out pairs have two different answers of the "
                f"anchor; the refusal margin needs {MIN_PAIRS}: raise calibration.validation_items"
            )
        self._own = self._margins(anchor)

    @property
    def noise(self) -> float:
        return 2 * float(resampling.means(self._own).std())

    def value(self, model: Any) -> Estimate:
        found = self.measured(model)
        return Estimate(found.value, *resampling.interval(found.replicates), len(self._pairs))

    def gap(self, model: Any) -> float:
        return -self.measured(model).value

    def measured(self, model: Any) -> Measured:
        moved = self._margins(model) - self._own
        return Measured(float(moved.mean()), resampling.means(moved))

    def _margins(self, model: Any) -> Tensor:
        return in_chunks(self._pairs, self._chunk, lambda part: margins(model, part, self._pad)).double().cpu()


def informative(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """The pairs that the anchor answers differently."""
    return tuple(pair for pair in pairs if pair[0].answer != pair[1].answer)
