"""K01: one byte of a finished merge changed, in any of its files. Verification names the file."""

from pathlib import Path

import pytest

from alignmerge.errors import InputRejected
from alignmerge.merger.recipe import Expert, Recipe
from alignmerge.merger.stream import merge
from alignmerge.provenance.manifest import read, verify


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_K01_flipped_byte_is_found_and_named(family: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    recipe = Recipe(str(family / "anchor"), (Expert(str(family / "expert_a"), "anchor"),), "linear")
    merge(recipe, out, shard_bytes=30_000)
    names = [entry.path for entry in read(out).files]
    assert {"config.json", "tokenizer.json", "model.safetensors.index.json"} < set(names)
    for name in names:
        for position in (0, (out / name).stat().st_size // 2, -1):
            flip(out / name, position)
            assert [str(difference) for difference in verify(out)] == [f"changed: {name}"]
            flip(out / name, position)
    assert verify(out) == []


def test_K01_flipped_byte_in_the_manifest_itself(family: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    merge(Recipe(str(family / "anchor"), (Expert(str(family / "expert_a"), "anchor"),), "linear"), out)
    text = (out / "manifest.json").read_bytes()
    for position in range(0, len(text), 7):
        flip(out / "manifest.json", position)
        if text[position : position + 1].isspace():
            flip(out / "manifest.json", position)
            continue
        with pytest.raises(InputRejected) as caught:
            read(out)
        assert caught.value.exit_code == 5
        flip(out / "manifest.json", position)
    assert (out / "manifest.json").read_bytes() == text
