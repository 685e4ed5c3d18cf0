"""What all tests share: no network, a tiny checkpoint, the reference model, threads.

Only the loopback interface can be reached. Tests marked `model` read the reference model from the user's cache, which
`alignmerge models pull` fills; where `CI` is set they fail without it instead of being skipped.
"""

import ipaddress
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# Tests and their children share compiled code, wherever a test puts its cache.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path.home() / ".cache" / "alignmerge" / "compiled"))

# Child processes and libraries: fail at once instead of trying a hub. Before any of them is imported.
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

# The same device everywhere; what tests say of bits is said of the CPU.
os.environ.setdefault("ALIGNMERGE_DEVICE", "cpu")

# The same examples in every run, so that a red run is about the change; HYPOTHESIS_PROFILE=explore draws new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class NetworkBlocked(RuntimeError):
    """A test tried to leave the machine."""


def _local(address: Any) -> bool:
    if not isinstance(address, tuple):  # AF_UNIX and the like
        return True
    host = str(address[0])
    try:
        return host == "localhost" or ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


def _guarded(name: str) -> Callable[..., Any]:
    original = getattr(socket.socket, name)

    def call(self: socket.socket, *arguments: Any) -> Any:
        if not _local(arguments[-1]):
            raise NetworkBlocked(f"tests run without network: socket.{name}{arguments[-1]}")
        return original(self, *arguments)

    return call


@pytest.fixture(autouse=True, scope="session")
def no_network() -> None:
    """Sockets that reach the loopback interface only."""
    for name in ("connect", "connect_ex", "sendto"):
        setattr(socket.socket, name, _guarded(name))
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **keywords: Any) -> Any:
        if host is not None and not _local((host,)):
            raise NetworkBlocked(f"tests run without network: name {host!r}")
        return resolve(host, *arguments, **keywords)

    socket.getaddrinfo = getaddrinfo  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def threads(request: pytest.FixtureRequest) -> None:
    """One thread for tiny tensors, where more only wait for each other; all allowed cores for the real model."""
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)) if request.node.get_closest_marker("model") else 1)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that this test's AlignMerge uses as its cache."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("ALIGNMERGE_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random 2-layer Llama, d = 32, float32, and a byte-level tokenizer with a chat template.

    Read-only: copy it before changing a file.
    """
    folder = tmp_path_factory.mktemp("tiny") / "model"
    write_tiny_checkpoint(folder, seed=0)
    return folder


@pytest.fixture(scope="session")
def reference_model() -> Path:
    """The folder of the reference model; the test is skipped (with CI set: fails) where it was never pulled."""
    from alignmerge.merger.reference import check_reference, is_pulled

    if not is_pulled():
        message = "the reference model is not in the cache: run `alignmerge models pull`"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return check_reference()


@pytest.fixture(scope="session")
def real_run(reference_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that merged the zoo's experts by TIES and asked every suite 4 items; minutes on two cores. Read-only."""
    from click.testing import CliRunner

    from alignmerge.cli import cli
    from alignmerge.errors import AlignMergeError

    folder = tmp_path_factory.mktemp("real")
    experts = "".join(
        f"  - {{model: zoo:{name}, trained_from: anchor}}\n" for name in ("arithmetic", "format", "units")
    )
    (folder / "ties.yaml").write_text(f"anchor: zoo:safety\nexperts:\n{experts}method: ties\n")
    arguments = ["merge", str(folder / "ties.yaml"), "--policy", "demo", "--limit", "4", "-o", str(folder / "out")]
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert result.exception is None or isinstance(result.exception, AlignMergeError), repr(result.exception)
    return folder / "out" / "records"


def write_tiny_checkpoint(folder: Path, seed: int) -> None:
    """Fill `folder` with the tiny checkpoint drawn from `seed`; equal seeds give equal tensors."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).float()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def byte_tokenizer() -> Any:
    """A tokenizer whose tokens are the 256 bytes and three special tokens; it encodes any text and decodes it back."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*special, *letters])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
    )


@pytest.fixture(scope="session")
def family(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base`, `anchor`, `expert_a`, `expert_b` (tiny, bf16, each near the one before) and `adapter`.

    `adapter` is a LoRA on `anchor` with unequal ranks, in peft's format. Read-only: copy what a test changes.
    """
    root = tmp_path_factory.mktemp("family")
    for seed, name in enumerate(("base", "anchor", "expert_a", "expert_b")):
        write_relative(tiny_checkpoint, root / name, seed)
    write_adapter(root / "adapter", root / "anchor")
    return root


def write_relative(source: Path, folder: Path, seed: int) -> None:
    """Copy the checkpoint at `source` to `folder` in bf16, moved a little at random (not at all for seed 0)."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, folder)
    generator = torch.Generator().manual_seed(seed)
    tensors = load_file(folder / "model.safetensors")
    for name, value in tensors.items():
        tensors[name] = (value + 0.01 * min(seed, 1) * torch.randn(value.shape, generator=generator)).bfloat16()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def write_adapter(folder: Path, base: Path) -> None:
    """Put a random LoRA adapter (rank 4, and 2 for q_proj) for `base` into `folder`."""
    import json

    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(7)
    shapes = {"self_attn.q_proj": (32, 32, 2), "mlp.up_proj": (64, 32, 4), "mlp.down_proj": (32, 64, 4)}
    tensors = {}
    for layer in range(2):
        for module, (rows, columns, rank) in shapes.items():
            stem = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{stem}.lora_A.weight"] = torch.randn(rank, columns, generator=generator)
            tensors[f"{stem}.lora_B.weight"] = 0.05 * torch.randn(rows, rank, generator=generator)
    config = {
        "base_model_name_or_path": str(base),
        "bias": "none",
        "lora_alpha": 8,
        "peft_type": "LORA",
        "r": 4,
        "rank_pattern": {"q_proj": 2},
        "target_modules": sorted(module.split(".")[1] for module in shapes),
        "task_type": "CAUSAL_LM",
    }
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
