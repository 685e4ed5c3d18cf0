"""The restoration: its step against a dense float64 minimiser, what is refused, and when it ends."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.budget import Budget
from alignmerge.merger.geometry.chart import Chart, Diagonal, Identity, gram
from alignmerge.merger.geometry.functional import OwnAnswers
from alignmerge.merger.geometry.gradients import combine, merged_linears
from alignmerge.merger.geometry.merit import Merit, Terms, Weights, apart
from alignmerge.merger.geometry.rows import ALIGNMENT, Calibration, Row, measure
from alignmerge.merger.geometry.solver import PROXIMAL, Settings, Solver, row_system
from tests.unit.merger.geometry.charts import ROWS, tiny
from tests.unit.merger.geometry.problems import Problem, Silent, linears, problem, shifted

WEIGHTS = Weights(geo=0.001, align=1.0, skill=1.0, bud=10.0)


@pytest.fixture(scope="module")
def given() -> Problem:
    return problem()


def solver(
    given: Problem,
    settings: Settings,
    budget: Budget,
    dtype: torch.dtype = torch.float32,
    weights: dict[str, Tensor] | None = None,
) -> tuple[Solver, Terms]:
    """The solver on a copy of the mixture, and the mixture's terms."""
    model, calibration = given.model(dtype), given.calibration
    functional = OwnAnswers(calibration.validation, 0) if budget.on else None
    held_out = (*calibration.validation, *calibration.skill_validation)
    merit = Merit(held_out, functional, settings.weights, budget.limit, kind=settings.residual, pad=0)
    start = given.start
    work = Solver(
        model, start, weights or given.start, calibration, settings, merit=merit, budget=budget, chart=Identity()
    )
    return work, merit.terms(model, 0.0)


def run(
    given: Problem, settings: Settings, budget: Budget, **knobs: Any
) -> tuple[Solver, list[dict[str, Any]], Terms, Terms, str]:
    """The work, its lines, the terms before and after, and why it ended."""
    work, before = solver(given, settings, budget, **knobs)
    lines, after, ended = work.run(before, Silent())
    return work, lines, before, after, ended


class Small:
    """A float64 model of one layer, away from the mixture, with rows of both kinds: small enough to be dense."""

    def __init__(self, kind: str, geo: float, added: float) -> None:
        teacher = tiny(
            "llama3", hidden_size=8, intermediate_size=12, num_attention_heads=2, num_key_value_heads=1, head_dim=4,
            num_hidden_layers=1, vocab_size=60,
        )  # fmt: skip
        rows = [replace(row, source=ALIGNMENT if i < 3 else "skill") for i, row in enumerate(measure(teacher, ROWS, 0))]
        self.start = linears(shifted(teacher, 1, 0.2))
        model = shifted(shifted(teacher, 1, 0.2), 2, 0.02)
        generator = torch.Generator().manual_seed(0)
        self.chart: Chart = Identity()
        inverse = {name: torch.ones_like(one) for name, one in self.start.items()}
        if kind == "diagonal":
            inverse = {name: torch.rand(one.shape, generator=generator).double() + 0.2 for name, one in inverse.items()}
            self.chart = Diagonal(inverse)
        self.metric = 1 / torch.cat([one.flatten() for one in inverse.values()])
        weights = Weights(geo, 1.0, 0.5, 10.0)
        self.budget = Budget(0.0, 10.0, gap=added / 10)
        merit = Merit(rows, None, weights, 0.0, kind="divergence", pad=0)
        settings = Settings(weights, steps=1, alignment_rows=3, skill_rows=2, chunk=2)
        self.work = Solver(
            model, self.start, linears(model), Calibration(tuple(rows), (), 0), settings,
            merit=merit, budget=self.budget, chart=self.chart,
        )  # fmt: skip
        self.before, self.pull = linears(model), geo / PROXIMAL
        self.rows, self.aligned = self.work._rows()
        each = [(1.0 + added) / 3 if one else 0.5 / 2 for one in self.aligned.tolist()]
        self.per_row = torch.tensor(each, dtype=torch.float64) / PROXIMAL

    def dense(self) -> Tensor:
        """The exact minimiser from the normal equations in all weights, (p,) float64."""
        parts, r = self.work._linearise(self.rows)
        layers = [
            torch.cat([torch.einsum("nto,nti->noi", part.outputs[name], part.inputs[name]) for part in parts])
            for name in self.start
        ]
        s = torch.cat([layer.flatten(1) for layer in layers], dim=1)
        d = torch.cat([(self.before[name] - one).flatten() for name, one in self.start.items()])
        left = (1 + self.pull) * torch.diag(self.metric) + s.T @ (self.per_row[:, None] * s)
        right = s.T @ (self.per_row * r) - self.pull * self.metric * d
        return torch.linalg.solve(left, right)


@pytest.mark.parametrize("kind", ["identity", "diagonal"])
@pytest.mark.parametrize(("geo", "added"), [(0.0, 0.0), (0.001, 0.0), (0.02, 3.0)])
def test_the_closed_form_is_the_dense_minimiser(kind: str, geo: float, added: float) -> None:
    small = Small(kind, geo, added)
    work, pull = small.work, small.pull
    parts, residuals = work._linearise(small.rows)
    moved = work._moved(parts)
    u = row_system(gram(parts, list(work.layers), small.chart), residuals, small.per_row, moved, pull)
    expected = small.dense()
    step = []
    for name, start in small.start.items():
        layer = torch.cat([torch.einsum("nto,nti->noi", one.outputs[name], one.inputs[name]) for one in parts])
        ascent = torch.einsum("n,noi->oi", u, layer)
        ascent = ascent * small.chart.inverse[name] if isinstance(small.chart, Diagonal) else ascent
        step.append(((ascent - pull * (small.before[name] - start)) / (1 + pull)).flatten())
    assert float((torch.cat(step) - expected).norm() / expected.norm()) < 1e-8
    # the step that is taken is this one, in the float32 of the masters
    line, _ = work._step(small.rows, small.aligned, Terms(0, 0, 0, None, 0, float("inf")))
    taken = torch.cat([(work.weights[name] - small.before[name]).flatten() for name in small.start])
    assert float((taken - expected).norm() / expected.norm()) < 1e-5
    assert line["norm"] == pytest.approx(float((expected.square() * small.metric).sum().sqrt()), rel=1e-5)
    assert (line["shrink"], line["multiplier"]) == (1.0, pytest.approx(added))


def test_combine_and_the_chart_make_the_same_step() -> None:
    small = Small("diagonal", 0.0, 0.0)
    parts, _ = small.work._linearise(small.rows)
    w = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0], dtype=torch.float64)
    for name in small.start:
        whole = sum(
            weight * layer for weight, layer in zip(w, torch.cat([one.layer(name) for one in parts]), strict=True)
        )
        assert torch.allclose(combine(parts, name, w), whole.float(), rtol=1e-4, atol=1e-6)


def test_merit_never_rises_and_the_gap_falls(given: Problem) -> None:
    settings = Settings(WEIGHTS, steps=5, alignment_rows=12, skill_rows=10)
    work, lines, before, after, ended = run(given, settings, Budget(0.0, 10.0))
    merits = [before.merit, *(line["merit"] for line in lines)]
    assert merits == sorted(merits, reverse=True)
    assert after.merit == merits[-1] < 0.7 * before.merit
    assert before.gap and after.gap is not None and after.gap < 0.8 * before.gap
    assert after.geo == pytest.approx(apart(work.weights, given.start, Identity()), rel=1e-6)
    assert [line["rows"] for line in lines] == [22] * len(lines)
    assert "does not hold" in ended or after.gap == 0
    for name, module in merged_linears(work.model).items():
        assert torch.equal(module.weight, work.weights[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_refused_step_leaves_every_bit(given: Problem, dtype: torch.dtype) -> None:
    begin = given.start
    next(iter(begin.values()))[0, :3] = -0.0
    kept = {name: value.clone() for name, value in begin.items()}
    settings = Settings(WEIGHTS, steps=2, alignment_rows=6, skill_rows=4)
    work, before = solver(given, settings, Budget(0.0, 10.0), dtype, begin)
    best = replace(before, merit=-1.0)  # which no step reaches
    lines, after, _ = work.run(best, Silent())
    assert after == best
    assert [(line["shrink"], line["norm"], line["merit"]) for line in lines] == [(0.0, 0.0, -1.0)] * 2
    for name, value in kept.items():
        assert torch.equal(work.weights[name].view(torch.int32), value.view(torch.int32))
        assert torch.equal(work.layers[name].weight, value.to(dtype))


def test_a_step_that_is_too_long_is_halved(given: Problem) -> None:
    settings = Settings(WEIGHTS, steps=1, alignment_rows=6, skill_rows=4)
    work, before = solver(given, settings, Budget(0.0, 10.0))
    rows, aligned = work._rows()
    whole = work._step(rows, aligned, replace(before, merit=float("inf")))[0]
    work._place(0.5)
    half = work._merit.terms(work.model, apart(work.weights, given.start, Identity()))
    assert half.merit < whole["merit"]
    work._place(1.0)
    found, share, _ = work._accepted(replace(before, merit=half.merit))
    assert (found, share) == (half, 0.5)
    assert found.geo == pytest.approx(whole["geo"] / 4, rel=1e-4)


def test_it_ends_when_the_budget_holds(given: Problem) -> None:
    settings = Settings(WEIGHTS, steps=6, alignment_rows=12, skill_rows=10)
    _, lines, before, _, ended = run(given, settings, Budget(100.0, 10.0))
    assert lines == [] and "the budget holds on validation items" in ended
    assert before.gap is not None
    limit = 0.8 * before.gap
    work, lines, _, after, ended = run(given, settings, Budget(limit, 10.0))
    assert 0 < len(lines) < 6
    assert after.gap is not None and after.gap <= limit < min([before.gap, *(line["gap"] for line in lines[:-1])])
    assert f"the budget holds on validation items: gap {after.gap:.4f}, limit {limit:g}" in ended
    assert work.budget.gap == after.gap


def test_without_a_budget_steps_or_rows_there_is_nothing_to_do(given: Problem) -> None:
    off = Weights(0.001, 1.0, 1.0, 0.0)
    work, lines, _, _, ended = run(given, Settings(off, steps=3), Budget(0.0, 0.0))
    assert (lines, ended) == ([], "there is no budget to restore")
    _, lines, _, _, ended = run(given, Settings(WEIGHTS, steps=0), Budget(0.0, 10.0))
    assert lines == [] and "the budget does not hold" in ended
    _, lines, _, _, ended = run(given, Settings(off, steps=0), Budget(0.0, 0.0))
    assert (lines, ended) == ([], "no restoring step was asked for")
    none = Settings(WEIGHTS, steps=3, alignment_rows=0, skill_rows=0)
    _, lines, _, _, ended = run(given, none, Budget(0.0, 10.0))
    assert lines == [] and ended.startswith("no step: every term")
    assert all(torch.equal(work.weights[name], value) for name, value in given.start.items())


def test_rows_of_a_term_that_is_switched_off_are_not_taken(given: Problem) -> None:
    for weights, kinds in (
        (Weights(0.0, 1.0, 0.0, 10.0), {ALIGNMENT}),
        (Weights(0.0, 0.0, 0.0, 10.0), {ALIGNMENT}),  # the budget alone still asks for them
        (Weights(0.0, 0.0, 1.0, 10.0), {ALIGNMENT, "expert one", "expert two"}),
    ):
        work, before = solver(given, Settings(weights, alignment_rows=4, skill_rows=4), Budget(0.0, 10.0))
        assert before.gap is not None
        work.budget = work.budget.update(before.gap)
        assert {row.source for row in work._rows()[0]} == kinds
    work.budget = work.budget.update(0.0)  # holds: nothing asks for alignment any more
    assert {row.source for row in work._rows()[0]} == {"expert one", "expert two"}


def test_the_budget_alone_still_restores(given: Problem) -> None:
    settings = Settings(Weights(0.0, 0.0, 0.0, 50.0), steps=3, alignment_rows=12)
    _, lines, before, after, _ = run(given, settings, Budget(0.0, 50.0))
    assert before.gap is not None and after.gap is not None and after.gap < 0.8 * before.gap
    assert lines[0]["multiplier"] == pytest.approx(50 * before.gap)


def test_a_heavier_pull_stays_nearer_to_the_mixture(given: Problem) -> None:
    ends = []
    for geo in (0.0, 0.005):
        settings = Settings(Weights(geo, 1.0, 1.0, 10.0), steps=2, alignment_rows=12, skill_rows=10)
        ends.append(run(given, settings, Budget(0.0, 10.0))[3].geo)
    assert 0 < ends[1] < ends[0]


def test_a_hard_budget_raises_its_multiplier_once_per_gap(given: Problem) -> None:
    settings = Settings(WEIGHTS, steps=3, alignment_rows=4, skill_rows=4)
    work, lines, before, _, _ = run(given, settings, Budget(0.0, 10.0, "hard"))
    assert before.gap is not None
    gaps = [before.gap, *(line["gap"] for line in lines)]
    assert [line["multiplier"] for line in lines] == pytest.approx([10 * sum(gaps[: i + 1]) for i in range(len(lines))])
    assert work.budget.multiplier == pytest.approx(10 * sum(gaps))
    later = Budget(0.0, 10.0, "hard").update(before.gap)  # a descent has seen this gap already
    assert run(given, settings, later)[0].budget.multiplier == pytest.approx(work.budget.multiplier)


def test_threads_change_no_more_than_rounding(given: Problem) -> None:
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            work, *_ = run(given, Settings(WEIGHTS, steps=2, alignment_rows=6, skill_rows=4), Budget(0.0, 10.0))
            found.append(work.weights)
        finally:
            torch.set_num_threads(1)
    assert all(torch.allclose(found[0][name], value, atol=1e-3) for name, value in found[1].items())


def test_too_few_held_out_rows_are_refused() -> None:
    with pytest.raises(RecipeError, match="held-out"):
        OwnAnswers([Row((1,), (2,), ALIGNMENT, -1.0)], pad=0)
