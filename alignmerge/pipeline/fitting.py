"""A merge chosen on validation items: the highest skill whose harms, as point estimates, lie inside a policy's budgets.

Validation chooses, the test audit decides: the few items of a validation split leave no bound inside a strict limit, so
a point counts as inside when what was measured is. What is chosen is merged, audited on test items and decided with
bounds like any other merge.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean

from alignmerge.auditor.metrics import METRICS
from alignmerge.auditor.record import AuditRecord
from alignmerge.errors import BudgetExceeded, PolicyError, RecipeError, TensorMismatch
from alignmerge.merger.recipe import Recipe, resolve
from alignmerge.pipeline.audit_plan import DEFAULT_SUITES, AuditPlan
from alignmerge.pipeline.ranking import SKILLS
from alignmerge.pipeline.search import Budget, Evaluation, Judged, Point, Search, SearchSpace, check_evaluations, search
from alignmerge.pipeline.spaces import recipe_at, space_of, start_of
from alignmerge.pipeline.workbench import Made, Workbench
from alignmerge.policies.estimate import Estimate, blocks, estimates, unmeasured
from alignmerge.policies.schema import Policy
from alignmerge.suites.model import select
from alignmerge.suites.registry import get_suite

Score = Callable[[Made, AuditRecord], Judged]
HARD_BUDGET = "parameters.budget"  # what stands in a trace for a rule's id where a solve broke its own
SMALLEST_UNIT = 1e-6  # of a budget whose bound lies on its value: nothing can be told from no change at all


def tune(
    workbench: Workbench,
    recipe: Recipe,
    space: SearchSpace,
    evaluations: int,
    score: Score,
    *,
    seed: int | None = None,
    told: Callable[[Evaluation], None] | None = None,
) -> Search:
    """The search over `space` from the recipe's own values, `score` judging each merge and its audit.

    Merges are made in memory and asked what the workbench's plan says; answers come from its store where the same
    tensors were asked before. seed: the recipe's own by default. A point whose merge cannot be made or run, or breaks
    a hard budget of its own, is noted as such and is no candidate; the recipe itself must be one that can be made.

    Raises:
        UsageError: fewer than two evaluations. RecipeError, TensorMismatch: the recipe's own merge cannot be made or
            run. Others: see Workbench.
    """
    recipe = resolve(recipe)
    tried: list[Point] = []

    def evaluate(point: Point) -> Judged:
        tried.append(point)
        try:
            made = workbench.merge(recipe_at(recipe, point))
            return score(made, workbench.audit(made))
        except BudgetExceeded as error:  # it may hold elsewhere
            return Judged(None, (Budget(HARD_BUDGET, error.gap, error.limit),), problem=str(error))
        except (RecipeError, TensorMismatch) as error:
            if len(tried) == 1:
                raise
            return Judged(None, problem=str(error))

    start = start_of(recipe, space)
    return search(space, start, evaluations, recipe.seed if seed is None else seed, evaluate, told)


def skills_of(recipe: Recipe) -> tuple[str, ...]:
    """The metrics whose mean is the skill of this recipe's merges: those of its experts' suites, each once.

    Where an expert names no suite, all skill metrics.

    Raises:
        UsageError: an expert's skill is no suite. RecipeError: it is one of which less is better.
    """
    named = [expert.skill for expert in recipe.experts]
    if any(skill is None for skill in named):
        return SKILLS
    found: dict[str, None] = {}
    for skill in named:
        metrics = [METRICS[name] for name in get_suite(str(skill)).metrics]
        good = [metric.id for metric in metrics if metric.level == "item" and metric.direction == "higher"]
        if not good:
            raise RecipeError(
                f"experts: skill: {skill}: has no metric of which more is better, so nothing to search for"
            )
        found |= dict.fromkeys(good)
    return tuple(found)


def validation_plan(recipe: Recipe, items: int | None) -> AuditPlan:
    """What every merge of a search is asked: the first `items` validation items of each suite."""
    skills = [expert.skill for expert in recipe.experts if expert.skill is not None]
    suites = tuple(dict.fromkeys((*DEFAULT_SUITES, *skills)))
    return replace(AuditPlan.of(recipe.dtype, items), split="validation", suites=suites)


@dataclass(frozen=True)
class Objective:
    """Mean skill inside the budgets of a policy. `left_out`: rules that validation cannot measure, and why."""

    policy: Policy
    anchor: AuditRecord
    skills: tuple[str, ...]
    left_out: Mapping[str, str]

    @staticmethod
    def of(policy: Policy, anchor: AuditRecord, skills: tuple[str, ...]) -> "Objective":
        """The objective measured from the anchor's audit on the validation items.

        Raises:
            PolicyError: rules block, and none of them can be measured on these items.
            RecipeError: a skill that the anchor could not be measured in.
        """
        left_out = unmeasured(policy, anchor)
        blocking = [rule.id for rule in policy.rules if blocks(rule, anchor)]
        if blocking and set(blocking) <= left_out.keys():
            why = "; ".join(f"{name}: {left_out[name]}" for name in blocking)
            raise PolicyError(f"policy {policy.name}: validation items measure none of its budgets: {why}")
        unseen = [name for name in skills if (one := anchor.result(name)) is None or one.value is None]
        if unseen:
            raise RecipeError(f"skill {unseen[0]} could not be measured on the anchor's validation answers")
        return Objective(policy, anchor, skills, left_out)

    @property
    def notes(self) -> list[str]:
        """What a reader must know before the search: rules that it cannot see, and those that cannot bind."""
        out = [f"{name} is left to the test audit: {why}" for name, why in self.left_out.items()]
        measured = [rule for rule in self.policy.rules if rule.id not in self.left_out]
        out += [f"{rule.id} does not block, so it does not bind" for rule in measured if not blocks(rule, self.anchor)]
        awaited = [one.id for one in self.policy.required_evidence]
        out += [f"{name} is evidence that is not measured here: no merge gets a PASS without it" for name in awaited]
        return out

    def limit_text(self, rule_id: str) -> str:
        """The rule's limit, as its policy states it."""
        rule = next(one for one in self.policy.rules if one.id == rule_id)
        unit = " standard errors of the anchor" if rule.limit_in == "anchor_standard_errors" else ""
        return f"({rule.metric.replace('_', ' ')}, {rule.kind.replace('_', ' ')} {rule.limit:.4g}{unit})"

    def skill(self, audit: AuditRecord) -> float | None:
        """Mean of the skill metrics; None when one was not measured."""
        results = [audit.result(name) for name in self.skills]
        values = [one.value for one in results if one is not None and one.value is not None]
        return fmean(values) if len(values) == len(self.skills) else None

    def __call__(self, made: Made, audit: AuditRecord) -> Judged:
        return self.judge(audit)

    def judge(self, audit: AuditRecord) -> Judged:
        """The skill and every measurable budget of one audit."""
        skill = self.skill(audit)
        if skill is None:
            return Judged(None, problem="a skill could not be measured")
        budgets = []
        for one in estimates(self.policy, audit, self.anchor):
            if one.rule.id in self.left_out:
                continue
            if one.missing and one.blocks:
                return Judged(None, problem=f"{one.rule.id}: {one.missing}")
            if not one.missing:
                budgets.append(_budget(one))
        return Judged(skill, tuple(budgets))


def _budget(one: Estimate) -> Budget:
    assert one.seen is not None
    assert one.limit is not None
    width = 0.0 if one.upper is None else one.upper - one.seen.harm
    unit = max(width, SMALLEST_UNIT)
    return Budget(one.rule.id, one.seen.harm, one.limit, one.upper, unit, one.blocks, one.seen.sign, one.seen.n)


@dataclass(frozen=True)
class Fit:
    """A finished search under a policy."""

    recipe: Recipe
    objective: Objective
    plan: AuditPlan
    search: Search
    test_limit: int | None = None

    @property
    def best(self) -> Evaluation:
        return self.search.best

    @property
    def chosen(self) -> Recipe:
        """The recipe at the best point."""
        return recipe_at(self.recipe, self.best.knobs)

    def expectations(self) -> list[str]:
        """The rules that the best merge would not pass on test items if its rates stay as they are.

        A bound narrows with the root of the number of items.
        """
        out = []
        for budget in self.best.budgets:
            rule = next(one for one in self.objective.policy.rules if one.id == budget.rule)
            items = test_items(rule.metric, self.test_limit)
            if not budget.binds or budget.bound is None or items is None or rule.limit_in != "metric_units":
                continue
            bound = budget.value + (budget.bound - budget.value) * math.sqrt(budget.n / items)
            if bound > budget.limit:
                shown = f"{budget.sign * bound:.3f} where {budget.sign * budget.limit:.4g} is allowed"
                out.append(f"expect {rule.id} undecided: on {items} test items its bound would be about {shown}")
        return out


def test_items(metric: str, limit: int | None) -> int | None:
    """How many items of the default suites' test split a metric is scored on; None for one number of a whole set."""
    level = METRICS[metric].level
    if level == "set":
        return None
    suites = [get_suite(name) for name in DEFAULT_SUITES]
    asked = [suite for suite in suites if level == "pooled" or metric in suite.metrics]
    return sum(len(select(suite, "test", limit)) for suite in asked) or None


@dataclass(frozen=True)
class Setting:
    """A search that can start: everything was checked that needs no model.

    test_limit: the items of each suite that the audit of the chosen merge will ask, None for all.
    """

    recipe: Recipe
    policy: Policy
    plan: AuditPlan
    space: SearchSpace
    skills: tuple[str, ...]
    evaluations: int
    test_limit: int | None = None

    @staticmethod
    def of(
        recipe: Recipe, policy: Policy, evaluations: int, items: int | None, test_limit: int | None = None
    ) -> "Setting":
        """Raises: UsageError, RecipeError: too few evaluations, nothing to search, or skills that are none."""
        recipe = resolve(recipe)
        check_evaluations(evaluations)
        space, skills = space_of(recipe), skills_of(recipe)
        plan = validation_plan(recipe, items)
        plan.resolved()
        return Setting(recipe, policy, plan, space, skills, evaluations, test_limit)

    @property
    def notes(self) -> list[str]:
        """The rules that the test audit cannot decide, for it asks fewer items than they want."""
        found = [(rule, test_items(rule.metric, self.test_limit)) for rule in self.policy.rules]
        return [
            f"{rule.id} will stay undecided: it wants {rule.min_items} items, the test audit asks {items}"
            for rule, items in found
            if items is not None and items < rule.min_items
        ]

    def run(
        self,
        workbench: Workbench,
        started: Callable[[Objective], None],
        told: Callable[[Evaluation], None],
    ) -> Fit:
        """The search, once the anchor has answered. `started` hears of the objective before the first merge.

        Raises: see Objective.of and tune.
        """
        objective = Objective.of(self.policy, workbench.anchor(against_base=True), self.skills)
        started(objective)
        found = tune(workbench, self.recipe, self.space, self.evaluations, objective, told=told)
        return Fit(self.recipe, objective, self.plan, found, self.test_limit)
