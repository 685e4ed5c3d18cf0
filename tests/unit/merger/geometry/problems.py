"""What the tests of a solve share: an anchor, two experts and their mixture, tiny, with rows of their own answers."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from alignmerge.merger.geometry.gradients import merged_linears
from alignmerge.merger.geometry.rows import ALIGNMENT, Calibration, Row, measure
from alignmerge.merger.geometry.start import Teachers

EXPERTS = ("expert one", "expert two")


class Silent:
    """Progress that nobody sees."""

    def advance(self, amount: int = 1) -> None:
        pass


class Problem(NamedTuple):
    """The models, and the anchor's answers beside each expert's, constrained and held out."""

    anchor: Any
    mixture: Any
    calibration: Calibration

    @property
    def start(self) -> dict[str, Tensor]:
        """The mixture's linear weights, copied."""
        return linears(self.mixture)

    def model(self, dtype: torch.dtype = torch.float32) -> Any:
        """A copy of the mixture."""
        return copy.deepcopy(self.mixture).to(dtype)


def linears(model: Any) -> dict[str, Tensor]:
    """A model's linear weights by name, copied."""
    return {name: module.weight.detach().clone() for name, module in merged_linears(model).items()}


def shifted(model: Any, seed: int, spread: float = 0.05) -> Any:
    """A copy of the model with noise on its linear layers."""
    found, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    for module in merged_linears(found).values():
        module.weight.data += spread * torch.randn(module.weight.shape, generator=generator)
    return found


def taught_by(anchor: Any, experts: Sequence[Any], weights: Sequence[float]) -> Teachers:
    """The models as teachers of a start."""
    own, *others = [dict(one.named_parameters()) for one in (anchor, *experts)]

    def tensor(name: str, index: int | None) -> Tensor:
        return (own if index is None else others[index])[name].data

    return Teachers(
        EXPERTS[: len(others)], tensor, lambda name, index: tensor(name, index) - own[name].data, lambda name: weights
    )


def answers(model: Any, source: str, seed: int, count: int) -> list[Row]:
    """Random prompts with the model's own greedy answers, its likelihoods and distributions."""
    prompts = torch.randint(3, 50, (count, 5), generator=torch.Generator().manual_seed(seed))
    whole = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=4,
        min_new_tokens=4,
        do_sample=False,
        pad_token_id=0,
    )
    rows = [Row(tuple(line[:5]), tuple(line[5:]), source, 0.0) for line in whole.tolist()]
    return measure(model, rows, pad=0)


def problem() -> Problem:
    """Made anew at each call, always the same."""
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        eos_token_id=None,
        bos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        anchor = LlamaForCausalLM(config).eval()
    experts = [shifted(anchor, seed) for seed in (1, 2)]
    mixture = copy.deepcopy(anchor)
    layers = [merged_linears(one) for one in (anchor, *experts)]
    for name, module in merged_linears(mixture).items():
        own = layers[0][name].weight.data
        module.weight.data += 0.8 * sum(layer[name].weight.data - own for layer in layers[1:])
    rows = answers(anchor, ALIGNMENT, 3, 14)
    held_out = answers(anchor, ALIGNMENT, 4, 8)
    skills, skill_validation = [], []
    for place, (name, model) in enumerate(zip(EXPERTS, experts, strict=True)):
        skills += answers(model, name, 5 + place, 7)
        skill_validation += answers(model, name, 7 + place, 4)
    calibration = Calibration((*rows, *skills), tuple(held_out), 0, skill_validation=tuple(skill_validation))
    return Problem(anchor, mixture, calibration)
