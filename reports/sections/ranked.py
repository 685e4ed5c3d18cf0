"""What each merge is worth: skill gained over the anchor beside alignment kept, as a table and a Pareto plot."""

from dataclasses import dataclass

from alignmerge.reports import charts
from alignmerge.reports.charts import SIGNS, Point
from alignmerge.reports.drawing import Drawing
from alignmerge.reports.model import OVER_REFUSAL, REFUSAL, ReportInput
from alignmerge.reports.names import metric_name
from alignmerge.reports.ranking import Estimate, Ranked, estimate_of, held_as, mean_skill, rank, skills_of
from alignmerge.reports.sections.section import Section, has_merges, is_gated
from alignmerge.reports.text import UNMEASURED, number, signed


@dataclass(frozen=True)
class Line:
    """One merge as printed."""

    place: int
    label: str
    decision: str
    sign: str
    gain: str
    gain_interval: str
    skill: str
    refusal: str
    refusal_interval: str
    change: str
    over_refusal: str
    over_refusal_interval: str


@dataclass(frozen=True)
class View:
    """`skills` are the names of the metrics that make the mean; `refusal` and `over_refusal` those of the other two."""

    lines: tuple[Line, ...]
    skills: tuple[str, ...]
    has_anchor: bool
    anchor_skill: str
    anchor_refusal: str
    plot: Drawing | None
    left_out: tuple[str, ...]
    gated: bool
    refusal: str
    over_refusal: str


def _range(estimate: Estimate | None) -> str:
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"{number(estimate.low)} to {number(estimate.high)}"


def _line(place: int, row: Ranked, anchor_refusal: Estimate | None, over_refusal: str) -> Line:
    decision = row.entry.verdict.decision if row.entry.verdict is not None else "UNGATED"
    refusal, over = estimate_of(row.refusal), estimate_of(row.entry.audit.result(over_refusal))
    change = UNMEASURED if refusal is None or anchor_refusal is None else signed(refusal.value - anchor_refusal.value)
    return Line(
        place=place,
        label=row.entry.label,
        decision=decision,
        sign=SIGNS.get(decision, "–"),
        gain=UNMEASURED if row.gain is None else signed(row.gain.value),
        gain_interval=_range(row.gain),
        skill=UNMEASURED if row.skill is None else number(row.skill.value),
        refusal=UNMEASURED if refusal is None else number(refusal.value),
        refusal_interval=_range(refusal),
        change=change,
        over_refusal=UNMEASURED if over is None else number(over.value),
        over_refusal_interval=_range(over),
    )


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]


def points(report: ReportInput) -> tuple[list[Point], list[str]]:
    """Points (mean skill, refusal rate) of the entries that have both, and the labels of those that do not."""
    skills, kept = skills_of(report), held_as(report, REFUSAL)
    drawn: list[Point] = []
    missing: list[str] = []
    for entry in report.entries:
        skill = mean_skill(entry.audit, skills)
        refusal = estimate_of(entry.audit.result(kept))
        if skill is None or refusal is None:
            missing.append(entry.label)
            continue
        decision = entry.verdict.decision if entry.verdict is not None else None
        drawn.append(Point(entry.label, entry.role, refusal, skill, decision))
    return drawn, missing


def view(report: ReportInput) -> View:
    """Merges ranked, and the plot of every checkpoint that has both coordinates."""
    anchor, skills = report.anchor, skills_of(report)
    refusal, over = held_as(report, REFUSAL), held_as(report, OVER_REFUSAL)
    kept = estimate_of(anchor.audit.result(refusal)) if anchor is not None else None
    skill = mean_skill(anchor.audit, skills) if anchor is not None else None
    drawn, missing = points(report)
    title = "Alignment kept against skill"
    axes = ("mean skill (rate, 95 % interval)", f"{_lower(metric_name(refusal))} (rate, 95 % interval)")
    return View(
        lines=tuple(_line(place, row, kept, over) for place, row in enumerate(rank(report, REFUSAL), start=1)),
        skills=tuple(metric_name(metric) for metric in skills),
        has_anchor=anchor is not None,
        anchor_skill=UNMEASURED if skill is None else number(skill.value),
        anchor_refusal=UNMEASURED if kept is None else number(kept.value),
        plot=charts.pareto("pareto", title, drawn, *axes) if drawn else None,
        left_out=tuple(missing),
        gated=is_gated(report),
        refusal=metric_name(refusal),
        over_refusal=metric_name(over),
    )


SECTION = Section("ranking", "Skill gained beside alignment kept", "ranked.html.j2", view, has_merges)
