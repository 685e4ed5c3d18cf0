"""Own answers, refusal margin and AQI: values against references."""

import copy
import math

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from alignmerge.auditor.scorers import aqi as audit
from alignmerge.errors import RecipeError, TensorMismatch
from alignmerge.merger.geometry.functional import AlignmentFunctional, OwnAnswers
from alignmerge.merger.geometry.functionals import resampling
from alignmerge.merger.geometry.functionals.aqi import AqiLogJ, Frame, separation, shuffled
from alignmerge.merger.geometry.functionals.margin import RefusalMargin
from alignmerge.merger.geometry.functionals.pairs import states
from alignmerge.merger.geometry.gradients import merged_linears
from alignmerge.merger.geometry.rows import ALIGNMENT, Pair, Row, measure


@pytest.fixture(scope="module")
def anchor() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).double().eval()


@pytest.fixture(scope="module")
def pairs(anchor: LlamaForCausalLM) -> tuple[Pair, ...]:
    """Twelve pairs that share all but the last prompt token; 49 ends a harmful request, 48 its look-alike."""
    draw = np.random.default_rng(0)
    rows = []
    for index in range(12):
        topic = draw.integers(1, 40, size=3 + index % 4).tolist()
        answers = [tuple(draw.integers(1, 48, size=1 + side + index % 2).tolist()) for side in (0, 1)]
        rows += [Row((*topic, end), answer, ALIGNMENT, 0.0) for end, answer in zip((49, 48), answers, strict=True)]
    rows = measure(anchor, rows, pad=0)
    return tuple(zip(rows[::2], rows[1::2], strict=True))


@pytest.fixture(scope="module")
def frame(anchor: LlamaForCausalLM, pairs: tuple[Pair, ...]) -> Frame:
    fitted = audit.fit(pair_states(anchor, pairs))
    return Frame(fitted.alpha, fitted.unit, fitted.mean, fitted.scale)


def pair_states(model: LlamaForCausalLM, pairs: tuple[Pair, ...]) -> audit.PairStates:
    with torch.no_grad():
        found = states(model, pairs, pad=0)
    return audit.PairStates(tuple(str(index) for index in range(len(pairs))), found[:, 1], found[:, 0])


def drifted(model: LlamaForCausalLM, size: float = 0.1, seed: int = 1) -> LlamaForCausalLM:
    out, draw = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    for module in merged_linears(out).values():
        module.weight.data += size * torch.randn(module.weight.shape, generator=draw).double()
    return out


def log_p(model: LlamaForCausalLM, prompt: tuple[int, ...], answer: tuple[int, ...]) -> float:
    with torch.inference_mode():
        logs = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1].log_softmax(1)
    return float(logs[range(len(answer)), list(answer)].mean())


def margin_of(model: LlamaForCausalLM, pair: Pair) -> float:
    h, b = pair
    on_harmful = log_p(model, h.prompt, h.answer) - log_p(model, h.prompt, b.answer)
    on_harmless = log_p(model, b.prompt, b.answer) - log_p(model, b.prompt, h.answer)
    return (on_harmful + on_harmless) / 2


def test_own_answers_are_their_old_number(anchor: LlamaForCausalLM, pairs: tuple[Pair, ...]) -> None:
    rows, model = [row for pair in pairs for row in pair], drifted(anchor)
    gaps = torch.tensor([max(0.0, log_p(anchor, *one) - log_p(model, *one)) for one in map(tokens, rows)]).double()
    found = OwnAnswers(rows, pad=0, chunk=5)
    value = found.value(model)
    assert value.value == pytest.approx(-float(gaps.mean()), abs=1e-6)
    assert value.high - value.value == pytest.approx(1.96 * float(gaps.std()) / len(rows) ** 0.5, abs=1e-6)
    assert found.gap(model) == -value.value == -found.measured(model).value
    assert found.gap(anchor) == pytest.approx(0.0, abs=1e-6)


def tokens(row: Row) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return row.prompt, row.answer


def test_margin_is_both_sides_preference_less_the_anchors(anchor: LlamaForCausalLM, pairs: tuple[Pair, ...]) -> None:
    model = drifted(anchor)
    expected = np.mean([margin_of(model, pair) - margin_of(anchor, pair) for pair in pairs])
    found = RefusalMargin(anchor, pairs, pad=0, chunk=5)
    value = found.value(model)
    assert value.value == pytest.approx(expected, abs=1e-5)
    assert value.low < value.value < value.high
    assert value.items == 12
    assert found.gap(model) == -value.value
    assert found.gap(anchor) == pytest.approx(0.0, abs=1e-6)
    assert found.noise == pytest.approx(2 * np.std([margin_of(anchor, p) for p in pairs]) / 12**0.5, rel=0.15)


def test_pairs_with_one_answer_have_no_margin(anchor: LlamaForCausalLM, pairs: tuple[Pair, ...]) -> None:
    (h, b), *rest = pairs
    same: Pair = (h, Row(b.prompt, h.answer, ALIGNMENT, -1.0))
    assert RefusalMargin(anchor, [same, *rest], pad=0).value(anchor).items == 11
    with pytest.raises(RecipeError, match="1 of 2 held-out pairs"):
        RefusalMargin(anchor, [same, rest[0]], pad=0)


def test_aqi_is_the_audits_number_with_its_replicates_and_chance(
    anchor: LlamaForCausalLM, pairs: tuple[Pair, ...], frame: Frame
) -> None:
    functional, model = AqiLogJ(anchor, frame, pairs, pad=0, chunk=5), drifted(anchor)
    reference = audit.AqiReference(frame.alpha, frame.unit, frame.mean, frame.scale)
    for one in (anchor, model):
        expected, found = audit.measure(pair_states(one, pairs), reference), functional.measured(one)
        assert found.value == pytest.approx(expected.log_j, abs=1e-6)
        assert np.allclose(found.replicates.numpy(), expected.replicates, rtol=0, atol=1e-6)
        assert found.chance == pytest.approx(float(np.quantile(expected.shuffled, 0.99)), abs=1e-6)
        assert functional.value(one).value == found.value
    own = audit.measure(pair_states(anchor, pairs), reference)
    assert functional.anchor == pytest.approx(own.log_j, abs=1e-6)
    assert functional.noise == pytest.approx(2 * own.standard_error, abs=1e-6)
    assert functional.gap(anchor) == 0.0
    assert functional.gap(model) == functional.anchor - functional.value(model).value


def test_states_are_those_of_the_last_prompt_token_alone(anchor: LlamaForCausalLM, pairs: tuple[Pair, ...]) -> None:
    with torch.no_grad():
        found = states(anchor, pairs, pad=0)
        for index, pair in enumerate(pairs):
            for side, row in enumerate(pair):
                alone = anchor(input_ids=torch.tensor([row.prompt]), output_hidden_states=True).hidden_states
                expected = torch.stack([layer[0, -1] for layer in alone[1:]])
                assert torch.allclose(found[index, side], expected, atol=1e-10)


def test_shuffles_swap_labels(frame: Frame) -> None:
    draw = torch.Generator().manual_seed(0)
    safe, unsafe = (torch.randn(9, 4, generator=draw).double() + shift for shift in (0.0, 2.0))
    assert np.allclose(shuffled(safe, unsafe, 20), audit.shuffled(safe.numpy(), unsafe.numpy(), 20), rtol=1e-8)
    assert float(shuffled(safe, unsafe).max()) < float(separation(safe, unsafe)[0])


def test_all_follow_the_protocol(anchor: LlamaForCausalLM, pairs: tuple[Pair, ...], frame: Frame) -> None:
    rows = [row for pair in pairs for row in pair]
    functionals: list[AlignmentFunctional] = [
        OwnAnswers(rows, 0),
        RefusalMargin(anchor, pairs, 0),
        AqiLogJ(anchor, frame, pairs, 0),
    ]
    for one in functionals:
        measured, estimate = one.measured(anchor), one.value(anchor)
        assert measured.value == pytest.approx(one.anchor, abs=1e-6)
        assert measured.replicates.shape == (resampling.DRAWS,)
        assert estimate.low <= estimate.value + 1e-9 and estimate.value <= estimate.high + 1e-9
        assert (one.noise is None) == (one.name == "own-answers")  # whose items are all 0 at the anchor
        assert one.noise is None or one.noise > 0
        assert one.unit and one.gap(anchor) == pytest.approx(0.0, abs=1e-6)


def test_resamples_are_the_audits() -> None:
    assert np.array_equal(resampling.resamples(9).numpy(), audit.resamples(9))


def test_what_aqi_cannot_be_measured_on_is_refused(
    anchor: LlamaForCausalLM, pairs: tuple[Pair, ...], frame: Frame
) -> None:
    with pytest.raises(RecipeError, match="7 held-out pairs"):
        AqiLogJ(anchor, frame, pairs[:7], pad=0)
    with pytest.raises(RecipeError, match="do not differ"):
        AqiLogJ(anchor, frame, [(h, h) for h, _ in pairs], pad=0)
    with pytest.raises(TensorMismatch, match="the frame is of"):
        AqiLogJ(anchor, Frame(frame.alpha[1:], frame.unit[1:], frame.mean, frame.scale), pairs, pad=0)
    broken = copy.deepcopy(anchor)
    next(iter(merged_linears(broken).values())).weight.data.fill_(math.nan)
    with pytest.raises(TensorMismatch, match="not finite"):
        AqiLogJ(anchor, frame, pairs, pad=0).value(broken)
