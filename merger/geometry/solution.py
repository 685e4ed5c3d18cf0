"""From a mixture loaded in a model to the AlignMerge solution and its account."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from alignmerge.errors import BudgetExceeded
from alignmerge.merger.geometry import descent, solver
from alignmerge.merger.geometry.budget import DEFAULT_LIMIT, Budget, Form, noise_note
from alignmerge.merger.geometry.chart import Chart, make_chart
from alignmerge.merger.geometry.functional import AlignmentFunctional, Estimate
from alignmerge.merger.geometry.functionals.aqi import FrameFit
from alignmerge.merger.geometry.gradients import merged_linears
from alignmerge.merger.geometry.merit import Merit, Terms, Weights
from alignmerge.merger.geometry.progressive import progressive
from alignmerge.merger.geometry.residuals import Kind
from alignmerge.merger.geometry.rows import ALIGNMENT, Calibration
from alignmerge.merger.geometry.start import Teachers, closed_form, unfit
from alignmerge.merger.geometry.trust import Trust
from alignmerge.merger.geometry.validity import Chosen, Ladder, NoBudget, candidates, choose
from alignmerge.merger.reference import tensor_digest
from alignmerge.progress import say, track

Start = Literal["progressive", "closed-form", "mixture"]


@dataclass(frozen=True)
class Knobs:
    """Settings of the solve, of its budget and of its chart.

    start: "progressive" (see progressive.py), "closed-form" (start.py) or "mixture", for what the solve moves from.
    trust: nats per token that one stretch or step may go, 0: any way. metric: "identity", "fisher" (diagonal) or
    "kfac", the last two estimated at the start on skill rows. damping: relative to the mean eigenvalue. threads: CPU
    threads of the solve, fixed because the order of sums, and so the last digit, depends on their number; the result
    is then the same wherever the recipe runs on the same platform.
    """

    weights: Weights
    descent: descent.Settings
    restore: solver.Settings
    start: Start = "mixture"
    budget: float = 0.05
    budget_form: Form = "soft"
    functional: str = "own-answers"
    trust: float = 0.0
    metric: str = "identity"
    damping: float = 0.3
    fisher_rows: int = 32
    threads: int = 2

    @property
    def residual(self) -> Kind:
        """The residual that descent and restoration share."""
        return self.descent.residual


@dataclass(frozen=True)
class Solution:
    """The solved linear weights by name, float32, and what merge.json keeps of how they came about."""

    weights: Mapping[str, Tensor]
    account: Mapping[str, Any]


@contextmanager
def fixed_threads(count: int) -> Iterator[None]:
    """Run torch on exactly `count` CPU threads, and restore the old number after."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def solve(
    load: Callable[[], Any],
    mixture: dict[str, Tensor],
    calibration: Calibration,
    knobs: Knobs,
    ladder: Ladder,
    fit: FrameFit | None,
    keep_hard: bool = True,
    teachers: Teachers | None = None,
) -> Solution:
    """The solution. `load` gives a model that holds the mixture, in any dtype; `mixture` its linear weights, float32.

    The model shares no memory with `mixture`, which holds what the descent began with afterwards. `teachers` are what a
    start other than the mixture needs, else nothing reads them; `ladder` and `fit` what the validity gate asks for; it
    runs first, so that models are loaded one at a time.

    Raises:
        RecipeError: an unknown functional or metric, no rows, or none that the chosen metric can be estimated on; see
            closed_form and progressive too.
        ValueError: a start that needs teachers, and none.
        NoBudget: a hard budget, and no functional that can tell the anchor from a weakened one.
        BudgetExceeded: a hard budget that does not hold at the end, where `keep_hard`.
    """
    with fixed_threads(knobs.threads):
        chosen = _functional(calibration, knobs, ladder, fit)
        model = load()
        work = _Work(model, mixture, calibration, knobs, chosen, teachers)
        lines, ended = work.run()
        if keep_hard:
            _check_hard(work.budget)
        functional = chosen.functional
        after = None if functional is None else functional.value(model)._asdict()
    say(f"AlignMerge: {ended}")
    account = {
        "calibration": calibration.digest,
        "rows": len(calibration.rows),
        "validation_rows": len(calibration.validation),
        "skill_validation_rows": len(calibration.skill_validation),
        "metric": knobs.metric,
        "damping": None if knobs.metric == "identity" else knobs.damping,
        "threads": knobs.threads,
        "device": model.device.type,
        "start": work.begun,
        "functional": {"name": chosen.record.get("functional"), "before": work.before, "after": after},
        "validity": dict(chosen.record),
        "budget": work.budget.to_json(),
        "trace": {"settings": _settings(knobs), "steps": lines, "ended": ended},
    }
    return Solution(work.weights, account)


def _check_hard(budget: Budget) -> None:
    if budget.form != "hard" or not budget.on or budget.gap is None or budget.holds(budget.gap):
        return
    raise BudgetExceeded(
        f"budget: {budget.functional} of the solved merge is {budget.gap:.4f} {budget.unit} from the anchor's, over "
        f"the hard limit of {budget.limit:g} by {budget.gap - budget.limit:.4f}; raise parameters.budget, steps, "
        f"alignment_share or lambda_align",
        gap=budget.gap,
        limit=budget.limit,
    )


def _functional(calibration: Calibration, knobs: Knobs, ladder: Ladder, fit: FrameFit | None) -> Chosen:
    """What the budget is kept on; none where lambda_bud is 0."""
    if knobs.weights.bud == 0:
        return Chosen(None, {"functional": None, "gate": "not run: lambda_bud is 0, so there is no budget"})
    return choose(candidates(knobs.functional, calibration, fit), ladder, hard=knobs.budget_form == "hard")


def _limit(knobs: Knobs, functional: AlignmentFunctional | None) -> float:
    """The budget's limit in the unit of the functional that is used: the recipe's number has that of the one asked for.

    Raises:
        NoBudget: a hard budget on a functional that is not the one asked for.
    """
    if functional is None or functional.name == knobs.functional:
        return knobs.budget
    if knobs.budget_form == "hard":
        raise NoBudget(
            f"parameters.budget: {knobs.budget:g} was stated for {knobs.functional}, which is not used here; state it "
            f"for functional: {functional.name}, in {functional.unit}"
        )
    if functional.noise is None:
        say(f"budget: its limit is now the default of {functional.name}, {DEFAULT_LIMIT:g} {functional.unit}")
        return DEFAULT_LIMIT
    say(f"budget: its limit is now {functional.name}'s own noise, {functional.noise:.4g} {functional.unit}")
    return functional.noise


def _noise(functional: AlignmentFunctional, mixture: Estimate) -> tuple[float, str]:
    """Two standard errors of the functional, and at which model: the mixture where the anchor's own value is fixed."""
    return ((mixture.high - mixture.low) / 2, "mixture") if functional.noise is None else (functional.noise, "anchor")


class _Work:
    """One solve: the mixture's terms, the start, the descent, the restoration."""

    def __init__(
        self,
        model: Any,
        mixture: dict[str, Tensor],
        calibration: Calibration,
        knobs: Knobs,
        chosen: Chosen,
        teachers: Teachers | None,
    ) -> None:
        self._model, self._start, self._calibration, self._knobs = model, mixture, calibration, knobs
        self._teachers = teachers
        self.begun: dict[str, str | None] = {"from": "mixture", "why": None}
        functional = chosen.functional
        strength = knobs.weights.bud if functional is not None else 0.0
        limit = _limit(knobs, functional)
        self.budget = Budget(limit, strength, knobs.budget_form)
        if functional is not None:
            self.budget = replace(self.budget, functional=functional.name, unit=functional.unit)
        held_out = (*calibration.validation, *calibration.skill_validation)
        self._merit = Merit(held_out, functional, knobs.weights, limit, kind=knobs.residual, pad=calibration.pad)
        self._trust = Trust(held_out, knobs.trust, calibration.pad)
        self.before: dict[str, Any] | None = None
        if functional is not None:
            before = functional.value(model)
            self.before = before._asdict()
            if note := noise_note(self.budget, *_noise(functional, before)):
                say(note)
        self.weights: Mapping[str, Tensor] = mixture

    def run(self) -> tuple[list[dict[str, Any]], str]:
        """The trace's lines and why it ended."""
        knobs = self._knobs
        lines, terms = self._begin()
        chart = _chart(self._model, self._start, self._calibration, knobs)
        shared: dict[str, Any] = {"merit": self._merit, "chart": chart, "trust": self._trust}
        down = descent.Descent(self._model, self._start, self._calibration, knobs.descent, budget=self.budget, **shared)
        self.weights = down.weights
        if knobs.descent.steps and knobs.weights.align + knobs.weights.skill + knobs.weights.bud > 0:
            with track("AlignMerge descent", knobs.descent.steps) as bar:
                found, terms = down.run(terms, bar)
            lines += found
        back = solver.Solver(
            self._model, self._start, down.weights, self._calibration, knobs.restore, budget=down.budget, **shared
        )
        with track("AlignMerge restoration", knobs.restore.steps) as bar:
            found, terms, ended = back.run(terms, bar)
        self.budget = back.budget
        return [{"step": step, **line} for step, line in enumerate(lines + found)], ended

    def _begin(self) -> tuple[list[dict[str, Any]], Terms]:
        """The lines of what the solve starts from, and its terms; a start is kept where its merit is no larger.

        L_geo is 0 in them: it is the distance from the start.
        """
        terms = self._merit.terms(self._model, 0.0)
        lines: list[dict[str, Any]] = [{"phase": "mixture", **terms.to_json()}]
        layers = merged_linears(self._model)
        if self._knobs.start == "mixture":
            return lines, terms
        if self._teachers is None:
            raise ValueError("this start needs the teachers")
        if reason := unfit(list(layers), self._teachers, self._knobs.weights):
            return lines, self._from_mixture(reason, terms)
        kind = self._knobs.start
        begin = closed_form if kind == "closed-form" else progressive
        found = begin(self._model, self._calibration, self._teachers, self._knobs.weights)
        then = self._merit.terms(self._model, 0.0)
        good = then.merit <= terms.merit
        lines.append({"phase": "start", **then.to_json(), "kept": int(good)})
        if good:
            self._start.update(found)  # in place: one copy of the weights less
            self.begun = {"from": kind, "why": None}
            return lines, then
        for name, module in layers.items():
            module.weight.data.copy_(self._start[name])
        return lines, self._from_mixture(f"the {kind} start has a larger merit", terms)

    def _from_mixture(self, reason: str, terms: Terms) -> Terms:
        say(f"start: {reason}, so the solve starts from the mixture")
        self.begun = {"from": "mixture", "why": reason}
        return terms


def _settings(knobs: Knobs) -> dict[str, Any]:
    return asdict(knobs)


def _chart(model: Any, mixture: Mapping[str, Tensor], calibration: Calibration, knobs: Knobs) -> Chart:
    skill = [row for row in calibration.rows if row.source != ALIGNMENT] or list(calibration.rows)
    generator = torch.Generator().manual_seed(knobs.restore.seed)
    order = torch.randperm(len(skill), generator=generator)[: knobs.fisher_rows].tolist()
    return make_chart(
        knobs.metric,
        model,
        [skill[i] for i in order],
        merged_linears(model),
        damping=knobs.damping,
        seed=knobs.restore.seed,
        pad=calibration.pad,
        model_digest=None if knobs.metric == "identity" else tensor_digest(mixture),
    )
