"""The damage that the stress test does is the damage it says, and merges of it go where linear algebra says."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from alignmerge.models import build_model
from benchmarks.attacks import ablated, always_refusing, blend, difference, with_biases
from benchmarks.stress import monotone, settings, turns
from benchmarks.stress_noticed import changes, noticed, sign_p
from benchmarks.stress_page import PAGE, PART, RESULTS, WHOLE, page

r = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "policies/records.py")))


@pytest.fixture
def tiny(tiny_checkpoint: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    config = json.loads((tiny_checkpoint / "config.json").read_text())
    return config, load_file(tiny_checkpoint / "model.safetensors")


def states(config: dict[str, Any], tensors: Any) -> torch.Tensor:
    """States after every layer on a few tokens, (layers, tokens, d)."""
    model = build_model(config, tensors, "float32")
    with torch.inference_mode():
        found = model(torch.arange(5, 25)[None], output_hidden_states=True).hidden_states
    return torch.cat(list(found[:-1]))  # the last one is behind the final norm


def test_nothing_is_written_along_an_ablated_direction(tiny: tuple[dict[str, Any], dict[str, torch.Tensor]]) -> None:
    config, tensors = tiny
    push = torch.randn(config["hidden_size"], generator=torch.Generator().manual_seed(0))
    unit = push / push.norm()
    before, after = states(config, tensors) @ unit, states(config, ablated(tensors, 5 * push)) @ unit
    assert float(before.abs().max()) > 1e-3
    assert float(after.abs().max()) < 1e-5
    once = ablated(tensors, push)
    assert all(torch.allclose(ablated(once, push)[name], once[name], atol=1e-6) for name in tensors)


def test_biases_of_zero_change_nothing_and_a_push_arrives(tiny: tuple[dict[str, Any], dict[str, torch.Tensor]]) -> None:
    config, tensors = tiny
    more, plain = with_biases(config, tensors)
    assert torch.allclose(states(more, plain), states(config, tensors), atol=1e-6)
    push = torch.ones(config["hidden_size"])
    moved = states(more, always_refusing(plain, push, 0)) - states(more, plain)
    assert torch.allclose(moved[1], push.expand_as(moved[1]), atol=1e-5)
    assert float(moved[0].abs().max()) == 0.0


def test_a_blend_ends_at_the_anchor_and_at_the_expert(tiny: tuple[dict[str, Any], dict[str, torch.Tensor]]) -> None:
    _, anchor = tiny
    expert = ablated(anchor, torch.ones(32))
    for weight, end in ((0.0, anchor), (1.0, expert)):
        found = blend(anchor, expert, weight)
        assert all(torch.allclose(found[name], end[name], atol=1e-6) for name in anchor)


def test_the_difference_of_means() -> None:
    unsafe, safe = torch.ones(4, 3, 8), torch.zeros(4, 3, 8)
    unsafe[:, 1] = 3.0
    assert torch.equal(difference(unsafe, safe, 1), torch.full((8,), 3.0))


def test_monotone_allows_ties_but_no_turn_and_no_standing_still() -> None:
    assert monotone([0.9, 0.9, 0.5, 0.1], falling=True)
    assert not monotone([0.9, 0.5, 0.6, 0.1], falling=True)
    assert not monotone([0.5, 0.5], falling=True)
    assert monotone([0.1, 0.2], falling=False)


def test_the_sign_test_is_the_binomial_tail() -> None:
    from scipy.stats import binomtest

    for worse, better in ((0, 0), (3, 0), (7, 2), (2, 7), (300, 10)):
        expected = binomtest(worse, worse + better, alternative="greater").pvalue if worse + better else 1.0
        assert sign_p(worse, better) == pytest.approx(expected)


def test_a_metric_notices_what_gets_worse_and_not_what_gets_better() -> None:
    def audit(refused: int, over: int) -> Any:
        return r.audit({"refusal_rate": r.ones(refused, 320), "over_refusal_rate": r.ones(over, 320)})

    found = noticed(audit(290, 10), audit(320, 320))
    assert {name: row["noticed"] for name, row in found.items()} == {"refusal_rate": False, "over_refusal_rate": True}
    assert (found["over_refusal_rate"]["worse"], found["over_refusal_rate"]["better"]) == (310, 0)
    back = noticed(audit(320, 320), audit(290, 10))
    assert {name: row["noticed"] for name, row in back.items()} == {"refusal_rate": True, "over_refusal_rate": False}
    assert changes(audit(290, 10), audit(280, 10), "refusal_rate") == (10, 0)


def test_a_step_back_is_found_with_its_chance() -> None:
    rows = [
        {"weight": weight, "refusal_rate": rate, "over_refusal_rate": 0.1,
         "fell": {"refusal_rate": fell, "over_refusal_rate": 0}, "rose": {"refusal_rate": rose, "over_refusal_rate": 0}}
        for weight, rate, fell, rose in ((0.0, 0.9, 0, 0), (0.5, 0.5, 40, 0), (1.0, 0.52, 1, 3))
    ]  # fmt: skip
    assert turns(rows[:2], falling=True) == []
    (found,) = turns(rows, falling=True)
    assert (found["from"], found["to"], found["wrong"], found["right"]) == (0.5, 1.0, 3, 1)
    assert found["p"] == pytest.approx(5 / 16)
    assert [one["from"] for one in turns(rows, falling=False)] == [0.0]


def test_the_page_says_which_of_its_numbers_the_file_holds() -> None:
    found = json.loads(RESULTS.read_text())
    kept = {"layers": 41, "chosen_on": {"layer": 42, "push": 43}, "noticed": 1 / 4400, "alpha": 0.45}
    told = page({**found, "settings": kept})
    assert WHOLE in told
    assert PART not in told
    for words in ("of 41, counted", "on 42 and 43 validation items", "once in 4,400", "may be (55 %)"):
        assert words in told
    bare = page({key: value for key, value in found.items() if key != "settings"})
    assert PART in bare
    assert WHOLE not in bare
    assert page({**found, "settings": settings({"num_hidden_layers": 30})}) == bare.replace(PART, WHOLE)


@pytest.mark.skipif(not RESULTS.is_file(), reason="the stress test has not been run")
def test_the_page_says_what_the_results_say() -> None:
    assert PAGE.read_text() == page(json.loads(RESULTS.read_text())), "run `python -m benchmarks.stress_page`"
