"""Weights-only methods give one digest everywhere: these, on every platform and library version.

A change here is a change of what a recipe means; it belongs into the changelog.
"""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from alignmerge.merger.recipe import Expert, Recipe
from alignmerge.merger.stream import merge

GOLDEN = {
    ("linear", ""): "d048b710848e6e06bd0acc5d97cba290675971899acf878492700e203933fe9b",
    ("task_arithmetic", ""): "a6476ff8e46d36322f5772cda5bc204d97fbab04e4fa0d6914f36dac7c1fdc23",
    ("ties", ""): "3f1a9c05bc1fac4a964221f48b564046a6db84231956cbc55d456ee46201b4c2",
    ("ties", "global"): "8ed8d33d33cf5d153db03b369dcf8aa32806c492a37b0a4fbc5119a5012a63bd",
}


def formula_checkpoint(folder: Path, step: int) -> str:
    """A checkpoint without any random numbers: values are small fractions computed from their position."""
    folder.mkdir()
    position = torch.arange(4000, dtype=torch.float64)
    values = (
        ((position * 31 + 7) % 997) / 997
        - 0.5
        + 0.01 * step * (((position * 7919 + 104729 * step) % 2003) / 2003 - 0.5)
    )
    tensors = {"a.weight": values[:3000].reshape(60, 50).bfloat16(), "b.weight": values[3000:].float()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    return str(folder)


def test_golden_digests(tmp_path: Path) -> None:
    anchor, *experts = (formula_checkpoint(tmp_path / f"c{step}", step) for step in range(4))
    found = {}
    for method, trim in GOLDEN:
        given = Recipe(anchor, tuple(Expert(name, "anchor", 0.3) for name in experts), method)
        given = replace(given, parameters={"trim": trim} if trim else {})
        found[method, trim] = merge(given, tmp_path / f"{method}{trim}").record.tensor_digest
    assert found == GOLDEN
