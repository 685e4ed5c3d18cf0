"""The one-shot shield as a method: its limits, what it removes, and its random control."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from alignmerge import jsonio
from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.rows import ALIGNMENT, Calibration, Row
from alignmerge.merger.geometry.validity import Ladder
from alignmerge.merger.in_memory import merge_tensors
from alignmerge.merger.methods.alignmerge import Materials
from alignmerge.models import build_model

State = dict[str, torch.Tensor]


def made(family: Path, pairs: int = 5) -> tuple[Materials, State, list[State]]:
    config = jsonio.read(family / "anchor" / "config.json")
    anchor, *experts = (load_file(family / n / "model.safetensors") for n in ("anchor", "expert_a", "expert_b"))
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(3, 200, (2 * pairs, 9), generator=generator).tolist()
    rows = [Row(tuple(line[:5]), tuple(line[5:]), ALIGNMENT, 0.0) for line in tokens]
    fitting = tuple(zip(rows[::2], rows[1::2], strict=True))

    def load(tensors: Any) -> Any:
        return build_model(config, tensors, "float32")

    calibration = Calibration(tuple(rows), (), 0, fitting=fitting)
    return Materials(calibration, load, Ladder(lambda share: load(anchor))), anchor, experts


def run(family: Path, account: dict[str, Any] | None = None, **knobs: Any) -> State:
    from alignmerge.merger.in_memory import Memory
    from alignmerge.merger.methods.alignment_shield import ALIGNMENT_SHIELD

    materials, anchor, experts = made(family)
    if account is not None:
        floats = tuple({name: value.float() for name, value in one.items()} for one in (anchor, *experts))
        memory = Memory(floats[0], floats[1:], (floats[0],) * 2, (1.0, 1.0), materials=materials, scope="model")
        assert ALIGNMENT_SHIELD.prepare is not None
        account.update(ALIGNMENT_SHIELD.prepare(memory, ALIGNMENT_SHIELD.knobs({"threads": 1, **knobs})).account)
    parameters = {"threads": 1, **knobs}
    return merge_tensors("alignment_shield", anchor, experts, parameters=parameters, materials=materials)


def apart(one: State, other: State) -> float:
    return sum(float((one[name] - other[name]).square().sum()) for name in one) ** 0.5


def test_without_strength_it_is_the_mixture(family: Path) -> None:
    _, anchor, experts = made(family)
    wanted = merge_tensors("task_arithmetic", anchor, experts)
    found = run(family, strength=0.0)
    assert all(torch.allclose(found[name], value, atol=1e-7) for name, value in wanted.items())


@pytest.mark.parametrize("form", ["projector", "fisher"])
def test_great_strength_leaves_no_drift_and_touches_linear_layers_alone(family: Path, form: str) -> None:
    account: dict[str, Any] = {}
    found = run(family, account, strength=1e9, form=form, rank=10)
    _, anchor, experts = made(family)
    wanted = merge_tensors("task_arithmetic", anchor, experts)
    assert account["drift_before"]["absolute"] > 0
    assert account["drift_after"]["absolute"] < 1e-6 * account["drift_before"]["absolute"]
    moved = {name for name in found if not torch.allclose(found[name], wanted[name], atol=1e-9)}
    assert moved
    assert all(name.endswith("proj.weight") for name in moved)
    assert jsonio.canonical(account)


def test_the_random_control_removes_as_much_elsewhere(family: Path) -> None:
    _, anchor, experts = made(family)
    mixture = merge_tensors("task_arithmetic", anchor, experts)
    shielded, control = run(family), run(family, control="random")
    assert apart(control, mixture) == pytest.approx(apart(shielded, mixture), rel=1e-3)
    assert apart(control, shielded) > apart(shielded, mixture)


def test_sides_of_the_pairs_give_other_subspaces(family: Path) -> None:
    both, harmful, harmless = (run(family, rows=rows) for rows in ("pairs", "harmful", "harmless"))
    assert len({round(apart(one, other), 9) for one, other in ((both, harmful), (harmful, harmless))}) == 2
    assert apart(harmful, harmless) > 0


def test_no_answered_pair_is_refused(family: Path) -> None:
    materials, anchor, experts = made(family)
    bare = Materials(Calibration(materials.calibration.rows, (), 0), materials.load, materials.ladder)
    with pytest.raises(RecipeError, match="no matched pair"):
        merge_tensors("alignment_shield", anchor, experts, parameters={"threads": 1}, materials=bare)


@pytest.mark.parametrize("metric", ["fisher", "kfac"])
def test_the_chart_at_the_anchor_is_made_once(metric: str, family: Path, empty_cache: Path) -> None:
    first = run(family, metric=metric)
    (kept,) = (empty_cache / "charts").glob("*.safetensors")
    file = kept.stat().st_ino
    again = run(family, metric=metric, damping=0.3, strength=1e6)
    assert list((empty_cache / "charts").glob("*.safetensors")) == [kept]
    assert kept.stat().st_ino == file
    assert all(torch.equal(first[name], value) for name, value in again.items())


def test_the_identity_keeps_nothing(family: Path, empty_cache: Path) -> None:
    run(family)
    assert not list(empty_cache.rglob("charts/*"))


def test_count_sketches_give_nearly_the_exact_shield_and_the_record_says_so(family: Path) -> None:
    account: dict[str, Any] = {}
    knobs = {"strength": 1.0, "form": "fisher"}
    found = run(family, account, sketch=1 << 18, **knobs)
    _, anchor, experts = made(family)
    exact, mixture = run(family, **knobs), merge_tensors("task_arithmetic", anchor, experts)
    assert 0 < apart(found, exact) < 0.05 * apart(exact, mixture)
    assert account["sketch"] == 1 << 18
    coarse = run(family, sketch=16, **knobs)
    assert apart(coarse, exact) > apart(found, exact)


def test_the_drift_left_by_a_coarse_sketch_is_measured_and_not_what_the_sketch_hopes(family: Path) -> None:
    left = []
    for buckets in (0, 8):
        account: dict[str, Any] = {}
        run(family, account, strength=1e9, rank=4, sketch=buckets)
        left.append(account["drift_after"]["absolute"] / account["drift_before"]["absolute"])
    assert left[0] < 1e-6 < 1e-3 < left[1]


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"sketch": 64, "metric": "kfac"}, "a sketch needs a diagonal chart"),
        ({"sketch": 64, "control": "random"}, "needs the layers' norms"),
        ({"sketch": 1}, "buckets: 1 is not between"),
    ],
)
def test_a_sketch_that_cannot_be_is_refused(family: Path, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        run(family, **knobs)
