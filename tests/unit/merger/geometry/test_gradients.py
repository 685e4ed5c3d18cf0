"""The layer-wise identities against autograd, and the row system against a dense float64 minimiser."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from alignmerge.merger.geometry.chart import Diagonal, Identity, gram
from alignmerge.merger.geometry.gradients import (
    answer_factors,
    answer_logits,
    combine,
    factors,
    merged_linears,
    trained,
)
from alignmerge.merger.geometry.rows import Batch, Row, answer_means, before_answers, collate, log_likelihoods
from alignmerge.merger.geometry.solver import row_system
from alignmerge.products import quicken


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).double().eval()


ROWS = [
    Row((1, 2, 3), (4, 5), "alignment", -1.0),
    Row((7, 8), (9, 10, 11, 12), "alignment", -0.5),
    Row((20, 21, 22, 23, 24), (25,), "skill", -2.0),
    Row((30,), (31, 32, 33), "skill", -0.1),
]


def explicit_gradients(model: LlamaForCausalLM) -> torch.Tensor:
    """S by one autograd pass per unpadded row, (n, p)."""
    weights = [module.weight for module in merged_linears(model).values()]
    out = []
    for row in ROWS:
        batch = collate([row], 0)
        value = log_likelihoods(model(input_ids=batch.ids).logits, batch).sum()
        grads = torch.autograd.grad(value, weights)
        out.append(torch.cat([grad.flatten() for grad in grads]))
    return torch.stack(out)


def test_output_head_is_not_merged_as_a_linear(model: LlamaForCausalLM) -> None:
    assert "lm_head.weight" not in merged_linears(model)
    assert len(merged_linears(model)) == 14


def test_factors_ask_for_no_gradient_of_a_weight_and_leave_flags_as_they_were(model: LlamaForCausalLM) -> None:
    """Layers that round their products know it from the flag alone; half of the backward pass would be for nothing."""
    narrow = copy.deepcopy(model).bfloat16()
    batch, names = collate(ROWS, 0), list(merged_linears(narrow))
    native = answer_factors(narrow, batch, merged_linears(narrow))
    quicken(narrow)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.data_ptr()) or one, lambda one: one):
        rounded = answer_factors(narrow, batch, merged_linears(narrow))
    assert all(one.requires_grad for one in narrow.parameters())
    for name in names:
        assert rounded.inputs[name].data_ptr() not in kept  # kept by a layer for the gradient of its weight alone
        for one, other in ((rounded.inputs, native.inputs), (rounded.outputs, native.outputs)):
            assert one[name].dtype == torch.bfloat16
            assert (one[name] - other[name]).float().norm() <= 0.05 * other[name].float().norm()


def test_gram_in_chunks_equals_explicit_gradients(model: LlamaForCausalLM) -> None:
    layers = merged_linears(model)
    parts = [answer_factors(model, collate(ROWS[:3], 0), layers), answer_factors(model, collate(ROWS[3:], 0), layers)]
    s = explicit_gradients(model)
    assert torch.allclose(gram(parts, list(layers), Identity()), s @ s.T, rtol=1e-5, atol=1e-9)
    inverse = {name: torch.rand_like(module.weight) + 0.5 for name, module in layers.items()}
    chart = Diagonal(inverse)
    flat = torch.cat([value.flatten() for value in inverse.values()])
    assert torch.allclose(gram(parts, list(layers), chart), (s * flat) @ s.T, rtol=1e-5, atol=1e-9)
    w = torch.tensor([0.3, -1.0, 2.0, 0.0], dtype=torch.float64)
    step = torch.cat([chart.ascend(name, combine(parts, name, w)).flatten() for name in layers])
    assert torch.allclose(step, flat * (w @ s), rtol=1e-5, atol=1e-9)


def test_factors_leave_the_model_alone(model: LlamaForCausalLM) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    answer_factors(model, collate(ROWS, 0), merged_linears(model))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_head_is_asked_where_answers_are_alone(model: LlamaForCausalLM) -> None:
    batch, seen = collate(ROWS, 0), []
    with torch.no_grad():
        whole = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits
        handle = model.lm_head.register_forward_hook(lambda _, args, output: seen.append(output.shape[1]))
        found = answer_logits(model, batch)
        handle.remove()
    assert torch.allclose(found, whole[:, :-1][before_answers(batch)], rtol=1e-12, atol=1e-12)
    assert seen == [len(found)] == [sum(len(row.answer) for row in ROWS)]


def test_a_score_is_given_answer_logits_alone(model: LlamaForCausalLM) -> None:
    shapes = []

    def score(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        shapes.append(tuple(logits.shape))
        return answer_means(logits, batch)

    batch, layers = collate(ROWS, 0), merged_linears(model)
    own = factors(model, batch, layers, score)
    assert shapes == [(10, 50)]
    with torch.no_grad():
        expected = log_likelihoods(model(input_ids=batch.ids, attention_mask=batch.mask).logits, batch)
    assert torch.allclose(own.values, expected)


def test_flags_come_back_after_training_and_after_a_failure(model: LlamaForCausalLM) -> None:
    layers = merged_linears(model)
    before = {name: value.requires_grad for name, value in model.named_parameters()}

    def fail() -> None:
        with trained(model, layers):
            assert {name for name, value in model.named_parameters() if value.requires_grad} == set(layers)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert {name: value.requires_grad for name, value in model.named_parameters()} == before


@given(seed=st.integers(0, 10_000), geo=st.sampled_from([0.0, 0.1, 1.0, 5.0]), n=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_step_is_the_minimiser_of_the_quadratic_model(seed: int, geo: float, n: int) -> None:
    torch.manual_seed(seed)
    p = 9
    s_rows, d, r = torch.randn(n, p).double(), torch.randn(p).double(), torch.rand(n).double()
    metric, weights = torch.rand(p).double() + 0.2, torch.rand(n).double() * 10 + 0.01
    kernel = (s_rows / metric) @ s_rows.T
    u = row_system(kernel, r, weights, s_rows @ d, geo)
    step = ((s_rows.T @ u) / metric - geo * d) / (1 + geo)
    # dense oracle: the normal equations of the same objective
    left = (1 + geo) * torch.diag(metric) + s_rows.T @ (weights[:, None] * s_rows)
    right = s_rows.T @ (weights * r) - geo * metric * d
    assert torch.allclose(step, torch.linalg.solve(left, right), rtol=1e-8, atol=1e-8)


def test_rows_of_weight_zero_do_not_act() -> None:
    kernel, r = torch.eye(2).double(), torch.ones(2).double()
    u = row_system(kernel, r, torch.tensor([1.0, 0.0]).double(), torch.zeros(2).double(), 0.0)
    assert u[1] == 0
    assert u[0] == pytest.approx(0.5)
    assert torch.equal(row_system(kernel, r, torch.zeros(2).double(), r, 1.0), torch.zeros(2).double())
