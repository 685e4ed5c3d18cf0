"""The first thing a reviewer sees: which merges may ship, and what decided."""

from collections.abc import Sequence
from dataclasses import dataclass

from alignmerge.policies.verdict import Verdict
from alignmerge.policies.waivers import WaiverUse
from alignmerge.reports.advice import cause, next_step, remark
from alignmerge.reports.losses import experts_alone, unwatched
from alignmerge.reports.model import Entry, ReportInput
from alignmerge.reports.names import HEADLINES, SIGNS, may_ship
from alignmerge.reports.rules import RuleLine, deciding
from alignmerge.reports.sections.section import Section, has_merges
from alignmerge.reports.text import short_digest


@dataclass(frozen=True)
class Card:
    """One merge's verdict. `rules` are the deciding ones; empty without a verdict, like `cause` and `next_step`.
    `losses` is what got worse and has no rule; `experts` is what the experts alone reached where the merge fell short.
    """

    label: str
    decision: str
    sign: str
    headline: str
    policy: str
    lead: str
    rules: tuple[RuleLine, ...]
    cause: str = ""
    next_step: str = ""
    losses: str = ""
    experts: str = ""


@dataclass(frozen=True)
class View:
    """`summary` is the sentence above the cards."""

    summary: str
    any_ships: bool
    cards: tuple[Card, ...]
    notes: tuple[str, ...]


LEADS = {
    "PASS": "Every blocking rule is inside its limit; the closest:",
    "WARN": "No blocking rule fails; not passed:",
    "FAIL": "Decided by:",
    "INCONCLUSIVE": "The evidence cannot decide:",
    "Pending": "Everything else holds; awaited:",
}


def _waivers(verdict: Verdict) -> list[WaiverUse]:
    """The waivers that let a failed rule through."""
    waived = {row.rule for row in verdict.rules if row.waived}
    return [use for use in verdict.waivers if use.applied and use.rule in waived]


def _headline(verdict: Verdict) -> str:
    waived = may_ship(verdict.decision) and _waivers(verdict)
    return "May ship, by waiver of what failed" if waived else HEADLINES[verdict.decision]


def _lead(verdict: Verdict) -> str:
    uses = _waivers(verdict)
    if uses and verdict.decision == "Pending":
        return "Everything else holds, by waiver of what failed; awaited, and waived:"
    if uses and verdict.decision == "WARN":
        who = " and ".join(dict.fromkeys(use.approver for use in uses))
        failed = "1 blocking rule failed and was" if len(uses) == 1 else f"{len(uses)} blocking rules failed and were"
        rest = sum(row.decision != "pass" and not row.waived for row in verdict.rules)
        others = f", and {rest} that do{'es' if rest == 1 else ''} not block did not pass" if rest else ""
        return f"{failed} waived by {who}{others}:"
    idle = [row.rule for row in verdict.rules if remark(row)]
    if verdict.decision != "PASS" or not idle:
        return LEADS[verdict.decision]
    return f"Every blocking rule is inside its limit ({' and '.join(idle)} could not fail here); the closest:"


def card(entry: Entry, anchor: Entry | None = None, experts: Sequence[Entry] = ()) -> Card:
    """The verdict of `entry` as a card."""
    verdict = entry.verdict
    if verdict is None:
        return Card(entry.label, "UNGATED", "–", "Ungated: no policy was asked", "", "", ())
    lost = unwatched(entry, anchor)
    return Card(
        label=entry.label,
        decision=verdict.decision,
        sign=SIGNS[verdict.decision],
        headline=_headline(verdict),
        policy=verdict.policy_name,
        lead=_lead(verdict),
        rules=deciding(verdict),
        cause=cause(entry),
        next_step=next_step(entry),
        losses=f"{', '.join(lost)} (as measured, which may be chance)" if lost else "",
        experts=experts_alone(entry, experts),
    )


def _policy(report: ReportInput) -> str:
    """The policy with the start of its digest, where the merges name one: policies of one name may differ."""
    digests = {entry.verdict.policy for entry in report.merges if entry.verdict is not None}
    if len(digests) != 1:
        return f"policy {report.policy_name}"
    return f"policy {report.policy_name} (digest {short_digest(digests.pop())})"


def view(report: ReportInput) -> View:
    """One card per merge: those that may ship, then the undecided, then the rejected, in the order of the run."""
    order = ("PASS", "WARN", "UNGATED", "Pending", "INCONCLUSIVE", "FAIL")
    cards = sorted(
        (card(entry, report.anchor, report.experts) for entry in report.merges),
        key=lambda row: order.index(row.decision),
    )
    ships = [row for row in cards if may_ship(row.decision)]
    decided = [entry.verdict for entry in report.merges if entry.verdict is not None]
    waived = sum(may_ship(verdict.decision) and bool(_waivers(verdict)) for verdict in decided)
    if not cards:
        summary = "This run holds no merge: nothing to decide."
    elif report.policy_name == "none" and all(row.decision == "UNGATED" for row in cards):
        summary = "No policy was asked: nothing is decided here."
        cards = []  # each of them would say the same
    elif len(cards) == 1:
        by = ", by waiver alone" if waived else ""
        summary = f"The merge {cards[0].label} {'may' if ships else 'may not'} ship under {_policy(report)}{by}."
    else:
        by = f", {waived} of them by waiver alone" if waived else ""
        summary = f"{len(ships) or 'None'} of {len(cards)} merges may ship under {_policy(report)}{by}."
    return View(summary, bool(ships), tuple(cards), report.notes)


SECTION = Section("verdict", "Verdict", "verdicts.html.j2", view, has_merges)
