"""The page's parts on effort: frontiers of swept points, and results beside items and gradient passes."""

import math
from collections.abc import Mapping, Sequence

from alignmerge.reports.text import number
from benchmarks.study import figure, tables
from benchmarks.study.analysis import RISE, Cells, Pooled
from benchmarks.study.cells import Cell
from benchmarks.study.design import CONTROL_SET, FAMILIES, SEEDS, SKILLS
from benchmarks.study.frontier import Frontier
from benchmarks.study.jobs import point_label
from benchmarks.study.tables import NONE, OURS, Part, interval, rate, table

TUNERS = (OURS, "repair_finetune")
# How many rows a gradient was taken of: steps, and rows in each.
PASSES = {"alignmerge": ("descent_steps", "batch_rows"), "repair_finetune": ("steps", "batch_rows")}


def points(part: Part, name: str) -> list[Cells]:
    """The family's points that have a cell, in their order."""
    labels = [point_label(FAMILIES[name], index) for index in range(len(FAMILIES[name].points))]
    return [part.points[label] for label in labels if label in part.points]


def wanted(name: str) -> int:
    """How many cells the family has in the design."""
    return len(FAMILIES[name].points) * len(SEEDS)


def same_seeds(families: Sequence[Sequence[Cells]]) -> list[list[Cells]]:
    """The families on the seeds that every one of their points has; empty ones where there is no such seed."""
    every = [{seed for seed, _ in one} for found in families for one in found]
    seeds = set.intersection(*every) if every else set()
    if not seeds:
        return [[] for _ in families]
    return [[{key: one[key] for key in one if key[0] in seeds} for one in found] for found in families]


def gap(part: Part, other: str, rise: float = math.inf) -> Pooled | None:
    """AlignMerge's frontier less the other family's, on the points and seeds that are there; None without any.

    rise: how much more than the anchor a point may over-refuse.
    """
    own, others = same_seeds([points(part, OURS), points(part, other)])
    return Frontier(part.anchor, list(SKILLS.values()), rise=rise).gap(own, others) if own and others else None


def frontiers(part: Part) -> tuple[dict[str, str], list[str]]:
    """The figure by file name, and the section's lines; nothing without a point."""
    names = [name for name in FAMILIES if points(part, name)]
    if not names:
        return {}, []
    kept = dict(zip(names, same_seeds([points(part, name) for name in names]), strict=True))
    if not any(kept.values()):
        return {}, ["### Frontier", "", "No seed has every point yet.", ""]
    every, calm = (Frontier(part.anchor, list(SKILLS.values()), rise=rise) for rise in (math.inf, RISE))
    drawn = {name: curve for name, found in kept.items() if (curve := every.curve(found)) is not None}
    rows = [
        [
            name,
            f"{len(kept[name])} of {len(FAMILIES[name].points)}",
            *_levels(every, kept, name),
            *_levels(calm, kept, name),
        ]
        for name in names
    ]
    file = f"study-frontier-{part.setting}.svg"
    seeds = sorted({seed for found in kept.values() for one in found for seed, _ in one})
    asked = "every test item" if part.anchor.limit is None else f"the first {part.anchor.limit} items of each suite"
    words = (
        f"Mean skill over the share of the anchor's refusals kept, 70 to 95 %, on {asked}, "
        f"seeds {', '.join(map(str, seeds))}. Between points, and from the last one to the anchor, the line is "
        "interpolated. Calm points over-refuse by at most 0.05 more than the anchor; the figure has all points."
    )
    less = "AlignMerge minus it"
    heads = ["", "points", "mean over 70 to 95 %", less, "calm points", "mean over 70 to 95 %", less]
    image = [f"![Mean skill over refusals kept]({file})", ""] if drawn else []
    lines = ["### Frontier", "", words, "", *image, *table(heads, rows)]
    return ({file: figure.frontier(drawn)} if drawn else {}), lines


def _levels(frontier: Frontier, kept: Mapping[str, Sequence[Cells]], name: str) -> list[str]:
    """The family's mean level and AlignMerge's less it; before them how many points count, where not all do."""
    curve = frontier.curve(kept[name])
    counts = [] if frontier.takes_all else [str(0 if curve is None else len(kept[name]) - curve.dropped)]
    if curve is None:
        return [*counts, NONE, NONE]
    less = NONE if name == OURS or OURS not in kept else interval(frontier.gap(kept[OURS], kept[name]))
    return [*counts, number(sum(curve.skill) / len(curve.skill)), less]


def against_the_best(part: Part) -> list[str]:
    """AlignMerge's points, and controls of other rows or residuals, less fine-tuning's most skilled point."""
    name = next(one for one in TUNERS if one != OURS)
    kept = [(cells, one) for cells, one in zip(points(part, name), *same_seeds([points(part, name)]), strict=True)]
    found = {label: cells for label, cells in part.points.items() if _made_by(cells, OURS)}
    found |= {label: cells for label, cells in part.others.items() if _made_by(cells, *TUNERS)}
    if not any(one for _, one in kept) or not found:
        return []
    skill = [tables.mean([tables.skill_of(cell, CONTROL_SET) for cell in one.values()]) or 0.0 for _, one in kept]
    best = kept[skill.index(max(skill))][0]
    label = next(label for label, cells in part.points.items() if cells is best)
    words = (
        f"{label} is the most skilled of fine-tuning's points on the seeds that all of them have: chosen on the items "
        "that it is compared on, so it flatters fine-tuning."
    )
    pairs = [(one, cells, best) for one, cells in found.items()]
    rows = tables.differences(part, f"minus {label}", pairs)
    return ["### AlignMerge's points against fine-tuning's best", "", words, "", *rows]


def effort(part: Part) -> list[str]:
    """What AlignMerge and fine-tuning reach with how many items and gradient passes, on the controls' set."""
    found: dict[str, Cells] = {name: _on_set(part.merges.get(name, {})) for name in TUNERS}
    found |= {
        name: cells for name, cells in part.others.items() if _made_by(cells, *TUNERS) and _varies(cells, found[OURS])
    }
    found |= {name: cells for name, cells in part.points.items() if _made_by(cells, *TUNERS)}
    rows = [_effort(name, cells) for name, cells in found.items() if cells]
    if not rows:
        return []
    words = (
        f"Set {CONTROL_SET}. Rows are those that the method learns from, held-out ones not counted; passes are the "
        "rows that the descent takes a gradient of, without AlignMerge's restoring steps."
    )
    heads = ["", "seeds", "rows", "passes", "mean skill", "refusal", "over-refusal"]
    return ["### Items and gradient passes", "", words, "", *table(heads, rows)]


def _on_set(cells: Cells) -> Cells:
    return {key: one for key, one in cells.items() if key[1] == CONTROL_SET}


def _made_by(cells: Cells, *methods: str) -> bool:
    return all(one.recipe is not None and one.recipe["method"] in methods for one in cells.values())


def _varies(cells: Cells, ours: Cells) -> bool:
    """Whether a control differs from AlignMerge's cells in what it is handed."""
    handed = [one.recipe["calibration"] for one in ours.values() if one.recipe is not None]
    return any(one.recipe is not None and one.recipe["calibration"] not in handed for one in cells.values())


def _effort(name: str, of: Cells) -> list[str]:
    cells, seeds = list(of.values()), ", ".join(str(seed) for seed, _ in sorted(of))
    rows = tables.mean([_number(one.account.get("rows")) for one in cells])
    passes = tables.mean([_passes(one) for one in cells])
    rates = [tables.mean([one.rate(suite) for one in cells]) for suite in ("refusal", "over_refusal")]
    skill = tables.mean([tables.skill_of(one, CONTROL_SET) for one in cells])
    return [name, seeds, rate(rows, 0), rate(passes, 0), *map(rate, (skill, *rates))]


def _passes(cell: Cell) -> float | None:
    if cell.recipe is None or cell.recipe["method"] not in PASSES:
        return None
    steps, batch = (cell.recipe["parameters"].get(key) for key in PASSES[cell.recipe["method"]])
    return None if steps is None or batch is None else float(steps * batch)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
