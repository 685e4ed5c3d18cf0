"""The shared fixtures do what the other tests lean on."""

import socket
from pathlib import Path

import pytest


def test_the_network_is_blocked() -> None:
    with pytest.raises(RuntimeError, match="without network"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(RuntimeError, match="without network"):
        socket.getaddrinfo("example.org", 443)


def test_the_loopback_interface_is_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        pass


def test_tiny_checkpoint_loads_and_its_tokenizer_reads_any_text(tiny_checkpoint: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    text = "Zürich 7 × 6 = 42\n\t🙂"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint)
    logits = model(**prompt).logits
    assert logits.shape[-1] == len(tokenizer)
    assert logits.isfinite().all()
    assert model.config.num_hidden_layers == 2
