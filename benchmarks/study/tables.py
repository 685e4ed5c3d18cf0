"""The page's tables: Markdown from cells, every number of them computed here or in analysis.py."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignmerge.errors import Inconclusive
from alignmerge.merger.geometry.correlation import rank_correlation
from alignmerge.reports.text import number, signed
from benchmarks.study import analysis
from benchmarks.study.analysis import Cells, Paired, Pooled, compared, paired
from benchmarks.study.cells import Cell
from benchmarks.study.design import CONTROLS, SETS, SKILLS
from benchmarks.study.external import HARMFUL, HARMLESS

OURS = "alignmerge"
NONE = "–"


@dataclass(frozen=True)
class Part:
    """One setting's cells: its anchor, experts by (seed, name), and merges by label and then (seed, set).

    others: controls and methods untuned. points: those of the frontier, by family and number. stale: cells of an
    earlier design (see current.py), in none of the others.
    """

    setting: str
    anchor: Cell
    experts: Mapping[tuple[int, str], Cell]
    merges: Mapping[str, Mapping[tuple[int, str], Cell]]
    others: Mapping[str, Mapping[tuple[int, str], Cell]]
    points: Mapping[str, Mapping[tuple[int, str], Cell]]
    stale: Sequence[Cell] = ()

    @staticmethod
    def of(setting: str, cells: Sequence[Cell], order: Sequence[str], stale: Sequence[Cell] = ()) -> "Part | None":
        """The setting's part; None without its anchor. Methods come in `order`."""
        own = [one for one in cells if one.setting == setting]
        anchor = next((one for one in own if one.kind == "anchor"), None)
        if anchor is None:
            return None
        experts = {(one.seed, one.method.removeprefix("expert-")): one for one in own if one.kind == "expert"}
        merges = _by_label([one for one in own if one.kind == "merge"])
        others = _by_label([one for one in own if one.kind in ("control", "default")])
        points = _by_label([one for one in own if one.kind == "frontier"])
        ordered = {key: merges[key] for key in order if key in merges}
        return Part(setting, anchor, experts, ordered, others, points, [one for one in stale if one.setting == setting])


def _by_label(cells: Sequence[Cell]) -> dict[str, dict[tuple[int, str], Cell]]:
    out: dict[str, dict[tuple[int, str], Cell]] = {}
    for one in cells:
        out.setdefault(one.method, {})[one.seed, one.set] = one
    return out


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table and a blank line."""
    lines = [heads, ["---"] * len(heads), *rows]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]


def rate(value: float | None, decimals: int = 3) -> str:
    """A number, or a dash where there is none."""
    return NONE if value is None else number(value, decimals)


def mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where any is missing or there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def interval(found: Paired | Pooled | None) -> str:
    """A difference with its interval."""
    if found is None:
        return NONE
    return f"{signed(found.value)} [{number(found.low)}, {number(found.high)}]"


def skill_of(cell: Cell, experts: str) -> float | None:
    """Mean rate over the skills of an expert set."""
    return mean([cell.rate(SKILLS[name]) for name in SETS[experts]])


def behaviour(part: Part, rows: Mapping[str, Sequence[Cell]], experts: str) -> list[str]:
    """Skill, refusals and budget violations, means over the cells of each row; the anchor first."""
    heads = [
        "",
        "cells",
        "mean skill",
        *SKILLS.values(),
        "refusal",
        "over-refusal",
        "AQI log J",
        "degenerate",
        "over budget",
    ]
    lines = [_behaviour("anchor", [part.anchor], part, experts)]
    return table(heads, [*lines, *(_behaviour(name, cells, part, experts) for name, cells in rows.items())])


def _behaviour(name: str, cells: Sequence[Cell], part: Part, experts: str) -> list[str]:
    suites = [rate(mean([one.rate(suite) for one in cells])) for suite in (*SKILLS.values(), "refusal", "over_refusal")]
    sets = [
        rate(mean([one.aqi.get(key, {}).get("value") for one in cells])) for key in ("aqi_log_j", "degeneration_rate")
    ]
    count, of, wilson = analysis.violations(cells, part.anchor)
    over = (
        NONE
        if wilson is None or name == "anchor"
        else f"{count}/{of} [{number(wilson.low, 2)}, {number(wilson.high, 2)}]"
    )
    return [name, str(len(cells)), rate(mean([skill_of(one, experts) for one in cells])), *suites, *sets, over]


def further(part: Part, rows: Mapping[str, Sequence[Cell]]) -> list[str]:
    """Test-only sets, drift and cost, means over the cells of each row."""
    heads = [
        "",
        "HarmBench",
        "XSTest unsafe",
        "CatQA",
        "XSTest safe",
        "finite drift",
        "linear drift",
        "of the move",
        "distance",
    ]
    heads += ["merge s", "calibration s", "growth MB", "toxicity, helpfulness"]
    return table(heads, [_further(name, cells) for name, cells in {"anchor": [part.anchor], **rows}.items()])


def _further(name: str, cells: Sequence[Cell]) -> list[str]:
    suites = [rate(mean([one.rate(suite) for one in cells])) for suite in (*HARMFUL, *HARMLESS)]
    drift = [
        _mean_of(cells, lambda one: one.drift, key, d)
        for key, d in (("finite", 3), ("linear", 4), ("linear_relative", 5))
    ]
    cost = [
        _mean_of(cells, lambda one: one.cost, key, 1)
        for key in ("merge_seconds", "calibration_seconds", "peak_growth_mb")
    ]
    unscored = sorted({text for one in cells for text in one.unscored.values()})
    return [name, *suites, *drift, rate(mean([one.distance for one in cells])), *cost, "; ".join(unscored)]


def _mean_of(cells: Sequence[Cell], part: Callable[[Cell], Mapping[str, Any]], key: str, decimals: int) -> str:
    found = [part(one).get(key) for one in cells]
    return rate(mean([value if isinstance(value, float | int) else None for value in found]), decimals)


def skill_terms(sets: Sequence[str]) -> dict[str, dict[str, float]]:
    """Each set's own skills, weighing the same."""
    return {name: {SKILLS[one]: 1 / len(SETS[name]) for one in SETS[name]} for name in sets}


def pooled_terms(anchor: Cell, sets: Sequence[str], suites: Sequence[str]) -> dict[str, dict[str, float]]:
    """Every item of the suites weighing the same."""
    sizes = {suite: len(anchor.suites[suite].bits) for suite in suites if suite in anchor.suites}
    return {name: {suite: size / sum(sizes.values()) for suite, size in sizes.items()} for name in sets}


def comparisons(part: Part) -> list[str]:
    """AlignMerge minus each other method and each control, pooled over seeds and sets."""
    ours = part.merges[OURS]
    pairs = [(name, ours, cells) for name, cells in part.merges.items() if name != OURS]
    pairs += [(f"{name}, as it comes", ours, cells) for name, cells in untuned(part).items()]
    pairs += [(f"control {name}", ours, cells) for name, cells in part.others.items() if name in CONTROLS]
    pairs.append(("the anchor", ours, dict.fromkeys(ours, part.anchor)))
    return differences(part, "AlignMerge minus", pairs)


def differences(part: Part, head: str, pairs: Sequence[tuple[str, Cells, Cells]]) -> list[str]:
    """One row per label: first cells minus second ones where both are, paired by item, with 95 % intervals."""
    sets = list(SETS)
    heads = [
        head,
        "cells",
        "test-only refusal",
        "refusal",
        "over-refusal",
        "XSTest safe refused",
        "mean skill",
    ]
    columns = [
        pooled_terms(part.anchor, sets, suites) for suites in (HARMFUL, ("refusal",), ("over_refusal",), HARMLESS)
    ]
    columns.append(skill_terms(sets))
    rows = [
        [name, str(len(set(one) & set(other))), *(interval(compared(one, other, terms)) for terms in columns)]
        for name, one, other in pairs
    ]
    return table(heads, rows)


def untuned(part: Part) -> dict[str, Cells]:
    """The plain merges with their default knobs, by method."""
    suffix = "-default"
    return {name.removesuffix(suffix): cells for name, cells in part.others.items() if name.endswith(suffix)}


def single_experts(part: Part) -> list[str]:
    """AlignMerge minus the best single expert of each skill, by set, pooled over seeds."""
    ours, rows = part.merges[OURS], []
    for experts, names in SETS.items():
        for name in names:
            suite = SKILLS[name]
            best = best_experts(part, names, suite)
            cells = {key: cell for key, cell in ours.items() if key[1] == experts and key[0] in best}
            other = {key: best[key[0]] for key in cells}
            found = compared(cells, other, {experts: {suite: 1.0}}) if cells else None
            each = [paired(cells[key], other[key], {suite: 1.0}) for key in sorted(cells)]
            rows.append([experts, suite, interval(found), "; ".join(interval(one) for one in each) or NONE])
    return table(["set", "skill", "pooled over seeds", "each seed (Tango)"], rows)


def best_experts(part: Part, names: Sequence[str], suite: str) -> dict[int, Cell]:
    """By seed the expert of the set that is best on the suite; seeds without all of them are left out."""
    out = {}
    for seed in sorted({seed for seed, _ in part.experts}):
        own = [part.experts[seed, name] for name in names if (seed, name) in part.experts]
        if len(own) == len(names):
            out[seed] = max(own, key=lambda one: one.rate(suite) or 0.0)
    return out


def correlations(part: Part) -> list[str]:
    """Spearman's rho of each drift against the refusals lost, over all merges of the setting."""
    every = [one for cells in (*part.merges.values(), *part.others.values()) for one in cells.values()]
    rows = []
    for key, name in (
        ("linear", "linear drift"),
        ("linear_relative", "linear drift of the move"),
        ("finite", "finite drift"),
    ):
        known = [(one.drift.get(key), one.rate("refusal")) for one in every]
        pairs = [(float(d), float(r)) for d, r in known if isinstance(d, float | int) and r is not None]
        lost = [(part.anchor.rate("refusal") or 0.0) - refusal for _, refusal in pairs]
        try:
            found = rank_correlation([drift for drift, _ in pairs], lost)
        except Inconclusive as reason:
            rows.append([name, str(len(pairs)), f"not computed: {reason}"])
            continue
        rows.append([name, str(found.points), f"{signed(found.rho)} [{number(found.low)}, {number(found.high)}]"])
    return table(["", "merges", "Spearman's rho with the loss of refusals"], rows)
