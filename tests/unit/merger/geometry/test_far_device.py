"""A model on an accelerator: everything that asks it works there, and what is kept comes back to the main memory."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from alignmerge import devices
from alignmerge.merger.geometry import finetune
from alignmerge.merger.geometry.blame import finite_blame, linear_blame, totals
from alignmerge.merger.geometry.chart import Identity
from alignmerge.merger.geometry.directions import RowGradients
from alignmerge.merger.geometry.gradients import merged_linears
from alignmerge.merger.geometry.grams import input_grams
from alignmerge.merger.geometry.rows import ALIGNMENT, collate
from alignmerge.merger.geometry.scores import diagonal_fisher, most_important
from alignmerge.merger.geometry.solution import Solution, solve
from alignmerge.merger.geometry.subspace import span
from alignmerge.merger.geometry.validity import Ladder
from tests.far_device import FAR, FarTensor, TwoDevices, far
from tests.unit.merger.geometry.problems import Problem, problem, shifted
from tests.unit.merger.geometry.test_solution import knobs
from tests.unit.merger.geometry.test_start import teachers
from tests.unit.merger.methods.test_alignment_shield import run as shielded


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are kept by device; what a broken run kept would be found by the next one."""
    monkeypatch.setenv("ALIGNMERGE_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def given() -> Problem:
    found = problem()
    own = [row for row in found.calibration.rows if row.source == ALIGNMENT]
    pairs = tuple(zip(own[0::2], own[1::2], strict=False))
    held_out = found.calibration.validation
    return found._replace(
        calibration=replace(
            found.calibration, fitting=pairs, pairs=tuple(zip(held_out[0::2], held_out[1::2], strict=False))
        )
    )


def solution(given: Problem, device: torch.device, **changes: Any) -> Solution:
    weak = shifted(given.anchor, 9, 0.2)

    def load(share: float) -> Any:
        return copy.deepcopy(given.anchor if share == 0 else weak).to(device)

    asked = replace(knobs(), trust=2.0, **changes)
    ladder = Ladder(load, "weak", "f" * 64)
    return solve(
        lambda: given.model().to(device), given.start, given.calibration, asked, ladder, None, teachers=teachers(given)
    )


def close(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert not isinstance(found[name], FarTensor), name
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("metric", ["identity", "fisher", "kfac"])
@pytest.mark.parametrize("functional", ["own-answers", "refusal-margin"])
def test_a_solve_there_is_the_solve_here(given: Problem, metric: str, functional: str) -> None:
    wanted = solution(given, torch.device("cpu"), metric=metric, functional=functional)
    with far():
        found = solution(given, FAR, metric=metric, functional=functional)
    close(found.weights, wanted.weights)
    assert any(not torch.equal(found.weights[name], start) for name, start in given.start.items())
    phases = [[line["phase"] for line in one.account["trace"]["steps"]] for one in (found, wanted)]
    assert phases[0] == phases[1] and "restore" in phases[0]
    assert (found.account["device"], wanted.account["device"]) == ("meta", "cpu")


@pytest.mark.parametrize("kind", ["closed-form", "progressive"])
def test_a_start_from_the_teachers_there(given: Problem, kind: Any) -> None:
    wanted = solution(given, torch.device("cpu"), start=kind)
    with far():
        found = solution(given, FAR, start=kind)
    close(found.weights, wanted.weights)
    assert found.account["start"]["from"] == wanted.account["start"]["from"] == kind


@pytest.mark.parametrize("kind", ["likelihood", "sharp"])
def test_another_residual_there(given: Problem, kind: Any) -> None:
    changed = {"descent": replace(knobs().descent, residual=kind)}
    wanted = solution(given, torch.device("cpu"), **changed)
    with far():
        close(solution(given, FAR, **changed).weights, wanted.weights)


def test_fine_tuning_there(given: Problem) -> None:
    settings = finetune.Settings(learning_rate=1e-3, steps=4, checks=1)
    wanted = finetune.finetune(given.model(), given.start, given.calibration, settings, 1)
    with far():
        found = finetune.finetune(given.model().to(FAR), given.start, given.calibration, settings, 1)
    close(found.weights, wanted.weights)


GATHERED: list[Callable[[Any, Any], Mapping[str, Tensor]]] = [
    input_grams,
    lambda model, rows: diagonal_fisher(model, rows, seed=3),
    lambda model, rows: most_important(model, rows, 0.3),
]


def test_blame_there(given: Problem) -> None:
    own = {name: value.detach() for name, value in given.anchor.named_parameters()}
    delta = {name: value.detach() - own[name] for name, value in given.mixture.named_parameters()}
    wanted = finite_blame(copy.deepcopy(given.anchor), given.calibration.validation, delta, lambda name: {}, pad=0)
    with far():
        model = copy.deepcopy(given.anchor).to(FAR)
        found = finite_blame(model, given.calibration.validation, delta, lambda name: {"one": delta[name] / 2}, pad=0)
        directions = RowGradients(model, given.calibration.rows[:6], pad=0)
        linear = linear_blame(span(directions, Identity()), delta, {"one": delta})
    assert found.drift == pytest.approx(wanted.drift, rel=1e-4)
    assert totals(found.cells, lambda cell: cell.contributor)["one"] == pytest.approx(wanted.drift / 2, rel=1e-2)
    assert sum(cell.share for cell in linear) > 0


@pytest.mark.parametrize(
    "knobs",
    [
        {"control": "random"},
        {"control": "random", "metric": "fisher"},
        {"metric": "fisher", "form": "fisher"},
        {"metric": "kfac"},
        {"sketch": 1 << 12, "form": "fisher"},
    ],
)
def test_a_shield_there(family: Path, monkeypatch: pytest.MonkeyPatch, knobs: dict[str, Any]) -> None:
    wanted = shielded(family, **knobs)
    asked: list[str] = []

    def there() -> str:
        asked.append("there")
        return str(FAR)

    monkeypatch.setattr(devices, "device", there)
    with far():
        close(shielded(family, **knobs), wanted)
    assert asked


@pytest.mark.parametrize("gather", GATHERED)
def test_what_other_methods_gather_there(given: Problem, gather: Callable[[Any, Any], Mapping[str, Tensor]]) -> None:
    rows = given.calibration.rows[:5]
    wanted = gather(given.model(), rows)
    with far():
        close(gather(given.model().to(FAR), rows), wanted)


def test_the_second_device_refuses_a_mixture(given: Problem) -> None:
    """The oracle of this file: what forgets to move something fails."""
    with far():
        model = given.model().to(FAR)
        batch = collate(given.calibration.rows[:2], 0)
        with pytest.raises(TwoDevices):
            model(input_ids=batch.ids, attention_mask=batch.mask)
        assert all(module.weight.device == FAR for module in merged_linears(model).values())
