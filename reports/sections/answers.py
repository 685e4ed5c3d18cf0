"""The anchor's and a merge's answers side by side: every item that changed, refusals first, as far as the page holds.

An item that several metrics count is printed once, under the first of them, and says what the others make of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from alignmerge.auditor.record import AuditRecord, ItemScore
from alignmerge.reports.counted import (
    Remark,
    Remarks,
    family,
    harmful_suites,
    is_harmful,
    item_metrics,
    level,
    more_is_worse,
    remarks,
    said,
    titles,
)
from alignmerge.reports.model import OVER_REFUSAL, REFUSAL, Entry, ReportInput
from alignmerge.reports.names import metric_name
from alignmerge.reports.ranking import skills_of
from alignmerge.reports.room import ANSWER_BYTES, allot, cost
from alignmerge.reports.sections.section import Section, has_merges

# How many of a group are in sight: of those that got worse by family (see counted.family), and of those that did not.
WORSE_SHOWN = (5, 3, 2, 2)
BETTER_SHOWN = 2


@dataclass(frozen=True)
class Pair:
    """One item answered by both. The texts are whole; the template cuts them visibly.

    `also` is what other metrics that changed make of it.
    """

    item: str
    category: str
    change: str
    prompt: str
    anchor: str
    candidate: str
    harmful: bool
    also: str
    anchor_remarks: tuple[Remark, ...] = ()
    candidate_remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True)
class Group:
    """Items of one metric that changed one way: `total` of `of`, of which `pairs` are printed, the first `sight` in
    sight; `above` of them stand in groups before this one.
    """

    title: str
    total: int
    of: int
    sight: int
    above: int
    pairs: tuple[Pair, ...]

    @property
    def omitted(self) -> int:
        """How many are not on the page."""
        return self.total - self.above - len(self.pairs)


@dataclass(frozen=True)
class Sheet:
    """All groups of one merge: refusals of harmful and of harmless requests that changed, skills, and all else.

    The summaries count the last two.
    """

    label: str
    refusals: tuple[Group, ...]
    over_refusals: tuple[Group, ...]
    skills: tuple[Group, ...]
    others: tuple[Group, ...]
    skill_summary: str
    other_summary: str

    @property
    def refusal_summary(self) -> str:
        """How many refusals of harmful requests changed, for a sheet that is closed."""
        lost, gained = (sum(group.total for group in self.refusals[way::2]) for way in (0, 1))
        return f"{lost:,} refusals lost, {gained:,} gained"

    @property
    def groups(self) -> tuple[Group, ...]:
        """All of them, in order."""
        return (*self.refusals, *self.over_refusals, *self.skills, *self.others)

    @property
    def omitted(self) -> int:
        """How many changed items are not on the page."""
        return sum(group.omitted for group in self.groups)


@dataclass(frozen=True)
class _Flip:
    """One item that changed; `also` is filled by the metrics that come later."""

    sides: "_Sides"
    left: ItemScore
    right: ItemScore
    change: str
    also: list[str] = field(default_factory=list)

    def built(self) -> tuple[Pair, int]:
        """The pair, and what it costs."""
        left, right, sides = self.left, self.right, self.sides
        pair = Pair(
            item=right.item,
            category=right.category,
            change=self.change,
            prompt=right.prompt,
            anchor=left.answer,
            candidate=right.answer,
            harmful=is_harmful(right, sides.harmful),
            also="; ".join(self.also),
            anchor_remarks=sides.anchor_remarks.get((left.suite, left.item), ()),
            candidate_remarks=sides.candidate_remarks.get((right.suite, right.item), ()),
        )
        told = (*pair.anchor_remarks, *pair.candidate_remarks)
        answers = (pair.prompt, pair.anchor, pair.candidate, *(remark.text for remark in told))
        fields = (pair.item, pair.category, pair.change, pair.also, *(remark.metric for remark in told))
        return pair, cost(answers, fields, len(told))


@dataclass(frozen=True)
class _Draft:
    """A group before it is known how many of its own items the page holds."""

    metric: str
    title: str
    total: int
    of: int
    sight: int
    own: list[_Flip]

    def group(self, pairs: list[Pair]) -> Group:
        return Group(self.title, self.total, self.of, self.sight, self.total - len(self.own), tuple(pairs))


@dataclass(frozen=True)
class _Sides:
    """The anchor and one merge."""

    anchor: AuditRecord
    candidate: AuditRecord
    anchor_remarks: Remarks
    candidate_remarks: Remarks
    harmful: frozenset[str]

    def drafts(self, skills: tuple[str, ...]) -> list[_Draft]:
        """Two for each metric, those that got worse first; refusals even where they were not measured."""
        both = (self.anchor, self.candidate)
        held = item_metrics(both, skills)
        for index, metric in enumerate((REFUSAL, OVER_REFUSAL)):
            if all(family(one, skills) != index for one in held):
                held = (*held, metric)
        seen: dict[tuple[str, ...], _Flip] = {}
        return [draft for metric in sorted(held, key=lambda one: family(one, skills))
                for draft in self._ways(metric, skills, seen)]  # fmt: skip

    def _ways(self, metric: str, skills: tuple[str, ...], seen: dict[tuple[str, ...], _Flip]) -> Iterator[_Draft]:
        pairs = list(self._both(metric))
        rising = more_is_worse((self.anchor, self.candidate), metric)
        for worse, title in zip((True, False), titles(metric), strict=True):
            rows = [pair for pair in pairs if _moved(pair, metric, up=rising == worse)]
            own = [flip for pair in rows if (flip := self._first(pair, seen)) is not None]
            sight = WORSE_SHOWN[family(metric, skills)] if worse else BETTER_SHOWN
            yield _Draft(metric, title, len(rows), len(pairs), sight, own)

    def _both(self, metric: str) -> Iterator[tuple[ItemScore, ItemScore]]:
        """Items that both have a value for, in the order of suite and id."""
        theirs = {(row.suite, row.item): row for row in self.anchor.by_metric.get(metric, ())}
        for row in sorted(self.candidate.by_metric.get(metric, ()), key=lambda row: (row.suite, row.item)):
            left = theirs.get((row.suite, row.item))
            if left is not None and left.value is not None and row.value is not None:
                yield left, row

    def _first(self, pair: tuple[ItemScore, ItemScore], seen: dict[tuple[str, ...], _Flip]) -> _Flip | None:
        """The flip, or None where these answers are printed already; then what is said of them is added there."""
        left, right = pair
        change = f"{said(left.metric, left.value or 0.0)} → {said(right.metric, right.value or 0.0)}"
        key = (right.suite, right.item, left.answer, right.answer)
        if key in seen:
            seen[key].also.append(f"{metric_name(right.metric)}: {change}")
            return None
        seen[key] = _Flip(self, left, right, change)
        return seen[key]


def _moved(pair: tuple[ItemScore, ItemScore], metric: str, up: bool) -> bool:
    before, after = (level(metric, row.value or 0.0) for row in pair)
    return after > before if up else after < before


def view(report: ReportInput) -> tuple[Sheet, ...]:
    """One sheet per merge; empty without an anchor."""
    return sheets(report, ANSWER_BYTES)


def counted(report: ReportInput) -> tuple[Sheet, ...]:
    """The sheets with all their counts and no answer, for forms that print none."""
    return sheets(report, 0)


def sheets(report: ReportInput, room: int) -> tuple[Sheet, ...]:
    """One sheet per merge, with the answers that `room` bytes hold."""
    anchor = report.anchor
    if anchor is None:
        return ()
    skills, told, harmful = skills_of(report), remarks(anchor.audit), harmful_suites(anchor.audit)
    drafts = [
        _Sides(anchor.audit, entry.audit, told, remarks(entry.audit), harmful | harmful_suites(entry.audit)).drafts(
            skills
        )
        for entry in report.merges
    ]
    kept = iter(allot([draft.own for one in drafts for draft in one], _Flip.built, room))
    return tuple(
        _sheet(entry, [(draft.metric, draft.group(next(kept))) for draft in one], skills)
        for entry, one in zip(report.merges, drafts, strict=True)
    )


def _sheet(entry: Entry, groups: list[tuple[str, Group]], skills: tuple[str, ...]) -> Sheet:
    parts = [[(metric, group) for metric, group in groups if family(metric, skills) == index] for index in range(4)]
    refusals, over, able, others = (tuple(group for _, group in part) for part in parts)
    return Sheet(entry.label, refusals, over, able, others, _summary(parts[2], "lost", "gained"),
                 _summary(parts[3], "worse", "better"))  # fmt: skip


def _summary(part: list[tuple[str, Group]], fell: str, rose: str) -> str:
    pairs = zip(part[::2], part[1::2], strict=True)
    return "; ".join(f"{metric_name(metric)} {worse.total:,} {fell}, {better.total:,} {rose}"
                     for (metric, worse), (_, better) in pairs)  # fmt: skip


SECTION = Section("answers", "Answers side by side", "answers.html.j2", view, has_merges)
