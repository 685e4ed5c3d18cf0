"""Coefficients against merges: with one model as every expert and nothing of the method's own, they are the merge."""

from typing import Any

import pytest
import torch

from alignmerge.merger import schedule
from alignmerge.merger.in_memory import merge_tensors
from alignmerge.merger.methods import METHODS, get
from alignmerge.merger.methods.coefficients import as_mean, as_sum
from tests.unit.merger.methods.gaussians import relatives

# Knobs with which a method of data-free experts prunes, projects and bends nothing; experts as they are given.
PLAIN: dict[str, dict[str, Any]] = {
    "linear": {"anchor_weight": 2.0},
    "task_arithmetic": {"scale": 0.4},
    "ties": {"density": 1.0, "scale": 1.5},
    "dare_linear": {"density": 1.0, "scale": 0.6},
    "dare_ties": {"density": 1.0},
    "della": {"density": 1.0, "scale": 0.6},
    "della_linear": {"density": 1.0},
    "breadcrumbs": {"density": 1.0, "gamma": 0.0, "scale": 0.6},
    "breadcrumbs_ties": {"density": 1.0, "gamma": 0.0},
    "sce": {"select": 1.0, "scale": 0.8},
    "safemerge": {"threshold": 0.0},
    "safemerge_revert": {"threshold": 0.0},
    "safelora": {"select": "threshold", "threshold": 0.0},
    "slerp": {"t": 0.3, "threshold": 0.0},
    "slerp_task": {"scale": 0.7},
    "multislerp": {},
    "karcher": {"of": "task_vectors"},
    "model_stock": {},
    "layerwise": {"start": 0.2, "end": 1.0, "curve": "cosine"},
    "mergealign_thakkar": {"alpha": 0.7, "beta": 0.3},
    "resta": {"gamma": 0.0},
    "lata": {"drop": "threshold", "threshold": 1.0},
}
# Of the others the merge is computed from calibration rows: their mixture's coefficients.
BY_DATA = {"fisher": as_mean, "regmean": as_mean, "led": as_sum, "alignmerge": as_sum, "repair_finetune": as_sum,
           "alignment_shield": as_sum}  # fmt: skip
EXPERTS = {"slerp": 1}


@pytest.mark.parametrize("name", PLAIN)
def test_the_merge_of_one_model_is_what_the_coefficients_say(name: str) -> None:
    anchor, expert, unaligned = relatives(3, 0)
    count = EXPERTS.get(name, 2)
    others = {"base": unaligned, "unaligned": unaligned, "safety": expert}
    needed = {role: others[role] for role in get(name).needs}
    merged = merge_tensors(name, anchor, [expert] * count, others=needed, parameters=PLAIN[name])
    knobs = get(name).knobs(PLAIN[name])
    for tensor, value in merged.items():
        total = sum(get(name).coefficients([1.0] * count, knobs, schedule.depth(tensor, 3)))
        expected = anchor[tensor] + total * (expert[tensor] - anchor[tensor])
        assert torch.allclose(value, expected, atol=1e-5), (tensor, total)


@pytest.mark.parametrize(("name", "found"), BY_DATA.items())
def test_methods_that_read_data_have_the_coefficients_of_their_start(name: str, found: Any) -> None:
    assert get(name).coefficients is found


def test_every_method_is_looked_at() -> None:
    assert set(METHODS) == set(PLAIN) | set(BY_DATA)


@pytest.mark.parametrize(
    ("name", "weights", "knobs", "expected"),
    [
        ("task_arithmetic", (1.0, 2.0), {"scale": 0.5}, (0.5, 1.0)),
        ("linear", (1.0, 3.0), {"anchor_weight": 4.0}, (0.125, 0.375)),
        ("linear", (1.0, 3.0), {"combine": "sum", "anchor_weight": 4.0}, (1.0, 3.0)),
        ("ties", (1.0, 3.0), {"sign": "mergekit", "scale": 2.0}, (0.5, 1.5)),
        ("dare_ties", (1.0, 3.0), {"sign": "mergekit", "combine": "sum"}, (1.0, 3.0)),
        ("multislerp", (1.0, 3.0), {}, (0.25, 0.75)),
        ("karcher", (1.0, 2.0), {}, (0.25, 0.5)),
        ("sce", (1.0, 3.0), {"scale": 2.0}, (0.5, 1.5)),
        ("resta", (0.5, 2.0), {}, (0.5, 2.0)),
        ("mergealign_thakkar", (1.0, 3.0), {"alpha": 0.4}, (0.1, pytest.approx(0.3))),
        ("slerp", (1.0,), {"t": 0.25}, (0.25,)),
    ],
)
def test_a_coefficient_is_a_weight_or_a_share_of_the_weights(
    name: str, weights: tuple[float, ...], knobs: dict[str, Any], expected: tuple[float, ...]
) -> None:
    assert get(name).coefficients(weights, get(name).knobs(knobs), 0.0) == expected


def test_layerwise_runs_over_the_depth_and_experts_have_their_own() -> None:
    knobs = get("layerwise").knobs({"start": 0.5, "end": 1.0})
    assert get("layerwise").coefficients((1.0, 2.0), knobs, 0.5) == (0.75, 1.5)
    assert as_sum((1.0, 1.0), {"scale": (0.5, 2.0)}, 0.0) == (0.5, 2.0)


def test_weights_that_cancel_are_no_shares() -> None:
    assert as_mean((1.0, -1.0), {}, 0.0) == (1.0, -1.0)
