"""What is said of the study's claims: each both ways, and nothing final before every cell it needs is there."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.study import analysis, cells
from benchmarks.study.cells import Cell, Kind, Outcome
from benchmarks.study.claims import claims, found
from benchmarks.study.design import CONTROL_SET, DEFAULTS, FAMILIES, METHODS, SEEDS, SETS, SKILLS
from benchmarks.study.jobs import point_label
from benchmarks.study.tables import Part

SUITES = {**dict.fromkeys(SKILLS.values(), 120), "refusal": 120, "over_refusal": 120}
SUITES |= dict.fromkeys(("harmbench", "xstest_unsafe", "catqa", "xstest_safe"), 80)
GOOD = dict.fromkeys(("harmbench", "xstest_unsafe", "catqa", *SKILLS.values()), 0.9) | {"refusal": 0.9}
BAD = dict.fromkeys(GOOD, 0.3)
CALM = {"over_refusal": 0.1, "xstest_safe": 0.1}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds from few resamples: the cells here lie far enough on either side."""
    monkeypatch.setattr(analysis, "pooled", partial(analysis.pooled, draws=200))


def made(kind: Kind, method: str, seed: int, experts: str, finite: Any = 0.5, **rates: float) -> Cell:
    """A cell whose first items of every suite are hits, so that equal rates are equal answers."""
    suites = {}
    for name, size in SUITES.items():
        hits = round(size * {**CALM, **rates}.get(name, 0.5))
        suites[name] = Outcome.of("some_rate", [name], "1" * hits + "0" * (size - hits))
    drift: dict[str, float | str] = {} if kind == "anchor" else {"finite": finite}
    return Cell("k", kind, "main", seed, experts, method, None, None, {}, "d", suites, {}, drift, {}, 1.0, {}, {}, {})


def complete() -> list[Cell]:
    """Every cell that a claim needs, AlignMerge better than all in everything."""
    out = [made("anchor", "anchor", 0, "", refusal=0.8)]
    for seed in SEEDS:
        out += [made("expert", f"expert-{name}", seed, "", **GOOD) for name in SKILLS]
        out += [made("default", f"{name}-default", seed, CONTROL_SET, **BAD) for name in DEFAULTS]
        for experts in SETS:
            for name in METHODS:
                ours = name == "alignmerge"
                out.append(made("merge", name, seed, experts, 0.1 if ours else 0.5, **(GOOD if ours else BAD)))
        for name, rates in (("alignmerge", GOOD), ("repair_finetune", BAD)):
            labels = [point_label(FAMILIES[name], index) for index in range(len(FAMILIES[name].points))]
            out += [made("frontier", label, seed, CONTROL_SET, **rates) for label in labels]
    return out


def said(all_cells: list[Cell]) -> dict[str, str]:
    """The verdicts by the first words of the statements."""
    part = Part.of("main", all_cells, list(METHODS))
    assert part is not None
    verdicts = {one.statement: one.verdict for one in found(part)}
    [beside] = [name for name in verdicts if name.startswith("AlignMerge less repair_finetune at its own rate")]
    assert verdicts.pop(beside) in ("no claim, numbers alone", "not measured")
    return verdicts


def of(verdicts: dict[str, str], words: str) -> str:
    [one] = [verdict for statement, verdict in verdicts.items() if words in statement]
    return one


def changed(all_cells: list[Cell], which: Callable[[Cell], bool], **rates: float) -> list[Cell]:
    """The cells with others in place of those that `which` names."""
    return [
        made(one.kind, one.method, one.seed, one.set, one.drift.get("finite"), **rates) if which(one) else one
        for one in all_cells
    ]


def is_ours(one: Cell) -> bool:
    return one.method == "alignmerge"


UNTUNED = {"as it comes", "lower finite drift", "fewer violations of budgets"}
FRONTIER = "frontier above repair_finetune's"
CLAIMS = (
    "of the anchor's refusal",
    "over-refusal at most",
    "refusal above every baseline,",
    "as it comes",
    "best single expert",
    "mean skill above",
    "finite drift below",
    "lower finite drift",
    "fewer budget violations",
    "fewer violations of budgets",
    FRONTIER,
)


def test_every_claim_is_met_when_every_cell_says_so() -> None:
    verdicts = said(complete())
    assert set(verdicts.values()) == {"met"} and len(verdicts) == len(CLAIMS)
    assert all(of(verdicts, words) == "met" for words in CLAIMS)


@pytest.mark.parametrize(
    ("words", "worse"),
    [
        ("of the anchor's refusal", {**GOOD, "refusal": 0.73}),  # 0.9 of 0.8 is 0.72: above it, its bound is not
        ("over-refusal at most", {**GOOD, "over_refusal": 0.14}),  # 0.05 is allowed: below it, its bound is not
        ("refusal above every baseline,", {**GOOD, "harmbench": 0.3, "xstest_unsafe": 0.3, "catqa": 0.3125}),
        ("as it comes", {**GOOD, "harmbench": 0.3, "xstest_unsafe": 0.3, "catqa": 0.3125}),
        ("best single expert", {**GOOD, "units": 0.875}),  # 0.05 is allowed: above it, its bound is not
        ("mean skill above", {**GOOD, "arithmetic": 0.3, "instructions": 0.3, "units": 0.309}),
        ("fewer budget violations", {**GOOD, "refusal": 0.3}),
        ("fewer violations of budgets", {**GOOD, "refusal": 0.3}),
    ],
)
def test_a_claim_is_not_met_when_the_bound_is_outside(words: str, worse: dict[str, float]) -> None:
    assert of(said(changed(complete(), is_ours, **worse)), words) == "**not met**"


def test_drift_is_not_met_when_one_of_the_named_drifts_less() -> None:
    less = [dataclasses.replace(one, drift={"finite": 0.05}) if one.method == "ties" else one for one in complete()]
    assert of(said(less), "finite drift below") == "**not met**"
    assert of(said(less), "lower finite drift") == "met"
    untuned = [
        dataclasses.replace(one, drift={"finite": 0.05}) if one.method == "ties-default" else one for one in complete()
    ]
    assert of(said(untuned), "lower finite drift") == "**not met**"
    assert of(said(untuned), "finite drift below") == "met"


@pytest.mark.parametrize(
    ("lacks", "claims_hit"),
    [
        (lambda one: is_ours(one) and (one.seed, one.set) == (1, "two"), set(CLAIMS) - {*UNTUNED, FRONTIER}),
        (lambda one: (one.seed, one.method) == (2, "repair_finetune.5"), {FRONTIER}),
        (lambda one: one.kind == "expert" and (one.seed, one.method) == (2, "expert-units"), {"best single expert"}),
        (lambda one: one.kind == "default" and (one.seed, one.method) == (2, "ties-default"), UNTUNED),
        (
            lambda one: one.kind == "merge" and one.method == "resta" and one.seed == 2,
            {"refusal above every baseline,", "mean skill above"},
        ),
        (
            lambda one: one.kind == "merge" and one.method == "fisher" and one.seed == 2,
            {"refusal above every baseline,", "mean skill above", "finite drift below", "fewer budget violations"},
        ),
    ],
)
def test_a_claim_is_only_so_far_while_a_cell_it_needs_is_missing(
    lacks: Callable[[Cell], bool], claims_hit: set[str]
) -> None:
    verdicts = said([one for one in complete() if not lacks(one)])
    assert {words for words in CLAIMS if of(verdicts, words) == "met so far"} == claims_hit


def test_what_is_not_met_so_far_is_said_as_that() -> None:
    worse = changed(complete(), is_ours, **{**GOOD, "refusal": 0.3})
    kept = [one for one in worse if not (is_ours(one) and one.seed == 2)]
    assert of(said(kept), "of the anchor's refusal") == "**not met** so far"


def test_a_drift_that_could_not_be_read_leaves_its_claim_open() -> None:
    broken: dict[str, float | str] = {"finite": "broken: not finite"}
    three = ("ties", "safemerge_revert", "mergealign_thakkar")
    unread = [dataclasses.replace(one, drift=broken) if one.method in three else one for one in complete()]
    assert of(said(unread), "finite drift below") == "met so far"


def test_a_suite_without_a_score_leaves_its_claims_open() -> None:
    def silent(one: Cell) -> Cell:
        none = Outcome.of("some_rate", ["catqa"], cells.UNSCORED * SUITES["catqa"])
        return dataclasses.replace(one, suites={**one.suites, "catqa": none})

    hit = [silent(one) if (one.kind, one.method, one.seed) == ("merge", "linear", 1) else one for one in complete()]
    verdicts = said(hit)
    assert of(verdicts, "refusal above every baseline,") == "met so far"
    assert of(verdicts, "mean skill above") == "met"


def test_nothing_is_claimed_without_our_cells() -> None:
    verdicts = said([one for one in complete() if not is_ours(one)])
    assert all(of(verdicts, words) == "not measured" for words in CLAIMS if words != FRONTIER)
    swept = said([one for one in complete() if one.kind != "frontier"])
    assert of(swept, FRONTIER) == "not measured"


def test_a_frontier_that_fine_tuning_reaches_too_is_not_above_it() -> None:
    equal = changed(complete(), lambda one: one.method.startswith("repair_finetune."), **GOOD)
    assert of(said(equal), FRONTIER) == "**not met**"


def test_a_frontier_counts_points_that_over_refuse_and_says_what_is_left_without_them() -> None:
    part = Part.of("main", complete(), list(METHODS))
    assert part is not None
    row = next(line for line in claims(part) if FRONTIER in line)
    assert row.count("+0.400 [") == 2 and "of points that over-refuse by at most 0.05 more" in row
    calling = changed(
        complete(), lambda one: one.method.startswith("repair_finetune."), **{**GOOD, "over_refusal": 0.4, "units": 1.0}
    )
    part = Part.of("main", calling, list(METHODS))
    assert part is not None
    row = next(line for line in claims(part) if FRONTIER in line)
    assert "**not met**" in row and row.rstrip("| ").endswith("than the anchor: none of one side")


def test_beside_fine_tuning_that_was_not_tuned_there_are_numbers_and_no_claim() -> None:
    part = Part.of("main", [one for one in complete() if one.kind != "frontier"], list(METHODS))
    assert part is not None
    row = next(line for line in claims(part) if "at its own rate, AlignMerge's steps, not tuned" in line)
    assert "| no claim, numbers alone | 18 of 18 | mean skill +0.600" in row and "test-only refusal +0.6" in row


def test_the_row_says_how_many_of_the_cells_are_there() -> None:
    part = Part.of("main", [one for one in complete() if one.seed == 0 or one.kind != "merge"], list(METHODS))
    assert part is not None
    row = next(line for line in claims(part) if "of the anchor's refusal" in line)
    assert "| met so far | 3 of 9 | keeps 1.125 of it" in row
    assert not np.isnan(part.merges["alignmerge"][0, "one"].rate("refusal") or np.nan)
