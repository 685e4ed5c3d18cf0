"""The anchor's and a merge's answers side by side, flipped refusals first."""

from collections.abc import Mapping
from dataclasses import dataclass

from alignmerge.auditor.record import AuditRecord, ItemScore
from alignmerge.reports.model import OVER_REFUSAL, REFUSAL, Entry, ReportInput
from alignmerge.reports.names import is_judged, metric_name
from alignmerge.reports.sections.section import Section, has_merges
from alignmerge.reports.text import number

REFUSALS_SHOWN = 5
REGAINED_SHOWN = 2
OVER_REFUSALS_SHOWN = 3
SKILL_SHOWN = 2


@dataclass(frozen=True)
class Remark:
    """What a judge said of an answer: its score and its reason, under the metric's name."""

    metric: str
    score: str
    text: str


Remarks = Mapping[tuple[str, str], tuple[Remark, ...]]


@dataclass(frozen=True)
class Pair:
    """One item answered by both. The texts are whole; the template cuts them visibly."""

    item: str
    category: str
    change: str
    prompt: str
    anchor: str
    candidate: str
    anchor_remarks: tuple[Remark, ...] = ()
    candidate_remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True)
class Group:
    """Items of one metric that changed one way: `total` of them, of which `pairs` are shown."""

    title: str
    total: int
    of: int
    harmful: bool
    pairs: tuple[Pair, ...]

    @property
    def omitted(self) -> int:
        """How many are not shown."""
        return self.total - len(self.pairs)


@dataclass(frozen=True)
class Sheet:
    """All groups of one merge: refusals of harmful and of harmless requests that changed, then skills that did.

    `skill_summary` counts the latter.
    """

    label: str
    refusals: tuple[Group, ...]
    over_refusals: tuple[Group, ...]
    skills: tuple[Group, ...]
    skill_summary: str

    @property
    def refusal_summary(self) -> str:
        """How many refusals of harmful requests changed, for a sheet that is closed."""
        lost, gained = (f"{group.total:,}" for group in self.refusals)
        return f"{lost} refusals lost, {gained} gained"

    @property
    def groups(self) -> tuple[Group, ...]:
        """All of them, in order."""
        return (*self.refusals, *self.over_refusals, *self.skills)


def remarks(audit: AuditRecord) -> Remarks:
    """What judges said, by (suite, item); empty where no judge gave a reason."""
    found: dict[tuple[str, str], tuple[Remark, ...]] = {}
    judged = {row.metric for row in audit.metrics if is_judged(row.metric)}
    for row in audit.items:
        if row.note and row.metric in judged:
            score = "unscored" if row.value is None else number(row.value, 2)
            key = (row.suite, row.item)
            found[key] = (*found.get(key, ()), Remark(metric_name(row.metric), score, row.note))
    return found


def _both(anchor: AuditRecord, candidate: AuditRecord, metric: str) -> list[tuple[ItemScore, ItemScore]]:
    theirs = anchor.scores(metric)
    rows = sorted(candidate.scores(metric).items())
    pairs = [(theirs[item], score) for item, score in rows if item in theirs]
    return [(left, right) for left, right in pairs if left.value is not None and right.value is not None]


def _ways(metric: str) -> tuple[tuple[str, bool, str, int], ...]:
    """(title, whether the value fell, the change in words, how many are shown) of both ways an item can change."""
    if metric == REFUSAL:
        return (
            ("Refused by the anchor, answered by the merge", True, "refused → answered", REFUSALS_SHOWN),
            ("Answered by the anchor, refused by the merge", False, "answered → refused", REGAINED_SHOWN),
        )
    if metric == OVER_REFUSAL:
        return (
            ("Harmless requests refused only by the merge", False, "answered → refused", OVER_REFUSALS_SHOWN),
            ("Harmless requests refused only by the anchor", True, "refused → answered", REGAINED_SHOWN),
        )
    name = metric_name(metric)
    return (
        (f"{name}: lost", True, "right → wrong", SKILL_SHOWN),
        (f"{name}: gained", False, "wrong → right", SKILL_SHOWN),
    )


@dataclass(frozen=True)
class _Sides:
    """The anchor and one merge."""

    anchor: AuditRecord
    candidate: AuditRecord
    anchor_remarks: Remarks
    candidate_remarks: Remarks

    def groups(self, metric: str) -> tuple[Group, ...]:
        pairs = _both(self.anchor, self.candidate, metric)
        groups = []
        for title, fell, words, shown in _ways(metric):
            rows = [(left, right) for left, right in pairs if _moved(left, right, fell)]
            told = tuple(self._pair(left, right, words) for left, right in rows[:shown])
            groups.append(Group(title, len(rows), len(pairs), metric == REFUSAL, told))
        return tuple(groups)

    def _pair(self, left: ItemScore, right: ItemScore, words: str) -> Pair:
        return Pair(
            item=right.item,
            category=right.category,
            change=words,
            prompt=right.prompt,
            anchor=left.answer,
            candidate=right.answer,
            anchor_remarks=self.anchor_remarks.get((left.suite, left.item), ()),
            candidate_remarks=self.candidate_remarks.get((right.suite, right.item), ()),
        )


def _moved(left: ItemScore, right: ItemScore, fell: bool) -> bool:
    if left.value is None or right.value is None:
        return False
    return right.value < left.value if fell else right.value > left.value


def view(report: ReportInput) -> tuple[Sheet, ...]:
    """One sheet per merge; empty without an anchor."""
    anchor = report.anchor
    if anchor is None:
        return ()
    said = remarks(anchor.audit)
    return tuple(
        _sheet(entry, _Sides(anchor.audit, entry.audit, said, remarks(entry.audit)), report.skills)
        for entry in report.merges
    )


def _sheet(entry: Entry, sides: _Sides, metrics: tuple[str, ...]) -> Sheet:
    skills: list[Group] = []
    counts = []
    for metric in metrics:
        lost, gained = sides.groups(metric)
        skills += [lost, gained]
        counts.append(f"{metric_name(metric)} {lost.total:,} lost, {gained.total:,} gained")
    return Sheet(entry.label, sides.groups(REFUSAL), sides.groups(OVER_REFUSAL), tuple(skills), "; ".join(counts))


SECTION = Section("answers", "Answers side by side", "answers.html.j2", view, has_merges)
