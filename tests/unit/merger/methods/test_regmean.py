"""RegMean against the least squares problem it solves, in float64, and its identities."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from alignmerge.errors import RecipeError
from alignmerge.merger.geometry.grams import shrunk
from alignmerge.merger.methods import METHODS, Tile
from alignmerge.merger.methods.regmean import Grams

REGMEAN = METHODS["regmean"]
DEFAULTS = REGMEAN.knobs({})
NAME = "model.layers.0.mlp.up_proj.weight"
ROWS, COLUMNS = 7, 5


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def inputs(seed: int, tokens: int = 40) -> Tensor:
    return drawn(seed, tokens, COLUMNS) @ drawn(seed + 100, COLUMNS, COLUMNS)


def gram(x: Tensor) -> Tensor:
    return (x.T @ x / len(x)).float()


def tile(count: int = 2, weights: tuple[float, ...] | None = None) -> Tile:
    anchor = drawn(0, ROWS, COLUMNS)
    experts = tuple(anchor + 0.1 * drawn(seed + 1, ROWS, COLUMNS) for seed in range(count))
    return Tile(NAME, anchor, experts, (anchor,) * count, weights or (1.0,) * count, shape=(ROWS, COLUMNS))


def run(given_tile: Tile, grams: list[Tensor], **knobs: Any) -> Tensor:
    stats = Grams(tuple({NAME: one} for one in grams), {})
    return REGMEAN.merge(given_tile, stats, DEFAULTS | knobs)


def test_it_is_the_least_squares_solution_over_every_models_inputs() -> None:
    """With a = 1 and equal token counts: min_W sum_i |W X_i - W_i X_i|^2, solved by stacking all tokens."""
    given_tile, xs = tile(), [inputs(seed) for seed in range(3)]
    merged = run(given_tile, [gram(x) for x in xs], a=1.0)
    models = (given_tile.anchor, *given_tile.experts)
    outputs = np.concatenate([(x @ w.T).double().numpy() for x, w in zip(xs, models, strict=True)])
    expected = np.linalg.lstsq(np.concatenate([x.double().numpy() for x in xs]), outputs, rcond=None)[0].T
    assert np.allclose(merged.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("a", [0.0, 0.1, 0.9])
def test_weights_and_shrinking_against_the_formula(a: float) -> None:
    given_tile, grams = tile(weights=(0.5, 2.0)), [gram(inputs(seed)) for seed in range(3)]
    merged = run(given_tile, grams, a=a, anchor_weight=0.25)
    total, moves = np.zeros((COLUMNS, COLUMNS)), np.zeros((ROWS, COLUMNS))
    for weight, one, w in zip((0.25, 0.5, 2.0), grams, (given_tile.anchor, *given_tile.experts), strict=True):
        g = one.double().numpy()
        g = weight * (a * g + (1 - a) * np.diag(np.diag(g)))
        total, moves = total + g, moves + w.double().numpy() @ g
    assert np.allclose(merged.numpy(), moves @ np.linalg.inv(total), atol=1e-5)


def test_equal_inputs_give_the_linear_mean() -> None:
    given_tile = tile(weights=(0.5, 2.0))
    expected = METHODS["linear"].merge(given_tile, None, METHODS["linear"].knobs({}))
    assert torch.allclose(run(given_tile, [gram(inputs(0))] * 3), expected, atol=1e-5)


def test_a_single_model_is_returned_as_it_is_even_on_few_inputs() -> None:
    """Two tokens cannot determine five inputs; the ridge is on both sides, so the model is still the solution."""
    given_tile = tile(count=1)
    grams = [gram(inputs(0)), gram(inputs(1, tokens=2))]
    merged = run(given_tile, grams, anchor_weight=0.0, a=1.0)
    assert torch.allclose(merged, given_tile.experts[0], atol=1e-3)


def test_equal_models_give_the_anchor_bit_for_bit() -> None:
    anchor = torch.tensor([[0.1, -0.0, 0.0, 3e-39, -1e30]])
    given_tile = Tile(NAME, anchor, (anchor, anchor), (anchor, anchor), (1.0, 1.0), shape=(1, 5))
    merged = run(given_tile, [gram(inputs(seed)) for seed in range(3)])
    assert merged.view(torch.int32).tolist() == anchor.view(torch.int32).tolist()


def test_what_is_no_linear_layer_gets_the_linear_mean() -> None:
    anchor, expert = drawn(0, 4), drawn(1, 4)
    given_tile = Tile("norm.weight", anchor, (expert,), (anchor,), (3.0,), shape=(4,))
    merged = run(given_tile, [gram(inputs(0))] * 2)
    assert torch.allclose(merged, (anchor + 3 * expert) / 4, atol=1e-6)


def test_thread_count_changes_no_bit() -> None:
    anchor = drawn(0, 300, 200)
    given_tile = Tile(NAME, anchor, (anchor + drawn(1, 300, 200),), (anchor,), (1.0,), shape=(300, 200))
    grams = [gram(drawn(seed, 400, 200)) for seed in range(2)]
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(run(given_tile, grams))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(1)
    assert torch.equal(*found)


def test_inputs_without_any_value_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"up_proj.weight are zero in every model"):
        run(tile(), [torch.zeros(COLUMNS, COLUMNS)] * 3)
    assert shrunk(gram(inputs(0)), 1.0).dtype == torch.float64


def test_weights_that_make_no_mean_are_refused() -> None:
    assert REGMEAN.check is not None
    for weights, anchor_weight in (([-1.0, 3.0], 1.0), ([0.0, 0.0], 0.0)):
        with pytest.raises(RecipeError, match="must not be negative"):
            REGMEAN.check(weights, {"anchor_weight": anchor_weight})


def test_memory_is_stated() -> None:
    assert REGMEAN.gather_bytes is not None
    shapes = {NAME: (ROWS, COLUMNS), "model.embed_tokens.weight": (100, COLUMNS), "norm.weight": (COLUMNS,)}
    assert REGMEAN.gather_bytes(shapes) == 4 * COLUMNS**2
