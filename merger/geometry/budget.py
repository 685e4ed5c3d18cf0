"""Budgets: how much of the anchor's alignment a merge may lose, and how hard the solve works to keep within it.

A budget acts through the weight of the alignment rows, in one of two forms:

    soft   lambda * max(0, gap - limit), anew at every step: the hinge penalty of L_bud. May end over budget
    hard   mu <- max(0, mu + rho (gap - limit)) after every step: the multiplier of an augmented Lagrangian, which rises
           until the budget holds and falls again where it does not bind

Source: arXiv 2512.16245 for the soft form; the hard one is Hestenes-Powell-Rockafellar's for an inequality, as usual.
How either becomes a row weight is ours.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from alignmerge.errors import RecipeError, TensorMismatch

Form = Literal["soft", "hard"]
DEFAULT_LIMIT = 0.15  # of own-answers, in nats per token
FORMS: tuple[Form, ...] = ("soft", "hard")


@dataclass(frozen=True)
class Budget:
    """A budget and what it knows of the merge; immutable, `update` returns the next one.

    limit: the largest gap that is within budget, in `unit` (the functional's). strength: lambda or rho; 0 switches the
    budget off. gap: the last one seen. multiplier: mu of the hard form.

    Raises:
        RecipeError: an unknown form, a limit or strength that is negative or not finite.
    """

    limit: float
    strength: float
    form: Form = "soft"
    functional: str = "own-answers"
    unit: str = "nats per token"
    gap: float | None = None
    multiplier: float = 0.0

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise RecipeError(f"parameters.budget_form: must be one of {', '.join(FORMS)}, not {self.form!a}")
        for name, value in (("budget", self.limit), ("lambda_bud", self.strength)):
            if not (math.isfinite(value) and value >= 0):
                raise RecipeError(f"parameters.{name}: must be a finite number of at least 0, not {value!a}")

    @property
    def on(self) -> bool:
        """Whether the budget acts at all."""
        return self.strength > 0

    def excess(self, gap: float) -> float:
        """How far `gap` is over budget, 0 where it is within."""
        return max(0.0, gap - self.limit)

    def holds(self, gap: float) -> bool:
        """Whether `gap` is within budget; never where it is not a number."""
        return gap <= self.limit

    def weight(self) -> float:
        """What the budget adds to the weight of every alignment row; 0 before the first gap was seen."""
        if not self.on or self.gap is None:
            return 0.0
        return self.strength * self.excess(self.gap) if self.form == "soft" else self.multiplier

    def update(self, gap: float) -> "Budget":
        """The budget after `gap` was measured.

        Raises:
            TensorMismatch: the gap is not a finite number.
        """
        if not math.isfinite(gap):
            raise TensorMismatch(f"model: {self.functional} is {gap} away from the anchor; a weight is broken")
        if self.form == "soft" or not self.on:
            return replace(self, gap=gap)
        return replace(self, gap=gap, multiplier=max(0.0, self.multiplier + self.strength * (gap - self.limit)))

    @property
    def binding(self) -> str:
        """One line: what the budget does to the merge now."""
        if not self.on:
            return f"the budget on {self.functional} is switched off"
        if self.gap is None:
            return f"the budget on {self.functional} has not been measured"
        state = f"gap {self.gap:.4f} against {self.limit:g} {self.unit}"
        if not self.holds(self.gap):
            return f"the budget on {self.functional} is exceeded by {self.gap - self.limit:.4f}: {state}"
        pull = self.weight()
        if pull > 0:
            return f"the budget on {self.functional} holds and binds (multiplier {pull:.4g}): {state}"
        return f"the budget on {self.functional} holds and does not bind: {state}"

    def to_json(self) -> dict[str, Any]:
        """What merge.json keeps."""
        return {**vars(self), "weight": self.weight(), "binding": self.binding}


def noise_note(budget: Budget, noise: float, where: str) -> str | None:
    """The line that says a budget asks for more than the functional can tell, or None where it does not.

    noise: the functional's own, two standard errors at the model that `where` names.
    """
    if not budget.on or budget.limit >= noise:
        return None
    return (
        f"budget {budget.limit:g} {budget.unit} on {budget.functional} is below its own noise of {noise:.4f} "
        f"(two standard errors at the {where})"
    )
