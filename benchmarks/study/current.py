"""Which cells are of the study as it is designed now; the others are stale: shown, but compared with nothing."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from alignmerge.errors import UsageError
from benchmarks.study import jobs
from benchmarks.study.cells import Cell
from benchmarks.study.checkpoints import measured, others
from benchmarks.study.design import CONTROLS, FAMILIES, METHODS, SEEDS, SETS, SETTINGS
from benchmarks.study.job import Job
from benchmarks.study.tuning import Tuned

Name = tuple[str, str, int, str, str]  # kind, setting, seed, set, method


def split(cells: Sequence[Cell], tuned: Tuned) -> tuple[list[Cell], list[tuple[Cell, str]]]:
    """The cells that are current, and the stale ones, each with what is different about it.

    A cell is stale when the design gives another recipe for its name, or none, when it was asked other items than its
    setting's anchor, and when it was made of other checkpoints than its seed's experts or its setting's anchor:
    training gives other bytes on another kind of processor, and a merge is compared with the experts it was made of.
    """
    designed = {_name(job): job for setting in SETTINGS for job in _jobs(tuned, setting)}
    anchors = {one.setting: one for one in cells if one.kind == "anchor"}
    known = {place: measured(cells, *place) for place in {(one.setting, one.seed) for one in cells}}
    kept, stale = [], []
    for one in cells:
        other = others(one.inputs, known[one.setting, one.seed])
        reason = _asked(one, anchors.get(one.setting)) or _made(one, designed)
        reason = reason or (f"made of another {', '.join(other)} than is measured" if other else "")
        if reason:
            stale.append((one, reason))
        else:
            kept.append(one)
    return kept, stale


def _name(job: Job) -> Name:
    return job.kind, job.setting, job.seed, job.set, job.label


def _jobs(tuned: Tuned, setting: str) -> Iterator[Job]:
    """Every job of the setting whose frozen knobs are known."""
    yield from jobs.defaults(setting, SEEDS)
    makers: list[tuple[Iterable[str], Callable[[str], list[Job]]]] = [
        (METHODS, lambda name: jobs.merges(tuned, setting, SEEDS, list(SETS), [name])),
        (CONTROLS, lambda name: jobs.controls(tuned, setting, SEEDS, [name])),
        (FAMILIES, lambda name: jobs.frontier(tuned, setting, SEEDS, [name])),
    ]
    for names, make in makers:
        for name in names:
            with suppress(UsageError):  # a method that is not tuned to the end has no knobs yet
                yield from make(name)


def _asked(cell: Cell, anchor: Cell | None) -> str:
    """How what was asked differs from what the anchor was asked; empty where it does not."""
    if anchor is None:
        return ""
    own, wanted = ({name: one.items for name, one in cell.suites.items()} for cell in (cell, anchor))
    other = sorted(name for name in {*own, *wanted} if own.get(name) != wanted.get(name))
    return f"other items of {', '.join(other)}" if other else ""


def _made(cell: Cell, designed: Mapping[Name, Job]) -> str:
    """How the recipe differs from the design's; empty where it does not, and where the cell has none to differ."""
    if cell.kind in ("anchor", "expert"):
        return ""
    job = designed.get((cell.kind, cell.setting, cell.seed, cell.set, cell.method))
    if job is None:
        return "the design has no such cell"
    own, wanted = dict(_flat(cell.recipe or {})), dict(_flat(job.recipe.to_json()))
    if cell.method in jobs.norms(list(CONTROLS)):  # its scale is found while it is made
        own["parameters.scale"] = wanted["parameters.scale"]
    other = sorted(key for key in {*own, *wanted} if own.get(key) != wanted.get(key))
    return "; ".join(f"{key} {_said(own, key)}, now {_said(wanted, key)}" for key in other)


def _flat(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a JSON value by their path."""
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    found = [row for key, part in parts for row in _flat(part, f"{at}.{key}" if at else str(key))]
    yield from found or [(at, value)]


def _said(leaves: Mapping[str, Any], key: str) -> str:
    return str(leaves[key]) if key in leaves else "absent"
