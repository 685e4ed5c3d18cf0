"""Verdicts and policies in plain words, as lines of text that are safe to print."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from alignmerge.auditor import power
from alignmerge.policies.extending import Change
from alignmerge.policies.fixes import nearest_fix
from alignmerge.policies.model import DIRECTION, PAIRED, Evidence, Policy, Rule, rule_alpha
from alignmerge.policies.reasons import many, percent, plain, spoken
from alignmerge.policies.verdict import RuleDecision, Verdict
from alignmerge.terminal import printable

_DISCORDANCE = 0.1  # the share of pairs assumed to change by chance in power statements
_ORDER: tuple[RuleDecision, ...] = ("fail", "inconclusive", "pending", "warn", "pass")


def verdict_lines(verdict: Verdict, who: str = "") -> list[str]:
    """The verdict as text: the decision first, then one line per rule (worst first) with its nearest fix, then a tally,
    the waivers and the notes. who: spends most of the drift; see `fixes.blamed`.
    """
    lines = [f"{verdict.decision}: {verdict.subject_name} ({verdict.subject[:12]}) under policy {verdict.policy_name}"]
    for rule in sorted(verdict.rules, key=lambda row: _ORDER.index(row.decision)):
        mark = "" if rule.severity == "block" else " (does not block)"
        fix = nearest_fix(rule, who)
        lines.append(f"  {rule.decision:<12} {rule.rule}{mark}: {rule.reason}{f'; it {fix}' if fix else ''}")
    counts = Counter(rule.decision for rule in verdict.rules)
    parts = [f"{counts[decision]} {decision}" for decision in _ORDER if counts[decision]]
    if waived := sum(rule.waived for rule in verdict.rules):
        parts.append(f"{waived} waived")
    lines.append(f"  {many(len(verdict.rules), 'rule')}: {', '.join(parts)}")
    for use in verdict.waivers:
        mark = "waiver" if use.applied else "warning: waiver"
        lines.append(f"  {mark} of {use.rule} by {use.approver} until {use.expires}: {use.outcome}")
    lines += [f"  note: {note}" for note in verdict.notes]
    return [printable(line) for line in lines]


@dataclass(frozen=True)
class Decidability:
    """What a paired rate rule can decide with its own `min_items` pairs.

    passes_up_to, fails_from: pairs changing for the worse, none for the better; the second at the strictest of
    Holm's levels. None: never.
    pairs_for_power: pairs for which a candidate truly equal to the anchor passes 4 times in 5, when one pair in ten
    changes by chance.
    """

    rule: str
    pairs: int
    passes_up_to: int | None
    fails_from: int | None
    pairs_for_power: int | None


def decidability(policy: Policy, rule: Rule) -> Decidability | None:
    """That of a rule; None where the limit is not a paired rate's, so that counts say nothing."""
    if rule.kind not in PAIRED or rule.limit_in != "metric_units" or rule.bound == "estimate":
        return None
    blocking = sum(1 for other in policy.rules if other.severity == "block")
    strictest, alpha = policy.alpha / max(blocking, 1), rule_alpha(policy, rule)
    return Decidability(
        rule=rule.id,
        pairs=rule.min_items,
        passes_up_to=power.largest_passing_loss(rule.min_items, rule.limit, alpha),
        fails_from=power.smallest_failing_loss(rule.min_items, rule.limit, strictest),
        pairs_for_power=power.pairs_for_power(rule.limit, _DISCORDANCE, alpha) if rule.limit > 0 else None,
    )


def rule_lines(policy: Policy, rule: Rule) -> list[str]:
    """A rule in words, and what its smallest sample can decide."""
    name = spoken(rule.metric)
    where = f" on suite {rule.suite}" if rule.suite else ""
    where += f" in category {rule.category!r}" if rule.category else ""
    unit = " standard errors of the anchor's own value" if rule.limit_in == "anchor_standard_errors" else ""
    changes = {"max_drop": "fall by at most", "max_rise": "rise by at most", "min": "be at least", "max": "be at most"}
    how = "on the same resamples" if unit else "item by item"
    paired = f", compared with {_AGAINST[rule.against]} {how}" if rule.kind in PAIRED else ""
    must = "may" if paired else "must"
    lines = [
        f"{rule.id} ({'blocks' if rule.severity == 'block' else 'warns'}): {name}{where} "
        f"({DIRECTION[rule.kind]} is better) {must} {changes[rule.kind]} {plain(rule.limit)}{unit}{paired}; "
        f"decided {_sure(policy, rule)} on at least {rule.min_items} items."
    ]
    if rule.only_if_valid:
        lines.append(
            "  It warns instead of blocking where the anchor's value did not pass the validity gate, or none ran."
        )
    if rule.evidence == "declared":
        lines.append("  It also takes audits whose checkpoint digest is only declared: imported, or of a served model.")
    found = decidability(policy, rule)
    if found is not None:
        lines.append(f"  {_counts(found)}")
        if found.pairs_for_power is not None:
            lines.append(
                f"  A candidate that truly equals the anchor, with one pair in ten changing by chance, "
                f"passes 4 times in 5 with {found.pairs_for_power} pairs."
            )
    return lines


_AGAINST = {
    "anchor": "the anchor",
    "best_expert": "the expert that is best at it,",
    "root": "the anchor that the lineage of merges began with,",
}


def _sure(policy: Policy, rule: Rule) -> str:
    if rule.bound == "estimate":
        return "on the estimate alone"
    sides = "two-sided " if rule.bound == "two_sided" else ""
    alpha = rule_alpha(policy, rule) * (2 if rule.bound == "two_sided" else 1)
    return f"with {percent(alpha)} {sides}confidence"


def _counts(found: Decidability) -> str:
    passes = (
        "it cannot pass, however good the candidate"
        if found.passes_up_to is None
        else f"it passes while at most {found.passes_up_to} change for the worse"
    )
    fails = "it cannot fail" if found.fails_from is None else f"fails from {found.fails_from} at the latest"
    return (
        f"With {found.pairs} pairs, none changing for the better, {passes} and {fails}; between, it needs more items."
    )


def policy_lines(policy: Policy, extends: str | None = None, changes: Sequence[Change] = ()) -> list[str]:
    """The whole policy in words. changes: what it makes different in the shipped policy that it `extends`."""
    lines = [f"{policy.name}: {policy.summary}", ""]
    if extends is not None:
        lines += [f"It extends {extends}{' and changes:' if changes else ' and changes nothing of it.'}"]
        lines += [f"  {change_text(one)}" for one in changes]
        lines.append("")
    for rule in policy.rules:
        lines += rule_lines(policy, rule)
    lines += [_evidence(evidence) for evidence in policy.required_evidence]
    lines += [
        "",
        "PASS: every rule's bound is inside its limit. FAIL: some blocking rule's bound is outside, corrected for the "
        "number of blocking rules (Holm). Anything between, and anything missing, is INCONCLUSIVE.",
        f"An item that could not be scored counts as the worst case; above {policy.max_unscored_share:.0%} of a rule's "
        "items the rule is inconclusive.",
        f"A waiver, for at most {policy.max_waiver_days} days, turns a rule's FAIL into WARN."
        if policy.max_waiver_days
        else "No waiver is taken.",
    ]
    if policy.max_age_days is not None:
        lines.append(f"An audit older than {policy.max_age_days} days is stale, and what rests on it is INCONCLUSIVE.")
    if policy.judge_floor is not None:
        lines.append(
            f"What a judge says counts when its exam shows agreement with people (kappa) of at least "
            f"{plain(policy.judge_floor)} with 95 % confidence."
        )
    return [printable(line) for line in lines]


def change_text(change: Change) -> str:
    """A change to the policy that is extended, and whether it loosens it."""
    what = f"{change.rule}: {change.text}" if change.rule else change.text
    return f"{'LOOSENS ' if change.loosens else ''}{what}"


def _evidence(evidence: Evidence) -> str:
    waits = {
        "sign_off": "Pending until a signed approval is given",
        "judge_exam": "inconclusive until the record holds such an exam",
        "toxicity_classifier": "inconclusive until Detoxify has read the candidate's answers",
    }[evidence.kind]
    age = f", at most {evidence.max_age_days} days old" if evidence.max_age_days is not None else ""
    return f"{evidence.id} (blocks): {evidence.summary.rstrip('.')}: {waits}{age}."
