"""Merge methods against identities and independent float64 oracles."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from alignmerge.errors import RecipeError
from alignmerge.merger.methods import METHODS, MergeMethod, Tile, get
from alignmerge.merger.methods.ties import Cut, cut_tensor, elect_mergekit, elect_paper, kept, prepare, trim

Array = NDArray[np.float64]

WEIGHTS_ONLY = [METHODS["linear"], METHODS["task_arithmetic"], METHODS["ties"]]
VARIANTS: list[tuple[MergeMethod, dict[str, Any]]] = [
    (METHODS["linear"], {}),
    (METHODS["linear"], {"anchor_weight": 0.0}),
    (METHODS["task_arithmetic"], {"scale": 0.7}),
    (METHODS["ties"], {}),
    (METHODS["ties"], {"sign": "mergekit", "density": 0.5, "scale": 0.7}),
]

# Dyadic values: every sum below is exact in float32, so oracles may ask for equality.
quarter = st.integers(-64, 64).map(lambda value: value / 4)


def vectors(count: int, size: int) -> st.SearchStrategy[list[list[float]]]:
    return st.lists(st.lists(quarter, min_size=size, max_size=size), min_size=count, max_size=count)


def tile(
    anchor: Tensor, experts: Sequence[Tensor], weights: Sequence[float], references: Sequence[Tensor] | None = None
) -> Tile:
    return Tile("t", anchor, tuple(experts), tuple(references or [anchor] * len(experts)), tuple(weights))


def run(method: MergeMethod, given_tile: Tile, **knobs: Any) -> Tensor:
    return method.merge(given_tile, None, method.knobs(knobs))


def random_tile(seed: int = 0, weights: Sequence[float] = (1.0, 1.0, 1.0)) -> Tile:
    generator = torch.Generator().manual_seed(seed)
    anchor = torch.randn(13, 7, generator=generator)
    return tile(anchor, [anchor + 0.1 * torch.randn(13, 7, generator=generator) for _ in weights], weights)


@pytest.mark.parametrize(("method", "knobs"), VARIANTS)
def test_equal_models_give_the_anchor_bit_for_bit(method: MergeMethod, knobs: dict[str, Any]) -> None:
    anchor = torch.tensor([0.1, -0.0, 0.0, 3e-39, -1e30, 7.0])
    merged = run(method, tile(anchor, [anchor.clone(), anchor.clone()], [0.3, 0.3]), **knobs)
    assert merged.view(torch.int32).tolist() == anchor.view(torch.int32).tolist()


@pytest.mark.parametrize(("method", "knobs"), VARIANTS)
def test_inputs_stay_as_they_were(method: MergeMethod, knobs: dict[str, Any]) -> None:
    given_tile = random_tile()
    before = [value.clone() for value in (given_tile.anchor, *given_tile.experts)]
    merged = run(method, given_tile, **knobs)
    assert merged.dtype == torch.float32
    for value, old in zip((given_tile.anchor, *given_tile.experts), before, strict=True):
        assert torch.equal(value, old)


@pytest.mark.parametrize(("method", "knobs"), VARIANTS)
def test_order_of_experts_matters_only_to_rounding(method: MergeMethod, knobs: dict[str, Any]) -> None:
    forward = random_tile()
    backward = tile(forward.anchor, forward.experts[::-1], forward.weights[::-1])
    assert torch.allclose(run(method, forward, **knobs), run(method, backward, **knobs), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("method", "knobs"), VARIANTS)
def test_thread_count_changes_no_bit(method: MergeMethod, knobs: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(3)
    anchor = torch.randn(300, 300, generator=generator)
    given_tile = tile(anchor, [anchor + torch.randn(300, 300, generator=generator) for _ in range(3)], [1.0] * 3)
    torch.set_num_threads(1)
    one = run(method, given_tile, **knobs)
    torch.set_num_threads(2)
    try:
        assert torch.equal(one, run(method, given_tile, **knobs))
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("method", WEIGHTS_ONLY)
def test_single_expert_of_full_weight_is_that_expert(method: MergeMethod) -> None:
    knobs = {"linear": {"anchor_weight": 0.0}, "task_arithmetic": {}, "ties": {"density": 1.0}}[method.name]
    given_tile = random_tile(weights=(1.0,))
    assert torch.allclose(run(method, given_tile, **knobs), given_tile.experts[0], atol=1e-6, rtol=0)


@given(vectors(3, 4), st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0]), min_size=2, max_size=2))
def test_linear_is_the_weighted_mean(values: list[list[float]], weights: list[float]) -> None:
    anchor, *experts = (torch.tensor(value) for value in values)
    merged = run(METHODS["linear"], tile(anchor, experts, weights), anchor_weight=0.5)
    expected = np.average(np.array(values), axis=0, weights=[0.5, *weights])
    assert np.allclose(merged.numpy(), expected, atol=1e-5)


@given(vectors(4, 4), st.lists(quarter, min_size=2, max_size=2), st.sampled_from([-1.0, 0.0, 0.5, 1.0]))
def test_task_arithmetic_adds_vectors_from_their_own_reference(
    values: list[list[float]], weights: list[float], scale: float
) -> None:
    anchor, base, first, second = (torch.tensor(value) for value in values)
    merged = run(METHODS["task_arithmetic"], tile(anchor, [first, second], weights, [anchor, base]), scale=scale)
    a, b, f, s = (np.array(value) for value in values)
    assert merged.tolist() == (a + scale * (weights[0] * (f - a) + weights[1] * (s - b))).tolist()


def test_task_arithmetic_is_linear_in_scale() -> None:
    given_tile = random_tile()
    one, two = (run(METHODS["task_arithmetic"], given_tile, scale=scale) - given_tile.anchor for scale in (1.0, 2.0))
    assert torch.allclose(two, 2 * one, atol=1e-5)


# --- TIES -------------------------------------------------------------------------------------------------------------


def trimmed_oracle(vector: Array, density: float) -> Array:
    size = max(1, int(density * len(vector))) if density > 0 else 0
    order = sorted(range(len(vector)), key=lambda index: (-abs(vector[index]), index))
    return np.array([value if index in order[:size] else 0.0 for index, value in enumerate(vector)])


def paper_oracle(trimmed: list[Array]) -> Array:
    stack = np.stack(trimmed)
    elected = np.sign(stack.sum(0))
    agrees = (np.sign(stack) == elected) & (stack != 0)
    return np.where(agrees.any(0), (stack * agrees).sum(0) / np.maximum(agrees.sum(0), 1), 0.0)


def mergekit_oracle(trimmed: list[Array], weights: list[float]) -> Array:
    weighted = np.stack([weight * vector for weight, vector in zip(weights, trimmed, strict=True)])
    elected = np.where(weighted.sum(0) >= 0, 1.0, -1.0)
    agrees = np.sign(weighted) == elected
    share = (np.array(weights)[:, None] * agrees).sum(0)
    return (weighted * agrees).sum(0) / np.where(share == 0, 1.0, share)


@given(vectors(4, 10), st.sampled_from([0.0, 0.05, 0.2, 0.35, 0.5, 0.99, 1.0]), st.sampled_from([1.0, 0.5, -2.0]))
def test_ties_paper_form_equals_the_oracle(values: list[list[float]], density: float, scale: float) -> None:
    anchor, *taus = (np.array(value) for value in values)
    given_tile = tile(
        torch.tensor(values[0]), [torch.tensor(anchor + tau, dtype=torch.float32) for tau in taus], [1.0] * 3
    )
    merged = run(METHODS["ties"], given_tile, density=density, scale=scale)
    expected = anchor + scale * paper_oracle([trimmed_oracle(tau, density) for tau in taus])
    assert np.allclose(merged.numpy(), expected, atol=1e-5, rtol=0)


@given(
    vectors(4, 10),
    st.sampled_from([0.2, 0.5, 1.0]),
    st.lists(st.sampled_from([0.25, 0.5, 1.0, -1.0]), min_size=3, max_size=3),
)
def test_ties_mergekit_form_equals_the_oracle(values: list[list[float]], density: float, weights: list[float]) -> None:
    anchor, *taus = (np.array(value) for value in values)
    given_tile = tile(
        torch.tensor(values[0]), [torch.tensor(anchor + tau, dtype=torch.float32) for tau in taus], weights
    )
    merged = run(METHODS["ties"], given_tile, density=density, sign="mergekit", scale=0.5)
    expected = anchor + 0.5 * mergekit_oracle([trimmed_oracle(tau, density) for tau in taus], weights)
    assert np.allclose(merged.numpy(), expected, atol=1e-5, rtol=0)


def test_equal_weights_make_both_forms_agree_where_no_mass_cancels() -> None:
    given_tile = random_tile(weights=(0.5, 0.5, 0.5))
    paper, mergekit = (run(METHODS["ties"], given_tile, sign=sign) for sign in ("paper", "mergekit"))
    assert torch.allclose(paper, mergekit, atol=1e-6)


def test_cancelled_mass_elects_nothing_in_the_paper_form_and_plus_in_mergekits() -> None:
    pair = [torch.tensor([2.0, -2.0, 0.0]), torch.tensor([-2.0, 2.0, 0.0])]
    assert elect_paper(pair).tolist() == [0.0, 0.0, 0.0]
    assert elect_mergekit(pair, [1.0, 1.0]).tolist() == [2.0, 2.0, 0.0]


def test_mean_counts_only_those_that_agree() -> None:
    three = [torch.tensor([4.0, -1.0]), torch.tensor([2.0, -3.0]), torch.tensor([-1.0, 0.0])]
    assert elect_paper(three).tolist() == [3.0, -2.0]
    assert elect_mergekit(three, [1.0, 3.0, 1.0]).tolist() == [2.5, -2.5]


@pytest.mark.parametrize(
    ("density", "size", "expected"),
    [
        (0.0, 10, 0),
        (0.2, 0, 0),
        (0.01, 10, 1),
        (0.2, 10, 2),
        (0.29, 100, 28),
        (0.99, 10, 9),
        (1.0, 10, 10),
        (1.0, 1, 1),
    ],
)
def test_number_kept(density: float, size: int, expected: int) -> None:
    assert kept(density, size) == expected


def test_lowest_position_wins_among_equal_magnitudes() -> None:
    vector = torch.tensor([[1.0, -1.0, 2.0], [1.0, -1.0, 0.5]])
    cut = cut_tensor(vector, 0.5)
    assert cut == Cut(1.0, 2)
    assert trim(vector, cut).tolist() == [[1.0, -1.0, 2.0], [0.0, 0.0, 0.0]]
    assert cut_tensor(vector, 0.0) == Cut(math.inf, 0)
    assert trim(vector, Cut(math.inf, 0)).abs().sum() == 0
    assert torch.equal(trim(vector, cut_tensor(vector, 1.0)), vector)


class Model:
    """A View of given task vectors: {name: [tau_0, tau_1, ...]}."""

    def __init__(self, taus: dict[str, list[Tensor]]) -> None:
        self.names = sorted(taus)
        self.taus = taus
        self.experts = [None] * len(next(iter(taus.values())))

    def tile(self, name: str) -> Tile:
        zero = torch.zeros_like(self.taus[name][0])
        return Tile(name, zero, tuple(self.taus[name]), (zero,) * len(self.experts), (1.0,) * len(self.experts))


def merge_model(model: Any, **knobs: Any) -> dict[str, Tensor]:
    ties = METHODS["ties"]
    resolved = ties.knobs(knobs)
    stats = prepare(model, resolved)
    return {name: ties.merge(model.tile(name), stats, resolved) for name in model.names}


@settings(max_examples=40)
@given(vectors(6, 5), st.sampled_from([0.0, 0.01, 0.2, 0.4, 0.5, 0.9, 1.0]))
def test_global_trim_equals_the_trim_of_one_long_vector(values: list[list[float]], density: float) -> None:
    parts = [torch.tensor(value) for value in values]
    model = Model({"a": [parts[0], parts[3]], "b": [parts[1], parts[4]], "c": [parts[2], parts[5]]})
    merged = torch.cat(list(merge_model(model, trim="global", density=density).values()))
    long = Model({"all": [torch.cat(parts[:3]), torch.cat(parts[3:])]})
    assert merged.tolist() == merge_model(long, density=density)["all"].tolist()


def test_global_trim_lets_a_large_tensor_crowd_out_a_small_one() -> None:
    model = Model({"a": [torch.full((4,), 0.001)], "b": [torch.tensor([1.0, -2.0, 3.0, 4.0])]})
    assert merge_model(model, density=0.5)["a"].count_nonzero() == 2
    everything = merge_model(model, density=0.5, trim="global")
    assert everything["a"].count_nonzero() == 0
    assert everything["b"].count_nonzero() == 4


def test_global_threshold_separates_neighbouring_floats() -> None:
    near = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
    model = Model({"a": [torch.tensor([1.0, float(near), 1.0])], "b": [torch.tensor([float(near), 1.0, 1e-30])]})
    merged = merge_model(model, density=0.5, trim="global")
    assert merged["a"].tolist() == [1.0, float(near), 0.0]
    assert merged["b"].tolist() == [float(near), 0.0, 0.0]


def test_trim_per_tensor_needs_no_pass() -> None:
    assert prepare(Model({"a": [torch.ones(2)]}), METHODS["ties"].knobs({})) is None  # type: ignore[arg-type]


# --- knobs ------------------------------------------------------------------------------------------------------------


def test_defaults() -> None:
    assert METHODS["ties"].knobs({}) == {"density": 0.2, "scale": 1.0, "trim": "tensor", "sign": "paper"}
    assert METHODS["linear"].knobs({"anchor_weight": 2}) == {"anchor_weight": 2.0}


@pytest.mark.parametrize(
    ("method", "knobs", "message"),
    [
        ("ties", {"densty": 0.5}, "unknown parameter of ties: 'densty'; did you mean density"),
        ("ties", {"density": 1.0000001}, r"density: 1.0000001 is outside \[0.0, 1.0\]"),
        ("ties", {"density": -0.1}, "outside"),
        ("ties", {"density": math.nan}, "must be finite"),
        ("ties", {"density": True}, "must be a number"),
        ("ties", {"density": "0.5"}, "must be a number"),
        ("ties", {"trim": "all"}, "must be one of tensor, global"),
        ("ties", {"sign": None}, "must be one of"),
        ("linear", {"anchor_weight": math.inf}, "must be finite"),
        ("linear", {"normalise": True}, "unknown parameter of linear: 'normalise'; there are: anchor_weight"),
    ],
)
def test_knobs_are_checked(method: str, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        METHODS[method].knobs(knobs)


def test_weights_that_mean_nothing_are_refused() -> None:
    check: Callable[..., None] | None = METHODS["linear"].check
    assert check is not None
    check([-0.5, 0.5], {"anchor_weight": 1.0})
    with pytest.raises(RecipeError, match="sum to 0"):
        check([-0.5, -0.5], {"anchor_weight": 1.0})
    check = METHODS["ties"].check
    assert check is not None
    check([0.5, 0.5], {"sign": "paper"})
    check([0.5, 1.0], {"sign": "mergekit"})
    with pytest.raises(RecipeError, match="all weights must be equal"):
        check([0.5, 1.0], {"sign": "paper"})


def test_unknown_method_names_the_nearest() -> None:
    assert get("ties") is METHODS["ties"]
    with pytest.raises(RecipeError, match="unknown method: 'tise'; did you mean ties"):
        get("tise")
    with pytest.raises(RecipeError, match=r"there are: .*linear"):
        get("xyzzy")


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_every_method_says_what_it_is(method: MergeMethod) -> None:
    assert METHODS[method.name] is method
    assert method.summary.endswith(".")
    assert method.reference
    assert all(
        parameter.help and parameter.check(parameter.default) == parameter.default for parameter in method.parameters
    )
