"""What an audit will cost and what it can decide, said before it runs."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from alignmerge.auditor import power
from alignmerge.auditor.ask import NO_LIKELIHOODS, Asking
from alignmerge.auditor.ask import plan as asking_of
from alignmerge.auditor.engines.base import Sampling
from alignmerge.auditor.graders import MISSING
from alignmerge.auditor.metrics import METRICS
from alignmerge.auditor.pairs import NO_STATES, pairs_of
from alignmerge.auditor.room import check_room, lengths
from alignmerge.auditor.toxicity.grader import detoxify_grader
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.policies.model import PAIRED, Policy, rule_alpha
from alignmerge.policies.needs import DISCORDANCE, planned
from alignmerge.progress import duration, say
from alignmerge.terminal import printable

if TYPE_CHECKING:
    from alignmerge.auditor.engines.prompts import Encoder
    from alignmerge.auditor.engines.transformers_engine import TransformersEngine

PROBE_ITEMS, PROBE_TOKENS = 32, 9


@dataclass(frozen=True)
class SuiteCost:
    """One suite. Prompt tokens include the chat template; `new_tokens` are the most that may be generated.

    prompt_tokens: None where a server counts them. seconds: at the most, None where nothing was measured. Choices of
    likelihood items count as prompt tokens alone.
    """

    suite: str
    items: int
    of: int
    prompt_tokens: int | None
    new_tokens: int
    seconds: float | None = None


@dataclass(frozen=True)
class Rates:
    """Seconds per prompt token and per generated token, as a probe measured them."""

    prompt: float
    new: float


@dataclass(frozen=True)
class Decides:
    """What the planned items can decide of one rule.

    fewest: items below which it can never pass. detects: the smallest limit that a truly equal candidate passes 4
    times in 5 where one pair in ten changes by chance. None: counts do not say. problem: empty where it can decide.
    """

    rule: str
    metric: str
    limit: float
    items: int
    min_items: int
    fewest: int | None
    detects: float | None
    problem: str


def asked(plan: AuditPlan) -> tuple[Asking, ...]:
    """The items of every suite of the plan."""
    return asking_of(plan.resolved(), plan.split, plan.limit, plan.seed)


def costs_served(asking: Sequence[Asking]) -> tuple[SuiteCost, ...]:
    """What each suite costs of a server: its items, and the most that may be generated."""
    return tuple(SuiteCost(one.suite.name, len(one.items), one.of, None, _new_tokens(one)) for one in asking)


def _new_tokens(one: Asking) -> int:
    return 0 if one.suite.kind == "likelihood" else one.sampling.max_new_tokens * len(one.items)


def costs(
    asking: Sequence[Asking], encoder: "Encoder", context: int | None, rates: Rates | None = None
) -> tuple[SuiteCost, ...]:
    """What each suite costs in tokens and, given rates, in seconds.

    Raises:
        UsageError: a prompt and its answer take more than `context` tokens.
    """
    check_room(asking, encoder, context)
    out = []
    for one in asking:
        tokens = sum(prompt for prompt, _ in lengths(one, encoder))
        new = _new_tokens(one)
        seconds = None if rates is None else round(tokens * rates.prompt + new * rates.new, 2)
        out.append(SuiteCost(one.suite.name, len(one.items), one.of, tokens, new, seconds))
    return tuple(out)


def probe(asking: Sequence[Asking], engine: "TransformersEngine") -> Rates:
    """Rates on this machine as busy as it is now, from the first prompts of each suite answered twice."""
    share = max(1, PROBE_ITEMS // len(asking))
    prompts = [item.prompt for one in asking for item in one.items[:share]]
    tokens = sum(map(len, engine.encode(prompts)))
    short, _ = _timed(engine, prompts, 1)
    long, new = _timed(engine, prompts, PROBE_TOKENS)
    return Rates(short / tokens, max(long - short, 0.0) / max(new - len(prompts), 1))


def _timed(engine: "TransformersEngine", prompts: list[str], tokens: int) -> tuple[float, int]:
    begun = time.perf_counter()
    answers = engine.generate(prompts, Sampling(tokens))
    return time.perf_counter() - begun, sum(len(one.tokens) for one in answers)


def items_of(metric: str, asking: Sequence[Asking], plan: AuditPlan) -> int:
    """How many items (pairs, for a metric of pairs) the plan gives a metric."""
    level = METRICS[metric].level if metric in METRICS else "item"
    if level == "pooled":
        return sum(len(one.items) for one in asking if one.suite.kind == "generate")
    suites = [one.suite for one in asking]
    if level == "set":
        return len(pairs_of(suites, plan.split, plan.limit))
    return sum(len(one.items) for one in asking if metric in one.suite.metrics)


def unmeasured(metric: str, asking: Sequence[Asking], plan: AuditPlan) -> str | None:
    """Why the plan's engine or this machine leaves a metric unscored however many items there are, or None."""
    if metric not in METRICS:
        return None
    found = METRICS[metric]
    if found.level == "set" and plan.engine != "transformers":
        return NO_STATES
    if plan.engine == "openai" and any(metric in one.suite.metrics for one in asking if one.suite.kind == "likelihood"):
        return NO_LIKELIHOODS
    if found.grader == "detoxify" and detoxify_grader([one.suite for one in asking]) is None:
        return MISSING["detoxify"]
    return None


def decides(policy: Policy, asking: Sequence[Asking], plan: AuditPlan) -> tuple[Decides, ...]:
    """One row per rule of the policy, in its order."""
    out = []
    for rule, needs in zip(policy.rules, planned(policy), strict=True):
        items = items_of(rule.metric, asking, plan)
        missing = unmeasured(rule.metric, asking, plan)
        counts = rule.kind in PAIRED and not needs.reason and items > 0 and missing is None
        detects = power.detectable(items, DISCORDANCE, rule_alpha(policy, rule)) if counts else None
        if items == 0:
            problem = "no suite of this audit measures it"
        elif missing is not None:
            problem = missing
        elif needs.fewest is not None and items < needs.fewest:
            problem = f"{items} items cannot decide a budget of {rule.limit:.3g}: at least {needs.fewest}"
        elif items < rule.min_items:
            problem = f"{items} items, and the policy wants {rule.min_items}"
        else:
            problem = ""
        out.append(Decides(rule.id, rule.metric, rule.limit, items, rule.min_items, needs.fewest, detects, problem))
    return tuple(out)


def deciding_lines(policy: Policy, rows: Sequence[Decides]) -> Iterator[str]:
    """What can be decided under the policy, a line per rule."""
    yield f"under policy {policy.name}, if one pair in ten changes by chance:"
    for row in rows:
        if row.problem:
            yield printable(f"  {row.rule}: cannot pass: {row.problem}")
            continue
        told = (
            ""
            if row.detects is None
            else f"; passes an equal candidate 4 times in 5 from a budget of {row.detects:.3f}"
        )
        yield printable(f"  {row.rule}: {row.items} items for a budget of {row.limit:.3g}{told}")


def cost_lines(rows: Sequence[SuiteCost], basis: str) -> Iterator[str]:
    """A line per suite, then the sum and what the time rests on."""
    for row in rows:
        yield printable(f"{row.suite}: {row.items} of {row.of} items, {_tokens([row])}{_time([row])}")
    yield f"all: {sum(row.items for row in rows)} items, {_tokens(rows)}{_time(rows)}"
    yield basis


def _tokens(rows: Sequence[SuiteCost]) -> str:
    told = [row.prompt_tokens for row in rows if row.prompt_tokens is not None]
    prompts = f"{sum(told)} prompt tokens, " if len(told) == len(rows) else ""
    return f"{prompts}at most {sum(row.new_tokens for row in rows)} new{'' if prompts else ' tokens'}"


def _time(rows: Sequence[SuiteCost]) -> str:
    told = [row.seconds for row in rows if row.seconds is not None]
    return f", at most {duration(sum(told))}" if len(told) == len(rows) else ""


def show_deciding(policy: Policy, plan: AuditPlan) -> None:
    """Say on standard error what the plan can decide, before it runs."""
    for line in deciding_lines(policy, decides(policy, asked(plan), plan)):
        say(line)


def to_json(rows: Sequence[SuiteCost], basis: str, policy: Policy, found: Sequence[Decides]) -> dict[str, Any]:
    """The whole plan as a value."""
    return {
        "suites": [asdict(row) for row in rows],
        "basis": basis,
        "policy": policy.name,
        "rules": [asdict(row) for row in found],
    }
