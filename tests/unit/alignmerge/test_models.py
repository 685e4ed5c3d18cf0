"""Models built in memory: the same logits as transformers' own loading, for every architecture we promise."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignmerge import devices
from alignmerge.devices import device
from alignmerge.errors import CheckpointError, StorageError, TensorMismatch, TokenizerMismatch, UnsafeFormat, UsageError
from alignmerge.merger.checkpoint import open_checkpoint
from alignmerge.models import build_model, load_model, load_tokenizer
from tests.far_device import FAR, far

SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def make(name: str, **changes: Any) -> Any:
    import transformers

    config = getattr(transformers, f"{name}Config")(**{**SMALL, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return getattr(transformers, f"{name}ForCausalLM")(config).eval()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("Llama", {"tie_word_embeddings": False}),
        ("Llama", {"tie_word_embeddings": True}),
        ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}),
        ("Mistral", {"sliding_window": 8}),
        ("Qwen2", {"tie_word_embeddings": True}),
        ("Phi3", {}),
        ("Gemma2", {"head_dim": 8, "sliding_window": 8}),
    ],
)
def test_same_logits_as_the_model_that_was_saved(tmp_path: Path, name: str, changes: dict[str, Any]) -> None:
    model = make(name, **changes)
    model.save_pretrained(tmp_path)
    opened = open_checkpoint(tmp_path)
    loaded = build_model(opened.config, {tensor: opened.read(tensor) for tensor in opened.tensors}, "float32")
    assert not loaded.training
    ids = torch.arange(3, 23)[None]
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model(ids).logits)
    tied = loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight
    assert tied == opened.tied == model.config.tie_word_embeddings


def test_dtype_tokenizer_and_generation_settings(family: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(family / "anchor", tmp_path / "m")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 5]}))
    model, tokenizer = load_model(str(folder))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.generation_config.eos_token_id == [2, 5]
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(
        entry.name for entry in (family / "anchor").iterdir()
    )


def test_adapter_loads_with_its_bases_tokenizer(family: Path) -> None:
    model, tokenizer = load_model(str(family / "adapter"), "float32")
    name = "model.layers.1.mlp.down_proj.weight"
    assert torch.equal(model.state_dict()[name], open_checkpoint(family / "adapter").read(name))
    assert tokenizer.get_vocab() == load_tokenizer(open_checkpoint(family / "anchor")).get_vocab()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.norm.weight": None}, "missing keys: model.norm.weight"),
        ({"model.extra.weight": torch.ones(2)}, "unexpected keys: model.extra.weight"),
        ({"model.norm.weight": torch.ones(31)}, "mismatched keys: .*model.norm.weight"),
    ],
)
def test_tensors_must_be_exactly_the_models(
    family: Path, tmp_path: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    folder = Path(shutil.copytree(family / "anchor", tmp_path / "m"))
    tensors = load_file(folder / "model.safetensors") | change
    save_file({name: value for name, value in tensors.items() if value is not None}, folder / "model.safetensors")
    with pytest.raises(TensorMismatch, match=message):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"model_type": "unheard_of"}, UnsafeFormat, "no causal language model of type 'unheard_of'"),
        ({"model_type": "clip"}, UnsafeFormat, "no causal language model of type 'clip'"),
        ({}, UnsafeFormat, "of type None"),
        ({"model_type": "llama", "hidden_size": "wide"}, CheckpointError, "not a llama configuration"),
    ],
)
def test_configurations_that_make_no_model(config: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build_model(config, {}, "float32")


def test_broken_tokenizer(family: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(family / "anchor", tmp_path / "m"))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerMismatch, match="cannot be loaded"):
        load_tokenizer(open_checkpoint(folder))


def test_models_lie_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNMERGE_DEVICE", "cpu")
    assert device() == "cpu"
    monkeypatch.delenv("ALIGNMERGE_DEVICE")
    assert device() == ("cuda" if torch.cuda.is_available() else "cpu")
    model = make("Llama")
    monkeypatch.setattr(devices, "device", lambda: str(FAR))
    with far():
        parts = model.config.to_dict(), model.state_dict(), "float32"
        assert build_model(*parts).device == FAR and build_model(*parts, "cpu").device.type == "cpu"


def test_a_model_without_room_on_its_device_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("Llama")

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 16 GiB")

    monkeypatch.setattr(type(model), "to", full)
    with pytest.raises(StorageError, match="cpu: no room for the model; take a larger GPU, or ALIGNMERGE_DEVICE=cpu"):
        build_model(model.config.to_dict(), model.state_dict(), "float32")


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "cpu:0", "cuda:99"])
def test_a_device_that_is_not_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("ALIGNMERGE_DEVICE", name)
    with pytest.raises(UsageError, match=f"ALIGNMERGE_DEVICE: '{name}'"):
        device()
