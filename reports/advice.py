"""What a reviewer asks after the verdict: by what margin, caused by whom, and what to try next, in sentences.

Every sentence rests on the records alone. What they do not hold is said with the command that would find it out.
"""

from alignmerge.policies.fixes import Culprits, Spender, blamed, culprits
from alignmerge.policies.reasons import figure
from alignmerge.policies.verdict import RuleResult
from alignmerge.reports.model import Entry

AGAINST = {None: "the anchor", "best_expert": "the best expert", "root": "the root of the lineage"}


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


def sure(row: RuleResult) -> str:
    """What the confidence bound says of the change; empty without one."""
    if row.bound is None or row.value is None:
        return ""
    shown = figure(abs(row.bound), (abs(row.limit), 0.0))
    if row.anchor is None:
        return f"{figure(row.bound, (row.limit,))} at the confidence bound"
    worse = "worse" if row.bound > 0 else "better"
    # What fails is judged by the bound on the better side, everything else by the one on the worse side.
    most = (row.decision in ("fail", "warn")) == (row.bound <= 0)
    return f"with confidence {worse} by at {'most' if most else 'least'} {shown}"


def margin(row: RuleResult) -> str:
    """How far the rule is from its limit, in its unit; empty where nothing was measured or decided by a number."""
    if row.value is None or row.bound is None:
        return ""
    measured, certain = (figure(abs(value - row.limit), (0.0,)) for value in (row.value, row.bound))
    if row.decision == "pass":
        return f"inside the limit by {certain}, counted from the confidence bound"
    if row.decision in ("fail", "warn"):
        least = f", by at least {certain} with confidence" if row.bound > row.limit and row.anchor is not None else ""
        return f"past the limit by {measured} as measured{least}"
    if row.decision != "inconclusive" or row.anchor is None:
        return ""
    where = f"over the limit by {measured} as measured" if row.value > row.limit else "inside the limit as measured"
    few = f"; {row.n:,} items are too few, about {row.needs:,} decide" if row.needs and row.needs > row.n else ""
    if row.bound > row.limit:
        return f"{where}, over it by {certain} at the confidence bound{few}"
    return f"{where} and at the confidence bound{few}"


def cause(entry: Entry) -> str:
    """Which expert spent the drift of a merge that does not pass; how to find out, where the run does not know."""
    if entry.verdict is None or entry.verdict.decision == "PASS":
        return ""
    if entry.blame is None:
        return "not measured in this run; alignmerge blame attributes the drift to experts and layers"
    who = blamed(_spenders(entry))
    return (
        f"{who}; drift is how far the answers moved from the anchor's" if who else "no expert stands out in the drift"
    )


def _spenders(entry: Entry) -> list[Spender]:
    cells = () if entry.blame is None else entry.blame.finite.cells
    return [Spender(cell.contributor, cell.layer, cell.share) for cell in cells]


def _remedy(found: Culprits) -> str:
    """What to change about the largest spender of the drift."""
    ways = ["try another method or a smaller scale"] if found.method > found.part else []
    if found.expert:
        where = f", or leave it out in {found.layers.removeprefix(', ')}" if found.layers else ""
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
        return f"nothing is left to do under {verdict.policy_name}{more}"
    if verdict.decision == "WARN":
        return "it may ship; read the warnings first"
    if verdict.decision == "Pending":
        return "ask the people the policy names for their sign-off (alignmerge approve)"
    return _after_fail(entry, blocking) if verdict.decision == "FAIL" else _after_doubt(entry, blocking)


def _after_fail(entry: Entry, rows: list[RuleResult]) -> str:
    names = " and ".join(row.rule for row in rows[:3]) + (" and others" if len(rows) > 3 else "")
    found = culprits(_spenders(entry))
    way = "find the expert by alignmerge blame and give it less weight" if found is None else _remedy(found)
    first = f"{names} must come back inside; {way}"
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
    fit = "or let alignmerge merge --fit look for settings inside the limits"
    return f"{first}, {fit}. More items will not help what failed{also}"


def _after_doubt(entry: Entry, rows: list[RuleResult]) -> str:
    known = [row for row in rows if row.needs is not None and row.needs > row.n]
    if not known:
        return "supply what the reasons above say is missing, then decide again"
    by_need: dict[int, list[str]] = {}
    for row in known:
        by_need.setdefault(row.needs or 0, []).append(row.rule)
    if len(by_need) == 1 and len(known) > 1:
        wanted = f"about {known[0].needs:,} items for each of these rules"
    else:
        wanted = ", ".join(f"about {need:,} items for {' and '.join(names)}" for need, names in sorted(by_need.items()))
    over = sum(row.value is not None and row.anchor is not None and row.value > row.limit for row in rows)
    if not over:
        return f"audit again with {wanted}"
    rules = "rule is" if over == 1 else "rules are"
    found = culprits(_spenders(entry))
    how = "" if found is None else f" ({_remedy(found)})"
    but = f"{over} {rules} over the limit as measured: expect a FAIL unless the merge changes{how}"
    return f"audit again with {wanted}; but {but}"
