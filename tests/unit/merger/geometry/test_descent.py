"""The descent: its gradient and steps against brute force, what is taken back, and what each lambda switches off."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.budget import Budget
from alignmerge.merger.geometry.chart import Chart, Diagonal, Identity
from alignmerge.merger.geometry.descent import Descent, Settings
from alignmerge.merger.geometry.draw import Draw
from alignmerge.merger.geometry.functional import OwnAnswers
from alignmerge.merger.geometry.gradients import answer_logits, merged_linears, trained
from alignmerge.merger.geometry.merit import Merit, Terms, Weights, apart
from alignmerge.merger.geometry.residuals import squares
from alignmerge.merger.geometry.rows import ALIGNMENT, Row, collate
from tests.unit.merger.geometry.problems import Problem, Silent, linears, problem

WEIGHTS = Weights(geo=0.001, align=1.0, skill=1.0, bud=10.0)


@pytest.fixture(scope="module")
def given() -> Problem:
    return problem()


def descent(
    given: Problem,
    settings: Settings,
    budget: Budget | None = None,
    chart: Chart | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Descent, Terms]:
    """The descent on a copy of the mixture, and the mixture's terms. Without `budget` there is none."""
    model, calibration, chart = given.model(dtype), given.calibration, chart or Identity()
    functional = OwnAnswers(calibration.validation, 0) if budget else None
    held_out = (*calibration.validation, *calibration.skill_validation)
    limit = budget.limit if budget else 0.0
    merit = Merit(held_out, functional, settings.weights, limit, kind=settings.residual, pad=0)
    work = Descent(
        model, given.start, calibration, settings, merit=merit, budget=budget or Budget(0.0, 0.0), chart=chart
    )
    return work, merit.terms(model, 0.0)


def run(given: Problem, settings: Settings, **knobs: Any) -> tuple[Descent, list[dict[str, Any]], Terms, Terms]:
    """The work, its lines, and the terms before and after."""
    work, before = descent(given, settings, **knobs)
    lines, after = work.run(before, Silent())
    return work, lines, before, after


def test_merit_of_what_is_kept_never_rises_and_falls_well(given: Problem) -> None:
    work, lines, before, after = run(
        given, Settings(WEIGHTS, radius=3e-3, steps=24, batch_rows=8), budget=Budget(0, 10)
    )
    merits = [before.merit, *(line["merit"] for line in lines if line["kept"])]
    assert merits == sorted(merits, reverse=True)
    assert len(merits) >= 3
    assert after.merit == merits[-1] < 0.7 * before.merit
    assert after.align < 0.85 * before.align
    assert lines[-1]["rows_align"] < lines[0]["rows_align"] / 2
    assert after.geo == pytest.approx(apart(work.weights, given.start, Identity()), rel=1e-6) and after.geo > 0
    for name, module in merged_linears(work.model).items():
        assert torch.equal(module.weight, work.weights[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_descent_that_goes_too_far_ends_where_it_began(given: Problem, dtype: torch.dtype) -> None:
    settings = Settings(WEIGHTS, radius=10.0, steps=4, batch_rows=4)
    work, lines, before, after = run(given, settings, budget=Budget(0, 10), dtype=dtype)
    assert [line["kept"] for line in lines] == [0, 0, 0, 0]
    assert [line["radius"] for line in lines] == [1, 0.5, 0.25, 0.125]
    assert all(line["merit"] > before.merit and line["geo"] > 0 for line in lines)
    assert after == before
    for name, value in given.start.items():
        assert torch.equal(work.weights[name].view(torch.int32), value.view(torch.int32))
        assert torch.equal(merged_linears(work.model)[name].weight, value.to(dtype))


def test_after_a_stretch_is_taken_back_the_next_one_goes_half_as_far(given: Problem) -> None:
    _, lines, before, after = run(given, Settings(WEIGHTS, radius=0.06, steps=24, batch_rows=8, stretches=12))
    for line, following in pairwise(lines):
        assert following["radius"] == (line["radius"] if line["kept"] else line["radius"] / 2)
    kept = [line["kept"] for line in lines]
    assert 0 in kept and 1 in kept
    assert after.merit < before.merit


def gradient(work: Descent, rows: list[Row]) -> dict[str, Tensor]:
    with trained(work.model, work.layers):
        work._backward(rows)
    return {name: value.grad.clone() for name, value in work.weights.items() if value.grad is not None}


def share(row: Row, rows: list[Row], align: float, skill: float) -> float:
    """A row's weight: its kind's lambda over the rows of that kind."""
    same = sum((other.source == ALIGNMENT) == (row.source == ALIGNMENT) for other in rows)
    return (align if row.source == ALIGNMENT else skill) / same


def brute_force(work: Descent, rows: list[Row], align: float, skill: float, geo: float) -> dict[str, Tensor]:
    """The objective's gradient, row by row; the chart's part from its own length."""
    layers = merged_linears(work.model)
    total: Any = 0.0
    for row in rows:
        batch = collate([row], 0)
        value = squares("divergence", answer_logits(work.model, batch), batch, [row])[0]
        total = total + share(row, rows, align, skill) * value
    found = torch.autograd.grad(total, [module.weight for module in layers.values()])
    out = {}
    for name, own in zip(layers, found, strict=True):
        move = (work.weights[name] - work.start[name]).requires_grad_(True)
        inverse = work.chart.inverse[name] if isinstance(work.chart, Diagonal) else torch.ones_like(move)
        (pull,) = torch.autograd.grad((move.square() / inverse).sum(), move)
        out[name] = own + geo * pull
    return out


@pytest.mark.parametrize(
    ("weights", "added"),
    [
        (Weights(0.5, 1.0, 2.0, 0.0), 0.0),
        (Weights(0.0, 1.0, 2.0, 0.0), 0.0),
        (Weights(0.5, 0.0, 2.0, 0.0), 0.0),
        (Weights(0.5, 1.0, 0.0, 0.0), 0.0),
        (Weights(0.5, 0.0, 0.0, 10.0), 4.0),
        (Weights(0.0, 1.0, 2.0, 10.0), 4.0),
    ],
)
@pytest.mark.parametrize("charted", [False, True])
def test_each_term_has_its_gradient_and_0_switches_it_off(
    given: Problem, weights: Weights, added: float, charted: bool
) -> None:
    chart: Chart = Identity()
    if charted:
        generator = torch.Generator().manual_seed(3)
        chart = Diagonal({name: torch.rand(one.shape, generator=generator) + 0.2 for name, one in given.start.items()})
    budget = Budget(0.1, weights.bud).update(0.5) if weights.bud else Budget(0.0, 0.0)  # 10 times 0.4 over budget
    work, _ = descent(given, Settings(weights, chunk=3), budget, chart)
    for index, value in enumerate(work.weights.values()):
        value += 0.01 * torch.randn(value.shape, generator=torch.Generator().manual_seed(index))
    for name, module in work.layers.items():
        module.weight.data.copy_(work.weights[name])
    rows = list(given.calibration.rows[11:20])
    found = gradient(work, rows)
    expected = brute_force(work, rows, weights.align + added, weights.skill, weights.geo)
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-5 * float(value.abs().max())), name


def test_with_every_lambda_0_nothing_moves(given: Problem) -> None:
    work, lines, _, after = run(given, Settings(Weights(0, 0, 0, 0), radius=0.1, steps=3, batch_rows=4, stretches=1))
    assert lines[-1]["kept"] == 1 and lines[-1]["rows_align"] > 0
    assert after.merit == 0
    assert all(torch.equal(work.weights[name], value) for name, value in given.start.items())


def test_a_heavy_pull_keeps_the_merge_at_the_mixture(given: Problem) -> None:
    ends = []
    for geo in (0.0, 1e4):
        work, _, _, _ = run(given, Settings(Weights(geo, 1.0, 1.0, 0.0), radius=3e-3, steps=8, batch_rows=8))
        ends.append(apart(work.weights, given.start, Identity()))
    assert ends[0] > 0.01
    assert ends[1] < 0.05 * ends[0]


def test_what_is_switched_off_is_not_worked_on(given: Problem) -> None:
    """The term that is left falls further alone, and without it it is lost."""
    ends = {}
    for name, weights in {
        "both": Weights(0, 1.0, 1.0, 0),
        "no alignment": Weights(0, 0.0, 1.0, 0),
        "no skill": Weights(0, 1.0, 0.0, 0),
    }.items():
        _, _, before, ends[name] = run(given, Settings(weights, radius=3e-3, steps=24, batch_rows=8))
    assert ends["no alignment"].align > 1.1 * ends["both"].align
    assert ends["no skill"].skill > 1.1 * ends["both"].skill
    assert ends["no skill"].align < 0.8 * before.align and ends["no alignment"].skill < before.skill


def test_a_hard_budget_raises_its_multiplier_after_every_stretch(given: Problem) -> None:
    settings = Settings(WEIGHTS, radius=1e-4, steps=6, batch_rows=4, stretches=3)
    work, lines, before, _ = run(given, settings, budget=Budget(0.01, 10.0, "hard"))
    assert all(line["kept"] for line in lines)
    assert before.gap is not None
    expected = 0.0
    for gap in (before.gap, *(line["gap"] for line in lines)):
        expected += 10 * (gap - 0.01)
    assert work.budget.multiplier == pytest.approx(expected)
    assert work.budget.gap == lines[-1]["gap"]


@pytest.mark.parametrize("chunk", [5, 24])
def test_steps_are_torchs_own_adamw(given: Problem, chunk: int) -> None:
    weights = Weights(geo=0.0, align=2.0, skill=1.0, bud=0.0)
    settings = Settings(weights, radius=2e-3, steps=3, batch_rows=12, stretches=1, seed=5, chunk=chunk)
    work, lines, _, _ = run(given, settings)
    assert lines[-1]["kept"] == 1
    other = given.model()
    parameters = [module.weight for module in merged_linears(other).values()]
    optimiser = torch.optim.AdamW(parameters, betas=(0.9, 0.95), weight_decay=0.0)
    draw = Draw(given.calibration.rows, settings.alignment_share, 5)
    for rate in (2e-3, 2e-3, 1e-3):
        loss: Any = 0.0
        rows = draw.take(12)
        for row in rows:
            batch = collate([row], 0)
            value = squares("divergence", answer_logits(other, batch), batch, [row])[0]
            loss = loss + share(row, rows, 2.0, 1.0) * value
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
    # where a gradient is next to nothing its rounding decides, so not weight by weight
    distance = apart(work.weights, linears(other), Identity())
    assert distance < 1e-3 * apart(work.weights, given.start, Identity())


def test_lines_count_passes_and_tell_the_rows_own_distances(given: Problem) -> None:
    settings = Settings(WEIGHTS, radius=1e-4, steps=10, batch_rows=6, stretches=4)
    _, lines, _, _ = run(given, settings)
    assert [line["steps"] for line in lines] == settings.ends() == [2, 5, 8, 10]
    assert [line["passes"] for line in lines] == [12, 30, 48, 60]
    assert all(line["rows_align"] > 0 and line["rows_skill"] > 0 for line in lines)
    assert all(line["gap"] is None and line["bud"] is None for line in lines)


def test_small_steps_add_up_in_bfloat16(given: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(WEIGHTS, radius=1e-5, steps=6, stretches=1, batch_rows=4)
    work, before = descent(given, settings, dtype=torch.bfloat16)
    # On some processors the rounding of so small a move raises the merit; the stretch counts all the same.
    monkeypatch.setattr(Descent, "_terms", lambda _: before)
    work.run(before, Silent())
    for name, value in given.start.items():
        assert not torch.equal(work.weights[name], value)
        assert torch.equal(work.layers[name].weight, work.weights[name].bfloat16())


def test_likelihoods_need_no_distributions(given: Problem) -> None:
    calibration = given.calibration
    bare = replace(
        calibration,
        rows=tuple(replace(row, teacher=None) for row in calibration.rows),
        validation=tuple(replace(row, teacher=None) for row in calibration.validation),
        skill_validation=tuple(replace(row, teacher=None) for row in calibration.skill_validation),
    )
    settings = Settings(WEIGHTS, radius=3e-3, steps=12, batch_rows=8, residual="likelihood")
    _, _, before, after = run(given._replace(calibration=bare), settings)
    assert after.align < 0.7 * before.align
    with pytest.raises(RecipeError, match="no distributions"):
        run(given._replace(calibration=bare), replace(settings, residual="divergence"))


def test_no_rows_are_refused(given: Problem) -> None:
    empty = given._replace(calibration=replace(given.calibration, rows=()))
    with pytest.raises(RecipeError, match="there are no rows"):
        descent(empty, Settings(WEIGHTS))


def test_the_radius_rises_over_a_tenth_and_falls_to_the_end() -> None:
    settings = Settings(WEIGHTS, radius=2.0, steps=20)
    rates = [settings.rate(step) for step in range(20)]
    assert rates[:2] == [1.0, 2.0]
    assert rates[2:] == pytest.approx([2.0 * (20 - step) / 18 for step in range(2, 20)])
    assert Settings(WEIGHTS, steps=3, stretches=9).ends() == [1, 2, 3]
    assert Settings(WEIGHTS, steps=0).ends() == []
    assert math.isfinite(Settings(WEIGHTS, steps=1).rate(0))
