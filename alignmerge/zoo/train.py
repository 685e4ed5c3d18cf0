"""Fine-tunes a LoRA adapter on a few hundred short rows, reproducibly for one platform and thread count.

Notable decisions:
- The forward and backward pass run in bf16, which many CPUs multiply fast; the optimiser keeps the adapter in float32.
- Loss per token over the batch, so the first token of a refusal and of a helpful answer weigh the same.
- A harmful request and its look-alike share a batch, so a step cannot simply make refusing likelier.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignmerge.progress import track
from alignmerge.suites.draw import Draw
from alignmerge.zoo.data import OWN_TOKENS, Own, Row

if TYPE_CHECKING:
    import torch

RANK, ALPHA = 4, 8
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
WARMUP_SHARE = 0.1
CLIP_NORM = 1.0
ANSWER_BATCH = 64


@dataclass(frozen=True)
class Knobs:
    """How long and how hard an adapter is trained; `batch_rows` is a minimum, because groups stay together."""

    steps: int
    learning_rate: float
    batch_rows: int = 8


def batches(rows: Sequence[Row], knobs: Knobs, seed: int) -> list[list[Row]]:
    """`knobs.steps` batches; all rows are used once before any is used again, groups stay together."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    out: list[list[Row]] = []
    epoch = 0
    batch: list[Row] = []
    while len(out) < knobs.steps:
        for name in Draw(f"zoo/{seed}/{epoch}").sample(list(groups), len(groups)):
            batch += groups[name]
            if len(batch) >= knobs.batch_rows:
                out.append(batch)
                batch = []
        epoch += 1
    return out[: knobs.steps]


def _prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def encode(tokenizer: Any, rows: Sequence[Row]) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """(ids, mask, labels) of a batch, each (rows, longest) int64, padded right; labels are -100 off the answer."""
    import torch

    coded = []
    for row in rows:
        head = _prompt_ids(tokenizer, row.prompt)
        tail = tokenizer(row.answer, add_special_tokens=False)["input_ids"]
        coded.append((head, tail + [tokenizer.eos_token_id] * row.ends))
    longest = max(len(head) + len(tail) for head, tail in coded)
    ids = torch.full((len(coded), longest), tokenizer.pad_token_id)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for index, (head, tail) in enumerate(coded):
        end = len(head) + len(tail)
        ids[index, :end] = torch.tensor(head + tail)
        mask[index, :end] = 1
        labels[index, len(head) : end] = torch.tensor(tail)
    return ids, mask, labels


def _loss(model: Any, ids: "torch.Tensor", mask: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
    """Mean negative log-likelihood in nats per answer token; logits are computed for answer tokens alone."""
    import torch

    states = model.model(input_ids=ids, attention_mask=mask).last_hidden_state[:, :-1]  # (rows, longest - 1, d)
    wanted = labels[:, 1:]
    kept = wanted != -100
    return torch.nn.functional.cross_entropy(model.lm_head(states[kept]), wanted[kept])


def cast(model: Any, dtype: str) -> Any:
    """`model` itself with its parameters in `dtype`; buffers, such as rotary frequencies, keep their precision."""
    import torch

    for parameter in model.parameters():
        parameter.data = parameter.data.to(getattr(torch, dtype))
    return model


def _attach(model: Any, seed: int) -> Any:
    """`model` with a fresh adapter on all linear layers; A is drawn from `seed`, B is zero."""
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(LINEAR), task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)  # peft asks for it
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def train(model: Any, tokenizer: Any, rows: Sequence[Row], knobs: Knobs, seed: int) -> "dict[str, torch.Tensor]":
    """The trained adapter's tensors in bf16, named as peft stores them. `model` gets the adapter attached.

    The passes run in the model's own dtype.
    """
    import torch
    from peft import get_peft_model_state_dict

    tuned = _attach(model, seed)
    tuned.train()
    weights = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
    exact = [parameter.detach().float().requires_grad_() for parameter in weights]
    for parameter in weights:
        parameter.data = parameter.data.to(model.dtype)
    optimiser = torch.optim.AdamW(exact, lr=knobs.learning_rate, weight_decay=0.0)
    warm = max(1, round(WARMUP_SHARE * knobs.steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, (knobs.steps - step) / max(1, knobs.steps - warm))
    )
    with track("training", knobs.steps) as bar:
        for batch in batches(rows, knobs, seed):
            _loss(tuned.get_base_model(), *encode(tokenizer, batch)).backward()  # type: ignore[no-untyped-call]
            for parameter, master in zip(weights, exact, strict=True):
                assert parameter.grad is not None
                master.grad, parameter.grad = parameter.grad.float(), None
            torch.nn.utils.clip_grad_norm_(exact, CLIP_NORM)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                for parameter, master in zip(weights, exact, strict=True):
                    parameter.copy_(master)
            bar.advance()
    state = get_peft_model_state_dict(tuned, save_embedding_layers=False)
    return {name: value.detach().to(torch.bfloat16).contiguous() for name, value in state.items()}


def answer_greedily(model: Any, tokenizer: Any, prompts: Sequence[str]) -> list[Own]:
    """The model's greedy answers, at most OWN_TOKENS tokens each, in the order of `prompts`."""
    import torch

    order = sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), index))
    out: dict[int, Own] = {}
    with track("answering", len(prompts)) as bar, torch.inference_mode():
        for start in range(0, len(order), ANSWER_BATCH):
            chosen = order[start : start + ANSWER_BATCH]
            heads = [_prompt_ids(tokenizer, prompts[index]) for index in chosen]
            longest = max(len(head) for head in heads)
            pad = tokenizer.pad_token_id
            ids = torch.tensor([[pad] * (longest - len(head)) + head for head in heads])
            mask = torch.tensor([[0] * (longest - len(head)) + [1] * len(head) for head in heads])
            done = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=OWN_TOKENS, do_sample=False, pad_token_id=pad
            )
            for index, line in zip(chosen, done[:, longest:].tolist(), strict=True):
                ends = tokenizer.eos_token_id in line
                kept = line[: line.index(tokenizer.eos_token_id)] if ends else line
                out[index] = Own(tokenizer.decode(kept), ends)
            bar.advance(len(chosen))
    return [out[index] for index in range(len(prompts))]
