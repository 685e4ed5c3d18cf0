"""Training on a tiny random model: batches, labels, and a run that learns and repeats."""

from pathlib import Path
from typing import Any

import pytest

from alignmerge.models import load_model
from alignmerge.zoo.data import OWN_TOKENS, Row
from alignmerge.zoo.train import RANK, Knobs, answer_greedily, batches, encode, train

ROWS = [Row(f"say {i}", "yes" if i % 2 else "no way", i % 3 > 0, f"g{i // 2}") for i in range(20)]


@pytest.fixture
def tiny(tiny_checkpoint: Path) -> tuple[Any, Any]:
    model, tokenizer = load_model(str(tiny_checkpoint), dtype="float32")
    return model, tokenizer


def test_groups_share_a_batch_and_every_row_is_used_before_any_returns() -> None:
    made = batches(ROWS, Knobs(steps=10, learning_rate=1.0, batch_rows=4), seed=3)
    assert [len(batch) for batch in made] == [4] * 10
    for batch in made:
        for group in {row.group for row in batch}:
            assert sum(row.group == group for row in batch) == 2
    for start in (0, 5):
        assert {row.prompt for batch in made[start : start + 5] for row in batch} == {row.prompt for row in ROWS}


def test_batches_depend_on_the_seed_alone() -> None:
    knobs = Knobs(steps=6, learning_rate=1.0, batch_rows=4)
    assert batches(ROWS, knobs, 1) == batches(ROWS, knobs, 1) != batches(ROWS, knobs, 2)


def test_labels_cover_the_answer_and_the_end_token_only_where_it_ends(tiny: tuple[Any, Any]) -> None:
    _, tokenizer = tiny
    rows = [Row("hello there", "good day", True, "a"), Row("hello", "this one is cut off in", False, "b")]
    ids, mask, labels = encode(tokenizer, rows)
    for index, row in enumerate(rows):
        learnt = [token for token in labels[index].tolist() if token != -100]
        answer = tokenizer(row.answer, add_special_tokens=False)["input_ids"]
        assert learnt == answer + [tokenizer.eos_token_id] * row.ends
        length = int(mask[index].sum())
        head = tokenizer.apply_chat_template(
            [{"role": "user", "content": row.prompt}], tokenize=False, add_generation_prompt=True
        )
        assert tokenizer.decode(ids[index, : length - len(learnt)].tolist()) == head
        assert (labels[index, length:] == -100).all()


def test_training_lowers_the_loss_and_repeats_to_the_byte(tiny_checkpoint: Path) -> None:
    import torch

    from alignmerge.zoo.train import _loss

    runs, losses = [], []
    for _ in range(2):
        model, tokenizer = load_model(str(tiny_checkpoint), dtype="float32")
        with torch.no_grad():
            before = float(_loss(model, *encode(tokenizer, ROWS)))
        runs.append(train(model, tokenizer, ROWS, Knobs(steps=12, learning_rate=4e-2, batch_rows=4), seed=5))
        with torch.no_grad():
            losses.append((before, float(_loss(model, *encode(tokenizer, ROWS)))))
    assert losses[0] == losses[1]
    assert losses[0][1] < 0.95 * losses[0][0]
    assert runs[0].keys() == runs[1].keys()
    for name, tensor in runs[0].items():
        assert torch.equal(tensor, runs[1][name])
        assert tensor.dtype == torch.bfloat16
        assert RANK in tensor.shape
    assert all(bool(tensor.any()) for name, tensor in runs[0].items() if "lora_B" in name)


def test_training_leaves_the_callers_random_stream_alone(tiny: tuple[Any, Any]) -> None:
    import torch

    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    train(*tiny, ROWS[:4], Knobs(steps=1, learning_rate=1e-3, batch_rows=2), seed=5)
    assert torch.equal(torch.rand(3), expected)


def test_loss_on_answer_tokens_equals_the_models_own(tiny: tuple[Any, Any]) -> None:
    import torch

    from alignmerge.zoo.train import _loss

    model, tokenizer = tiny
    ids, mask, labels = encode(tokenizer, ROWS[:5])
    with torch.no_grad():
        own = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        assert float(_loss(model, ids, mask, labels)) == pytest.approx(float(own), rel=1e-5)


def test_own_answers_are_the_models_most_likely_tokens_whatever_their_company(tiny: tuple[Any, Any]) -> None:
    import torch

    model, tokenizer = tiny
    prompts = ["a rather long question about very little", "short", "of middle length"]
    for prompt, own in zip(prompts, answer_greedily(model, tokenizer, prompts), strict=True):
        ids = encode(tokenizer, [Row(prompt, "", False, "g")])[0]
        start = ids.shape[1]
        with torch.no_grad():
            while ids.shape[1] < start + OWN_TOKENS and tokenizer.eos_token_id not in ids[0, start:]:
                ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
        chosen = ids[0, start:].tolist()
        assert own.ends == (tokenizer.eos_token_id in chosen)
        assert own.text == tokenizer.decode([token for token in chosen if token != tokenizer.eos_token_id])
