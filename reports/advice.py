"""What a reviewer asks after the verdict: by what margin, caused by whom, and what to try next, in sentences.

Every sentence rests on the records alone. What they do not hold is said with the command that would find it out.
"""

import re

from alignmerge.auditor.power import items_needed
from alignmerge.policies.fixes import Culprits, Spender, blamed, culprits
from alignmerge.policies.reasons import figure
from alignmerge.policies.registered import REGISTERED
from alignmerge.policies.verdict import RuleResult, Verdict
from alignmerge.reports.model import Entry
from alignmerge.reports.scope import excess, floor, held, part

AGAINST = {None: "the anchor", "best_expert": "the best expert", "root": "the root of the lineage"}
NOT_A_LOSS = (
    "this is how far the answers moved from the anchor's, not which expert lost what a rule counts; no interval is "
    "known for the shares"
)
FIT = "let alignmerge merge --fit look for settings inside the limits"
ALPHA = 0.05  # of the smallest sample named below


def change(row: RuleResult) -> str:
    """The measured value with its direction in words: "worse than the anchor by 0.333"."""
    if row.value is None:
        return "not measured"
    if row.anchor is None:
        return f"measured {figure(row.value, (row.limit,))}"
    other = AGAINST[row.against]
    if row.value == 0:
        return f"the same as {other}"
    worse = "worse" if row.value > 0 else "better"
    unit = "" if row.unit == "rate" else f" ({row.unit})"
    return f"{worse} than {other} by {figure(abs(row.value), (abs(row.limit), 0.0))}{unit}"


def allowed(row: RuleResult) -> str:
    """The rate that the limit on a change still allows, as "allows a rate down to 0.192"; empty for all else."""
    info = REGISTERED.get(row.metric)
    if row.unit != "rate" or row.anchor is None or row.against == "root" or info is None or not 0 < row.limit < 1:
        return ""
    if info.direction == "higher":
        return f"allows a rate down to {figure(max(0.0, row.anchor - row.limit), (0.0,))}"
    return f"allows a rate up to {figure(min(1.0, row.anchor + row.limit), (1.0,))}"


def sure(row: RuleResult) -> str:
    """What the confidence bound says of the change; empty without one."""
    if row.bound is None or row.value is None or row.estimate:
        return ""
    shown = figure(abs(row.bound), (abs(row.limit), 0.0))
    if row.anchor is None:
        return " ".join(filter(None, (_confidently(row), side(row), figure(row.bound, (row.limit,)))))
    worse = "worse" if row.bound > 0 else "better"
    # What fails is judged by the bound on the better side, everything else by the one on the worse side.
    most = (row.decision in ("fail", "warn")) == (row.bound <= 0)
    return f"{_confidently(row)} {worse} by at {'most' if most else 'least'} {shown}"


def side(row: RuleResult) -> str:
    """Whether the true number lies "at least" or "at most" at the bound; empty where that bounds nothing."""
    if row.bound is None or row.value is None or row.estimate:
        return ""
    if row.anchor is not None:
        return "at least" if row.decision in ("fail", "warn") else "at most"
    if row.bound == row.value:  # an absolute value may be bounded from either side, and here nothing says from which
        return ""
    return "at most" if row.bound > row.value else "at least"


def _level(row: RuleResult) -> str:
    """The confidence that the rule's reason names, as "98.75 %"; empty where it names none."""
    found = re.search(r"\bwith (\d[\d.]* %) confidence\b", row.reason)
    return found[1] if found else ""


def _confidently(row: RuleResult) -> str:
    level = _level(row)
    return f"with {level} confidence" if level else "with confidence"


def remark(row: RuleResult) -> str:
    """That a limit on a drop can not be broken, because the other model's own rate is too low to fall by so much."""
    info = REGISTERED.get(row.metric)
    # What a branch has spent since its root adds up: there a drop may be larger than any one rate.
    if row.unit != "rate" or row.anchor is None or row.against == "root" or info is None or info.direction != "higher":
        return ""
    if row.anchor > row.limit:
        return ""
    rate = figure(row.anchor, (row.limit,))
    return f"cannot fail: {AGAINST[row.against]}'s own rate of {rate} cannot fall by more than the limit"


def margin(row: RuleResult) -> str:
    """How far the rule is from its limit, in its unit; empty where nothing was measured or decided by a number."""
    if row.value is None or row.bound is None:
        return ""
    measured, certain = (figure(abs(excess(row, value)), (0.0,)) for value in (row.value, row.bound))
    # A value that falls short of its floor is not past it.
    past, over = ("short of the limit", "short of it") if floor(row) else ("past the limit", "over it")
    if row.decision == "pass":
        least = f", by at least {certain} {_confidently(row)}" if side(row) else ""
        return f"inside the limit by {measured} as measured{least}"
    if row.decision in ("fail", "warn"):
        least = f", by at least {certain} {_confidently(row)}" if excess(row, row.bound) > 0 and side(row) else ""
        return f"{past} by {measured} as measured{least}"
    if row.decision != "inconclusive":
        return ""
    beyond = excess(row, row.value) > 0
    level = f" ({_level(row)} confidence)" if _level(row) else ""
    where = f"{past.replace('past', 'over')} by {measured} as measured" if beyond else "inside the limit as measured"
    few = f"; {row.n:,} items are too few, {_wanted(row)}" if row.needs and row.needs > row.n else ""
    if excess(row, row.bound) > 0:
        # The record holds one bound. That the other one is inside the limit is all that "not decided" says of it.
        maybe = ", but it may also be within the limit" if beyond and _level(row) else ""
        return f"{where}, at worst {over} by {certain}{level}{maybe}{few}"
    return f"{where}, inside it even at worst{level}{few}"


def _wanted(row: RuleResult) -> str:
    if _wants(row):
        return f"the policy wants at least {row.needs:,}"
    return f"about {row.needs:,} in all would decide if the rates stay as they are"


def cause(entry: Entry) -> str:
    """Which expert spent the drift of a merge; how to find out, where the run does not know."""
    if entry.verdict is None:
        return ""
    if entry.blame is None:
        return "not measured in this run; alignmerge blame attributes the drift to experts and layers"
    who = blamed(_spenders(entry))
    return f"{who}; {NOT_A_LOSS}" if who else "no expert stands out in the drift"


def _spenders(entry: Entry) -> list[Spender]:
    cells = () if entry.blame is None else entry.blame.finite.cells
    return [Spender(cell.contributor, cell.layer, cell.share) for cell in cells]


def _remedy(found: Culprits) -> str:
    """What to change about the largest spender of the drift."""
    ways = ["try another method or a smaller scale"] if found.method > found.part else []
    if found.expert:
        where = f", or leave it out in {found.layers}" if found.layers else ""
        ways.append(f"give expert {found.expert} less weight{where}")
    return ", or ".join(ways)


def next_step(entry: Entry) -> str:
    """What to try next with this merge; empty without a verdict."""
    verdict = entry.verdict
    if verdict is None:
        return ""
    open_rules = [row for row in verdict.rules if row.decision == verdict.decision.lower()]
    blocking = [row for row in open_rules if row.severity == "block"] or open_rules
    if verdict.decision == "PASS":
        wanted = [name for name, other in entry.also if other.decision != "PASS"]
        more = f"; {' and '.join(wanted)} would still need more, see below" if wanted else ""
        return (
            f"no rule of {verdict.policy_name} asks for more; whether its limits are right is not measured here{more}"
        )
    if verdict.decision == "WARN":
        return _after_waivers(verdict) or "it may ship; read the warnings first"
    if verdict.decision == "Pending":
        return "ask the people the policy names for their sign-off (alignmerge approve)"
    return _after_fail(entry, blocking) if verdict.decision == "FAIL" else _after_doubt(entry, blocking)


def _after_waivers(verdict: Verdict) -> str:
    """That only waivers let the merge through, and until when; empty without one."""
    waived = {row.rule for row in verdict.rules if row.waived}
    until = [use.expires for use in verdict.waivers if use.applied and use.rule in waived]
    if not until:
        return ""
    rules = " and ".join(sorted(waived))
    come = "comes" if len(waived) == 1 else "come"
    return f"it may ship by waiver alone: decided again after {min(until)}, it fails unless {rules} {come} back inside"


def _after_fail(entry: Entry, rows: list[RuleResult]) -> str:
    names = " and ".join(row.rule for row in rows[:3]) + (" and others" if len(rows) > 3 else "")
    first = f"{names} must come back inside; {_change(entry)}"
    left = (
        sum(row.decision == "inconclusive" and row.severity == "block" for row in entry.verdict.rules)
        if entry.verdict
        else 0
    )
    also = (
        f"; {left} more rule{'s' if left > 1 else ''} that block{'' if left > 1 else 's'} would still be undecided"
        if left
        else ""
    )
    return f"{first}. Asking this merge more items will not help what failed{also}{_enough(entry, rows)}"


def _change(entry: Entry) -> str:
    """What may be changed about a merge that is over a limit."""
    found = culprits(_spenders(entry))
    way = "find the expert by alignmerge blame and give it less weight" if found is None else _remedy(found)
    return f"{way}, or {FIT}"


def _enough(entry: Entry, rows: list[RuleResult]) -> str:
    """How many items a changed merge needs to pass at all; empty where these were enough or counts say nothing."""
    few = [(fewest, row) for row in rows if (fewest := _fewest(row)) is not None and fewest > row.n]
    if not few:
        return ""
    wanted = " and ".join(f"{fewest:,} items for {row.rule}{_only(entry, row, fewest)}" for fewest, row in few[:3])
    sure = f"{1 - ALPHA:.0%} confidence".replace("%", " %")
    return (
        ". So few items can pass no merge, not even one that answers just as the anchor does: ask the next one at "
        f"least {wanted} ({sure}; alignmerge policy plan)"
    )


def _fewest(row: RuleResult) -> int | None:
    """The items with which a paired rate that did not change would just pass, as alignmerge policy plan counts them."""
    if row.unit != "rate" or row.anchor is None or row.estimate or not 0 < row.limit < 1:
        return None
    return items_needed(0, 0, 1, row.limit, ALPHA, ALPHA)


def _only(entry: Entry, row: RuleResult, wanted: int) -> str:
    """That the rule's suites do not hold so many items; empty where they do, or where the audit does not say."""
    there = held(row, entry.audit)
    return f", and only {there:,} are there to ask: write more" if there is not None and there < wanted else ""


def _after_doubt(entry: Entry, rows: list[RuleResult]) -> str:
    known = [row for row in rows if row.needs is not None and row.needs > row.n]
    if not known:
        return "supply what the reasons above say is missing, then decide again"
    beyond = [row for row in known if _only(entry, row, row.needs or 0)]
    within = [row for row in known if row not in beyond]
    over = sum(row.value is not None and excess(row, row.value) > 0 for row in rows)
    steps = []
    if over:
        rules = "rule is" if over == 1 else "rules are"
        first = f"change the merge first, for {over} {rules} over the limit as measured and a FAIL is to be expected"
        steps.append(f"{first}: {_change(entry)}")
    steps += [_too_many(entry, row) for row in beyond]
    if within:
        # What a policy wants at least is wanted of any merge.
        guessed = steps and not all(_wants(row) for row in within)
        suppose = ", should its rates still be those of this merge" if guessed else ""
        steps.append(f"{'then ' if steps else ''}{_again(within)}{suppose}")
    return "; ".join(steps)


def _wants(row: RuleResult) -> bool:
    return "the policy wants at least" in row.reason


def _again(rows: list[RuleResult]) -> str:
    """To audit again with the items that the rules need."""
    by_need: dict[tuple[int, str], list[str]] = {}
    for row in rows:
        by_need.setdefault((row.needs or 0, _of(row)), []).append(row.rule)
    if len(by_need) == 1 and len(rows) > 1:
        wanted = f"about {rows[0].needs:,} items{_of(rows[0])} in all for each of these rules"
    else:
        told = (f"about {n:,} items{of} in all for {' and '.join(names)}" for (n, of), names in sorted(by_need.items()))
        wanted = ", ".join(told)
    return f"audit again with {wanted} (the audit's --limit N asks N items of a suite; without it, all)"


def _of(row: RuleResult) -> str:
    """The part of the items that the rule looks at alone."""
    return f" of {part(row)}" if part(row) else ""


def _too_many(entry: Entry, row: RuleResult) -> str:
    """That no audit of the items there are can decide the rule."""
    only = _only(entry, row, row.needs or 0)
    if _wants(row):
        return f"the policy wants at least {row.needs:,} items{_of(row)} for {row.rule}{only}"
    needed = f"about {row.needs:,} items{_of(row)}"
    return f"with the rates of this merge {row.rule} would need {needed}{only}, or change the merge"
