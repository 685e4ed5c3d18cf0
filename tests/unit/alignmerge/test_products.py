"""bfloat16 products in float32: the numbers that bfloat16 layers give, in the model's own dtype; nothing else moved."""

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from alignmerge import products
from alignmerge.auditor.engines.transformers_engine import TransformersEngine
from alignmerge.models import load_model
from alignmerge.products import FEWEST, RoundedLinear, is_quickened, quicken, taken

ULP = 2.0**-8  # bfloat16 keeps eight bits, so a rounding is off by at most this share


def layer(inputs: int, outputs: int, bias: bool = True, dtype: torch.dtype = torch.bfloat16) -> RoundedLinear:
    with torch.random.fork_rng():
        torch.manual_seed(inputs * outputs)
        return RoundedLinear(inputs, outputs, bias=bias, dtype=dtype)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).bfloat16()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 70), st.integers(1, 70), st.integers(FEWEST, 40), st.booleans(), st.sampled_from([1, 100, 1 << 20])
)
def test_outputs_and_gradients_are_the_exact_ones_rounded(
    inputs: int, outputs: int, tokens: int, bias: bool, block: int
) -> None:
    own, x, grad = layer(inputs, outputs, bias), drawn(tokens, inputs), drawn(tokens, outputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "BLOCK", block)
        parameters = [x.requires_grad_(True), *own.parameters()]
        y = own(x)
        found = [y, *torch.autograd.grad(y, parameters, grad)]
    exact = [one.detach().double().requires_grad_(True) for one in parameters]
    wanted = nn.functional.linear(*exact)
    wanted_too = torch.autograd.grad(wanted, exact, grad.double())
    sizes = [_size(exact[0], exact[1], *exact[2:]), grad.double().abs() @ exact[1].abs()]
    sizes += [grad.double().abs().T @ exact[0].abs(), *([grad.double().abs().sum(0)] if bias else [])]
    for one, real, size in zip(found, [wanted, *wanted_too], sizes, strict=True):
        assert one.dtype == torch.bfloat16 and one.shape == real.shape
        assert bool(((one.double() - real).abs() <= ULP * real.abs() + 1e-5 * size + 1e-30).all())


def _size(x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
    return x.abs() @ weight.abs().T + sum(one.abs() for one in bias)


def test_any_number_of_leading_dimensions() -> None:
    own, x = layer(5, 7), drawn(2, 3, 4, 5)
    assert torch.equal(own(x), own(x.flatten(0, 2)).view(2, 3, 4, 7))
    assert own(x[:0]).shape == (0, 3, 4, 7)


@pytest.mark.parametrize("change", [lambda one: one.float(), lambda one: one[: FEWEST - 1]])
def test_other_products_are_torchs_own(change: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    x = change(drawn(9, 16))
    own = layer(16, 8, dtype=x.dtype)
    monkeypatch.setattr(products, "_Rounded", None)  # would fail if it were taken
    assert torch.equal(own(x), nn.functional.linear(x, own.weight, own.bias))


def test_weights_keep_no_wide_copy_for_the_backward_pass() -> None:
    own, x = layer(64, 64), drawn(8, 64).requires_grad_(True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        own(x)
    assert {one.dtype for one in kept} == {torch.bfloat16}
    assert {one.data_ptr() for one in kept} == {x.data_ptr(), own.weight.data_ptr()}


@pytest.mark.parametrize("bias", [False, True])
def test_a_frozen_layer_keeps_its_weights_alone_so_its_input_may_be_changed_in_place(bias: bool) -> None:
    own, plain = layer(16, 8, bias=bias), nn.Linear(16, 8, bias=bias, dtype=torch.bfloat16)
    plain.load_state_dict(own.state_dict())
    found = []
    for one in (own, plain):
        one.requires_grad_(False)
        x = drawn(6, 16).requires_grad_(True)
        inside = x * 2
        out = one(inside)
        inside.add_(1)
        (out.float() ** 2).sum().backward()
        found.append(x.grad)
    assert found[0] is not None and torch.allclose(found[0], found[1], rtol=4 * ULP, atol=4 * ULP)


def test_a_trained_layer_refuses_an_input_that_was_changed() -> None:
    own, x = layer(16, 8), drawn(6, 16).requires_grad_(True)
    inside = x * 2
    out = own(inside)
    inside.add_(1)
    with pytest.raises(RuntimeError, match="inplace"):
        out.sum().backward()


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(products, "say", said.append)
    products.announce.cache_clear()
    return said


def loaded(path: str, slow: bool, monkeypatch: pytest.MonkeyPatch, dtype: str = "bfloat16") -> tuple[Any, Any]:
    monkeypatch.setattr(products, "slow", lambda: slow)
    return load_model(path, dtype, on="cpu")


def test_a_model_is_quickened_where_the_processor_needs_it_and_says_so_once(
    tiny_checkpoint: Any, monkeypatch: pytest.MonkeyPatch, announced: list[str]
) -> None:
    plain, tokenizer = loaded(str(tiny_checkpoint), False, monkeypatch)
    assert announced == [] and not any(isinstance(one, RoundedLinear) for one in plain.modules())
    model, _ = loaded(str(tiny_checkpoint), True, monkeypatch)
    quicken(model)
    assert announced == []  # nothing has been computed
    linear = [one for one in model.modules() if isinstance(one, nn.Linear)]
    assert linear and all(isinstance(one, RoundedLinear) for one in linear)
    assert model.state_dict().keys() == plain.state_dict().keys()
    ids = torch.arange(24).view(2, 12)
    with torch.inference_mode():
        one, other = model(ids).logits, plain(ids).logits
    assert one.dtype == torch.bfloat16 and not torch.equal(one, torch.zeros_like(one))
    assert float((one - other).abs().max()) <= 4 * ULP * float(other.abs().max())
    described = [TransformersEngine(each, tokenizer).describe() for each in (plain, model, model)]
    assert len(announced) == 1 and "no bfloat16 products" in announced[0]
    assert "products" not in described[0] and described[1]["products"] == "float32, rounded"
    assert described[0]["digest"] != described[1]["digest"]  # answers of two kinds are kept apart


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists() or platform.machine() != "x86_64", reason="no flags to read")
def test_slow_is_what_the_processors_flags_say() -> None:
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")).split()
    assert products.slow() == ("avx512bw" not in flags)


def test_a_torch_that_cannot_say_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert products.slow.__wrapped__() is False


def test_records_say_rounded_for_bfloat16_on_a_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "slow", lambda: True)
    asked = [("bfloat16", "cpu"), ("float32", "cpu"), ("bfloat16", "cuda some product")]
    assert [taken(*one) for one in asked] == ["float32, rounded", None, None]


def test_a_model_in_float32_is_left_alone(
    tiny_checkpoint: Any, monkeypatch: pytest.MonkeyPatch, announced: list[str]
) -> None:
    model, tokenizer = loaded(str(tiny_checkpoint), True, monkeypatch, "float32")
    assert announced == [] and not is_quickened(model)
    model, _ = loaded(str(tiny_checkpoint), True, monkeypatch)
    assert is_quickened(model) and not is_quickened(model.float())
    assert "products" not in TransformersEngine(model, tokenizer).describe()
