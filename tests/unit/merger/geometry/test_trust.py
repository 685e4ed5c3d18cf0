"""The trust region: its measure against a float64 KL, and what it cuts of a descent and of a restoring step."""

import copy
import math
from itertools import pairwise
from typing import Any

import pytest
import torch

from alignmerge import jsonio
from alignmerge.merger.geometry import descent, solver
from alignmerge.merger.geometry.budget import Budget
from alignmerge.merger.geometry.chart import Identity
from alignmerge.merger.geometry.functional import OwnAnswers
from alignmerge.merger.geometry.merit import Merit, Weights
from alignmerge.merger.geometry.rows import Row
from alignmerge.merger.geometry.trust import Trust
from tests.unit.merger.geometry.problems import Problem, Silent, problem, shifted

WEIGHTS = Weights(geo=0.001, align=1.0, skill=1.0, bud=10.0)


@pytest.fixture(scope="module")
def given() -> Problem:
    return problem()


def exact(before: Any, after: Any, rows: list[Row]) -> float:
    """KL per answer token in float64, row by row, over the whole vocabulary."""
    total = 0.0
    for row in rows:
        ids = torch.tensor([[*row.prompt, *row.answer]])
        where = slice(len(row.prompt) - 1, -1)
        with torch.no_grad():
            p, q = (model(input_ids=ids).logits[0, where].double().log_softmax(dim=1) for model in (before, after))
        total += float((p.exp() * (p - q)).sum(dim=1).mean())
    return total / len(rows)


def test_it_measures_kl_from_the_last_accepted_model(given: Problem) -> None:
    rows = [*given.calibration.validation, *given.calibration.skill_validation]
    trust = Trust(rows, 1.0, 0, chunk=3)
    trust.accept(given.anchor)
    assert trust.gone(given.anchor) == pytest.approx(0.0, abs=1e-6)
    near, far = shifted(given.anchor, 9, 0.02), shifted(given.anchor, 9, 0.2)
    found = [trust.gone(model) or 0.0 for model in (near, far)]
    assert found == pytest.approx([exact(given.anchor, model, rows) for model in (near, far)], rel=1e-3)
    assert 0 < found[0] < found[1]
    trust.accept(far)
    assert trust.gone(near) == pytest.approx(exact(far, near, rows), rel=1e-3)


def test_without_limit_or_rows_nothing_is_measured(given: Problem) -> None:
    for trust in (Trust(given.calibration.validation, 0.0, 0), Trust((), 1.0, 0)):
        trust.accept(given.anchor)
        assert not trust.on and trust.gone(given.anchor) is None and trust.holds(None)


def test_an_output_that_is_no_number_is_outside(given: Problem) -> None:
    trust = Trust(given.calibration.validation, 1e9, 0)
    trust.accept(given.anchor)
    broken = copy.deepcopy(given.anchor)
    broken.model.layers[0].mlp.down_proj.weight.data[0, 0] = math.nan
    gone = trust.gone(broken)
    assert gone == math.inf and not trust.holds(gone)


def descended(given: Problem, limit: float, radius: float = 3e-3) -> tuple[Any, list[dict[str, Any]]]:
    calibration, model = given.calibration, given.model()
    held_out = (*calibration.validation, *calibration.skill_validation)
    settings = descent.Settings(WEIGHTS, radius=radius, steps=24, batch_rows=8)
    merit = Merit(held_out, None, WEIGHTS, 0.0, kind="divergence", pad=0)
    work = descent.Descent(
        model, given.start, calibration, settings, merit=merit, budget=Budget(0.0, 0.0), chart=Identity(),
        trust=Trust(held_out, limit, 0),
    )  # fmt: skip
    return work, work.run(merit.terms(model, 0.0), Silent())[0]


def test_a_stretch_that_leads_out_of_the_region_is_cut(given: Problem) -> None:
    free, plain = descended(given, 0.0)
    wide, measured = descended(given, 1e6)
    assert all("kl" not in line for line in plain) and all(line["share"] == 1.0 for line in measured)
    assert all(torch.equal(value, wide.weights[name]) for name, value in free.weights.items())
    limit = max(line["kl"] for line in measured) / 3
    work, lines = descended(given, limit)
    assert any(line["share"] < 1 and line["kept"] for line in lines)
    assert all(line["kl"] <= limit for line in lines if line["kept"])
    for before, line in pairwise(lines):
        assert line["radius"] == before["radius"] * before["share"] * (1.0 if before["kept"] else 0.5)
    merits = [line["merit"] for line in lines if line["kept"]]
    assert merits == sorted(merits, reverse=True)
    for name, module in work.layers.items():
        assert torch.equal(module.weight, work.weights[name])


def test_a_region_that_no_halving_reaches_leaves_every_bit(given: Problem) -> None:
    work, lines = descended(given, 1e-12)
    assert [line["kept"] for line in lines] == [0] * len(lines)
    assert all(torch.equal(work.weights[name], value) for name, value in given.start.items())


@pytest.mark.parametrize("radius", [1e19, 1e30])
def test_a_stretch_that_breaks_the_model_is_taken_back(given: Problem, radius: float) -> None:
    work, lines = descended(given, 2.0, radius)
    assert [line["kept"] for line in lines] == [0] * len(lines)
    assert any(line["kl"] is None for line in lines)
    assert all(torch.equal(work.weights[name], value) for name, value in given.start.items())
    assert jsonio.canonical(lines)


def stepped(given: Problem, limit: float) -> list[dict[str, Any]]:
    calibration, model = given.calibration, given.model()
    held_out = (*calibration.validation, *calibration.skill_validation)
    functional = OwnAnswers(calibration.validation, 0)
    merit = Merit(held_out, functional, WEIGHTS, 0.0, kind="divergence", pad=0)
    work = solver.Solver(
        model, given.start, given.start, calibration, solver.Settings(WEIGHTS, steps=2, alignment_rows=8, skill_rows=8),
        merit=merit, budget=Budget(0.0, 10.0), chart=Identity(), trust=Trust(held_out, limit, 0),
    )  # fmt: skip
    return work.run(merit.terms(model, 0.0), Silent())[0]


def test_a_restoring_step_is_halved_until_it_is_inside(given: Problem) -> None:
    wide = stepped(given, 1e6)
    assert wide[0]["shrink"] > 0 and wide[0]["kl"] > 0
    cut = stepped(given, wide[0]["kl"] / 3)
    assert 0 < cut[0]["shrink"] < wide[0]["shrink"] and cut[0]["kl"] <= wide[0]["kl"] / 3
    assert cut[0]["norm"] == pytest.approx(wide[0]["norm"] * cut[0]["shrink"] / wide[0]["shrink"])
    none = stepped(given, 1e-12)
    assert [(line["shrink"], line["kl"]) for line in none] == [(0.0, 0.0)] * 2
