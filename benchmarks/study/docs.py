"""docs/study.md and its figures from the committed JSONs alone: equal files give an equal page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignmerge import jsonio
from alignmerge.errors import UsageError
from alignmerge.reports.text import number
from benchmarks.study import cells as files
from benchmarks.study import current, swept, tables
from benchmarks.study.cells import Cell
from benchmarks.study.claims import claims
from benchmarks.study.design import CONTROLS, DEFAULTS, FAMILIES, METHODS, SEEDS, SETS, SETTINGS, SKILLS
from benchmarks.study.tables import OURS, Part, table
from benchmarks.study.tuning import Tuned

HEAD = """# The study

AlignMerge beside other merges, on the same inputs and the same items. Made by `python -m benchmarks.study docs`
from `benchmarks/results/{results}`; every number on this page comes from those files. A dash is a number
that was not measured.

Rates are means over the cells of a row, a cell being one merge of one training seed. Differences are paired by
item; their 95 % intervals are Tango's for one cell (of several suites put together by MOVER), and a bootstrap over
seeds and items where cells are pooled (with three seeds, the part that seeds have in it is coarse). A merge is over
budget when its refusal is more than 0.05 below the anchor's or its over-refusal more than 0.05 above, by point
estimates. HarmBench (validation behaviours), XSTest and CatQA (a fixed 200 of its prompts) are test-only: nothing was
trained, calibrated or chosen on them. Finite drift is the mean KL divergence from the anchor on its own answers to
test items, in nats per token. Linear drift is the squared length of the move's projection on the alignment subspace
(matched calibration pairs, identity chart), then as a share of the whole move's. Growth is how far the process's
memory rose during the merge; seconds are on the machine named below, where other work ran too: they say little.
"""

SHOWN = (
    'What is paired by item is decided on the bound that is named; drift and violations on their means. "So far" is '
    "said until every cell that the claim needs is there and was scored."
)

SHIELD = "linear_shield_"
RANDOM_SHIELD = f"{SHIELD}random"
MIXTURE = "mixture"
SHIELDS = (
    "The mixture at scale 0.7, from which a shield takes its part in an alignment subspace and the random removal a "
    "part of a random subspace, as long as the full shield's and of its rank."
)

CHOICE = (
    "Chosen: the highest mean skill among the points with refusal at least 0.9 of the anchor's and over-refusal at "
    "most 0.05 above it; where there is none, the highest skill less twice the excess. Frozen for all seeds and sets."
)

EFFORT = (
    "Effort was not equal. The baselines had at most 12 evaluations each, listed below. AlignMerge's defaults were set "
    "while it was made, on validation items of seed 0, in more than 12 looks. repair_finetune was "
    "not tuned: it has the rows, the steps and the alignment share that AlignMerge's defaults have, else its own. So "
    "the tables flatter AlignMerge beside it; the frontier is where both are to be swept over as many points."
)


def write(results: Path, page: Path) -> list[Path]:
    """The files written: the page and, where frontier cells are there, a figure beside it per setting."""
    text, figures = render(results)
    jsonio.write_bytes(page, text.encode())
    for name, drawing in figures.items():
        jsonio.write_bytes(page.parent / name, drawing.encode())
    return [page, *(page.parent / name for name in figures)]


def render(results: Path) -> tuple[str, dict[str, str]]:
    """The page, and its figures by file name.

    Raises:
        UsageError: there is no cell at all. RecordError: a malformed one.
    """
    cells = files.read_all(results)
    if not cells:
        raise UsageError(f"{results}: holds no cell; make some with `run`")
    tuned = Tuned(results / "tuned.json")
    cells, stale = current.split(cells, tuned)
    lines = [HEAD.format(results=results.name), *_what_ran(cells, stale)]
    figures: dict[str, str] = {}
    for setting in SETTINGS.values():
        part = Part.of(setting.name, cells, list(METHODS), [one for one, _ in stale])
        if part is None:
            continue
        lines += [f"## {setting.title}", ""]
        lines += _setting(part)
        drawn, found = swept.frontiers(part)
        lines += [*found, *swept.against_the_best(part), *swept.effort(part)]
        figures |= drawn
    lines += _tuning(tuned.value)
    return "\n".join(lines).rstrip("\n") + "\n", figures


def _what_ran(cells: Sequence[Cell], stale: Sequence[tuple[Cell, str]]) -> list[str]:
    rows = []
    every = [*cells, *(one for one, _ in stale)]
    for setting in SETTINGS:
        own = [one for one in every if one.setting == setting]
        rows += _counts(setting, own, [one for one, _ in stale])
    limits = sorted({one.limit for one in every if one.limit is not None})
    asked = max(every, key=lambda one: len(one.suites)).suites
    items = ", ".join(f"{name} {len(one.bits)}" for name, one in asked.items())
    words = [f"{_machines(every)} Items: {items}."]
    words += (
        [f"Some cells were asked only the first {limits[0]} items of each suite: a trial, no result."] if limits else []
    )
    reasons = sorted({f"{name} is {text}" for one in every for name, text in one.unscored.items()})
    words.append(f"{'; '.join(reasons)}." if reasons else "")
    return ["## What was run", "", " ".join(words), "", *table(["setting", "what", "cells"], rows), *_stale(stale)]


def _machines(every: Sequence[Cell]) -> str:
    """How many cells are from which machine; where there are several, what that does to a comparison."""
    found = Counter(str(one.made["machine"]) for one in every)
    if len(found) == 1:
        return f"Machine: {next(iter(found))}."
    counted = "; ".join(f"{name} ({count} cells)" for name, count in sorted(found.items()))
    return (
        f"Machines: {counted}. A cell's file says which. On another kind of processor some outcomes of one and the "
        "same checkpoint differ ([measured](engines.md)); how far a solve there leads elsewhere is not measured."
    )


def _counts(setting: str, own: Sequence[Cell], stale: Sequence[Cell]) -> list[list[str]]:
    """How many cells of each row of the design there are."""
    if not own:
        return [[setting, "every method, control and frontier", "not run"]]
    rows = []
    for label, method in METHODS.items():
        reason = method.undefined.get(setting)
        found = [one for one in own if (one.kind, one.method) == ("merge", label)]
        said = f"not defined: {reason}" if reason else _made(found, stale, len(SEEDS) * len(SETS))
        rows.append([setting, label, said])
    experts = [one for one in own if one.kind == "expert"]
    rows.append([setting, "experts", _made(experts, stale, len(SEEDS) * len(SKILLS))])
    defaults = [name for name in DEFAULTS if setting not in METHODS[name].undefined]
    untuned = [one for one in own if one.kind == "default"]
    rows.append([setting, "baselines as they come", _made(untuned, stale, len(SEEDS) * len(defaults))])
    for label in CONTROLS:
        found = [one for one in own if (one.kind, one.method) == ("control", label)]
        rows.append([setting, f"control {label}", _made(found, stale, len(SEEDS)) if found else "not run"])
    for name, family in FAMILIES.items():
        found = [one for one in own if one.kind == "frontier" and one.method.startswith(f"{name}.")]
        rows.append([setting, f"frontier {name}", _made(found, stale, len(family.points) * len(SEEDS))])
    return rows


def _made(found: Sequence[Cell], stale: Sequence[Cell], wanted: int) -> str:
    old = sum(one in stale for one in found)
    return f"{len(found) - old} of {wanted}" + (f", and {old} stale" if old else "")


def _stale(stale: Sequence[tuple[Cell, str]]) -> list[str]:
    """What is different about the stale cells."""
    if not stale:
        return []
    by_reason: dict[str, list[str]] = {}
    for one, reason in stale:
        of = f" of set {one.set}" if one.set else ""
        by_reason.setdefault(f"{one.kind} {one.method}{of}: {reason}", []).append(f"{one.setting} seed {one.seed}")
    words = (
        "Stale cells are of an earlier design, or of other checkpoints. They stand in the tables under their own name, "
        "but points of a frontier in none, and are left out of the claims and of every comparison:"
    )
    return [words, "", *(f"- {what} ({', '.join(where)})." for what, where in by_reason.items()), ""]


def _setting(part: Part) -> list[str]:
    out: list[str] = []
    out += ["### What was to be shown", "", SHOWN, "", *claims(part)]
    if part.experts:
        experts = {name: [one for (_, own), one in sorted(part.experts.items()) if own == name] for name in SKILLS}
        known = {name: found for name, found in experts.items() if found}
        out += ["### Experts", "", *tables.behaviour(part, known, "three")]
    for name in reversed(SETS):
        rows = {label: _of(found, name) for label, found in part.merges.items() if _of(found, name)}
        rows |= _old([one for one in part.stale if (one.kind, one.set) == ("merge", name)])
        if rows:
            title = f"### Set {name}: {', '.join(SETS[name])}"
            out += [title, "", *tables.behaviour(part, rows, name), *tables.further(part, rows)]
    if OURS in part.merges:
        out += ["### AlignMerge against each, pooled", "", *tables.comparisons(part)]
        if part.experts:
            out += ["### AlignMerge against the best single expert", "", *tables.single_experts(part)]
    if part.merges:
        out += ["### Drift and refusals", "", *tables.correlations(part)]
    old = _old([one for one in part.stale if one.kind in ("control", "default")])
    if part.others or old:
        rows = {label: [found[key] for key in sorted(found)] for label, found in part.others.items()} | old
        why = [f"- {label}: {CONTROLS[label].why}." for label in rows if label in CONTROLS]
        out += ["### Controls, and methods untuned", "", *why, "", *tables.behaviour(part, rows, "three")]
        out += tables.further(part, rows)
        out += _shields(part)
    return out


def _shields(part: Part) -> list[str]:
    """Each one-shot shield, and the mixture itself, less the random removal of equal rank and length."""
    random = part.others.get(RANDOM_SHIELD, {})
    names = [one for one in part.others if one == MIXTURE or (one.startswith(SHIELD) and one != RANDOM_SHIELD)]
    found = {label: part.others[label] for label in names}
    if not random or not found:
        return []
    rows = tables.differences(part, f"minus {RANDOM_SHIELD}", [(one, cells, random) for one, cells in found.items()])
    return ["### One-shot shields against a random removal", "", SHIELDS, "", *rows]


def _of(found: Mapping[tuple[int, str], Cell], experts: str) -> list[Cell]:
    return [found[key] for key in sorted(found) if key[1] == experts]


def _old(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Rows of stale cells, under names that say so."""
    rows: dict[str, list[Cell]] = {}
    for one in cells:
        rows.setdefault(f"{one.method} (stale)", []).append(one)
    return rows


def _tuning(tuned: Mapping[str, Any]) -> list[str]:
    out: list[str] = []
    for setting, part in tuned["settings"].items():
        if "anchor" not in part:
            continue
        rows = [row for label, entry in part["methods"].items() for row in _tuned(label, entry)]
        for label in (name for name, one in METHODS.items() if not one.axes and name not in part["methods"]):
            knobs = ", ".join(f"{key} {value}" for key, value in METHODS[label].fixed.items()) or "its defaults"
            rows.append([label, "not tuned here", "0", knobs, *[tables.NONE] * 3])
        words = (
            f"Setting {setting}: seed {part['on']['seed']}, set {part['on']['set']}, {part['items']} validation items "
            f"per suite. The anchor: refusal {number(part['anchor']['refusal'])}, "
            f"over-refusal {number(part['anchor']['over_refusal'])}. {CHOICE}"
        )
        heads = ["", "", "evaluations", "knobs", "mean skill", "refusal", "over-refusal"]
        out += [*([] if out else ["## Tuning", "", EFFORT]), "", words, "", *table(heads, rows)]
    return out


def _tuned(label: str, entry: Mapping[str, Any]) -> list[list[str]]:
    """A method's rows: as it comes, and as it was chosen."""
    chosen = next((one for one in entry["evaluations"] if one["parameters"] == entry.get("chosen")), None)
    rows = []
    for kind, one in (("as it comes", next(iter(entry["evaluations"]), None)), ("chosen", chosen)):
        if one is not None:
            numbers = [number(one[key]) for key in ("skill", "refusal", "over_refusal")]
            knobs = ", ".join(f"{key} {value}" for key, value in one["parameters"].items())
            rows.append([label, kind, str(len(entry["evaluations"])), knobs, *numbers])
    return rows


def lines(cells: Sequence[Cell]) -> list[str]:
    """One plain line per cell."""
    out = []
    for one in cells:
        rates = "  ".join(f"{name} {found.rate:.3f}" for name, found in one.suites.items() if found.rate is not None)
        out.append(f"{one.setting} {one.kind} seed {one.seed} {one.set or tables.NONE} {one.method}: {rates}")
    return out
