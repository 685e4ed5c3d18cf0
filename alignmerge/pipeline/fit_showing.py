"""A search as text, line by line as it goes, and as the record fit.json."""

from collections.abc import Callable, Sequence
from typing import Any

from alignmerge import __version__, jsonio
from alignmerge.pipeline.fitting import Fit, Objective, Setting
from alignmerge.pipeline.search import Axis, Budget, Evaluation, Point
from alignmerge.policies.reasons import figure
from alignmerge.policies.schema import policy_digest

SCHEMA = "alignmerge.fit/1"
FIT = "fit.json"
_WIDTH = 17
_INDENT = 24


class Trace:
    """Writes a table that grows by two lines per evaluation: skill and budgets, then the knobs."""

    def __init__(self, setting: Setting, write: Callable[[str], None]) -> None:
        self._setting, self._write = setting, write
        self._names = [expert.model for expert in setting.recipe.experts]
        self._rules: list[str] = []

    def started(self, objective: Objective) -> None:
        """What is searched, the budgets by letter and the table's head."""
        setting, write = self._setting, self._write
        items = ", ".join(f"{use.items} of {use.name}" for use in objective.anchor.suites)
        write(f"fit: {setting.evaluations} evaluations of {setting.recipe.method} on validation items ({items})")
        write(f"  searched: {', '.join(axis_text(axis, self._names) for axis in setting.space.axes)}")
        anchor = objective.skill(objective.anchor)
        write(f"  skill: mean of {', '.join(objective.skills)}; the anchor's is {anchor:.3f}")
        self._rules = [rule.id for rule in setting.policy.rules if rule.id not in objective.left_out]
        for letter, rule in zip(_letters(self._rules), self._rules, strict=True):
            write(f"  {letter}: {rule} {objective.limit_text(rule)}")
        for line in (*objective.notes, *setting.notes):
            write(f"  note: {line}")
        write("  a budget holds here when the point estimate is inside; its bound is in brackets, ! marks what is over")
        head = "".join(letter.ljust(_WIDTH) for letter in _letters(self._rules))
        write(f"{'no':>4}  {'mean skill':>10}  {'inside':<6}{head}".rstrip())

    def told(self, one: Evaluation) -> None:
        """One evaluation's lines."""
        if one.judged.problem is not None:
            self._write(f"{one.number:>4}  {'-':>10}  {'no':<6}{one.judged.problem}")
        else:
            found = {budget.rule: budget for budget in one.budgets}
            cells = "".join(_cell(found.get(rule)).ljust(_WIDTH) for rule in self._rules)
            self._write(f"{one.number:>4}  {one.skill:>10.3f}  {'yes' if one.feasible else 'no':<6}{cells}".rstrip())
        self._write(f"{'':{_INDENT}}{knob_text(one.knobs, self._names)} ({one.stage})")


def conclusion(fit: Fit) -> list[str]:
    """What the search found, in a line or more."""
    best, names = fit.best, [expert.model for expert in fit.recipe.experts]
    made = len(fit.search.evaluations)
    end = "" if made == fit.search.wanted else f"; the space holds no more than {made} points"
    if best.feasible:
        assert best.skill is not None
        chosen = f"chosen: evaluation {best.number} of {made}, mean skill {best.skill:.3f}{end}"
        return [chosen, f"  {knob_text(best.knobs, names)}", *(f"  note: {line}" for line in fit.expectations())]
    policy = fit.objective.policy.name
    lines = [f"none of {made} merges evaluated is inside the budgets of {policy}{end}; nothing is published"]
    if best.judged.problem is not None:
        lines.append(f"  no merge could be judged: {best.judged.problem}")
    if (budget := best.binding) is not None:
        lines.append(f"  least outside: evaluation {best.number}: {knob_text(best.knobs, names)}")
        lines.append(f"  binding: {binding_text(budget)}")
    return lines


def binding_text(budget: Budget) -> str:
    """The budget that is exceeded, and by how much."""
    value, limit = (budget.sign * number for number in (budget.value, budget.limit))
    over = f"over by {budget.excess:.3g}" + (f" (n={budget.n})" if budget.n else "")
    return f"{budget.rule}: {figure(value, (limit,))} where {limit:.4g} is allowed, {over}"


def axis_text(axis: Axis, names: Sequence[str]) -> str:
    """An axis with its ends."""
    if axis.scale == "choice":
        return f"{axis.name} ({' or '.join(axis.choices)})"
    return f"{_label(axis.name, names)} {axis.low:.4g} to {axis.high:.4g}"


def knob_text(knobs: Point, names: Sequence[str]) -> str:
    """A point as a reader knows it; `names` are the experts'."""
    shown = {key: value if isinstance(value, str) else f"{value:.4g}" for key, value in knobs.items()}
    parts = (f"{_label(key, names)} {value}" for key, value in shown.items())
    return ", ".join(parts)


def _label(key: str, names: Sequence[str]) -> str:
    if not key.startswith("experts."):
        return key
    return f"weight of {names[int(key.split('.')[1])].rstrip('/').split('/')[-1]}"


def _letters(rules: Sequence[str]) -> list[str]:
    return [chr(ord("a") + index) if index < 26 else f"r{index}" for index in range(len(rules))]


def _cell(budget: Budget | None) -> str:
    if budget is None:
        return "-"
    value, limit = budget.sign * budget.value, budget.sign * budget.limit
    bound = "-" if budget.bound is None else f"{budget.sign * budget.bound:.3f}"
    return f"{figure(value, (limit,))}{'' if budget.holds else '!'} ({bound})"


def fit_json(fit: Fit, created: str, spent: Any = None) -> dict[str, Any]:
    """fit.json: what was searched, from which seed, on which items, and every evaluation."""
    objective = fit.objective
    return {
        "schema": SCHEMA,
        "created": created,
        "version": __version__,
        "policy": {"name": objective.policy.name, "digest": policy_digest(objective.policy)},
        "recipe": {"digest": fit.recipe.digest, "resolved": fit.recipe.to_json()},
        "seed": fit.search.seed,
        "split": fit.plan.split,
        "suites": [{"name": use.name, "digest": use.digest, "items": use.items} for use in objective.anchor.suites],
        "skills": list(objective.skills),
        "anchor": {"checkpoint": objective.anchor.checkpoint, "skill": objective.skill(objective.anchor)},
        "left_out": dict(objective.left_out),
        "space": [_axis(axis) for axis in fit.search.space.axes],
        "wanted": fit.search.wanted,
        "evaluations": [_evaluation(one) for one in fit.search.evaluations],
        "best": fit.best.number,
        "feasible": fit.best.feasible,
        "chosen": fit.chosen.digest if fit.best.feasible else None,
        "spent_by": spent,
    }


def _axis(axis: Axis) -> dict[str, Any]:
    ends = {"choices": list(axis.choices)} if axis.scale == "choice" else {"low": axis.low, "high": axis.high}
    return {"name": axis.name, "scale": axis.scale, "integer": axis.integer, **ends}


def _evaluation(one: Evaluation) -> dict[str, Any]:
    return {
        "number": one.number,
        "stage": one.stage,
        "knobs": dict(one.knobs),
        "skill": one.skill,
        "feasible": one.feasible,
        "violation": None if one.judged.problem else one.violation,
        "problem": one.judged.problem,
        "budgets": [_budget(budget) for budget in one.budgets],
    }


def _budget(budget: Budget) -> dict[str, Any]:
    return {
        "rule": budget.rule,
        "value": budget.sign * budget.value,
        "bound": None if budget.bound is None else budget.sign * budget.bound,
        "limit": budget.sign * budget.limit,
        "holds": budget.holds,
        "binds": budget.binds,
        "excess": budget.excess,
        "n": budget.n,
    }


def fit_notes(fit: Fit, record: dict[str, Any]) -> list[str]:
    """What the run of the chosen merge says of the search."""
    made = len(fit.search.evaluations)
    return [
        f"The knobs were chosen on validation items: evaluation {fit.best.number} of {made}, in {FIT} (SHA-256 of its "
        f"content {jsonio.digest(record)}). The verdict rests on test items, which the search never saw."
    ]
