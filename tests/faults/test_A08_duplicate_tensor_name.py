"""A08: the same tensor name twice over the same bytes. The safetensors library lets the last one win."""

import shutil
from pathlib import Path

import pytest
from safetensors import safe_open

from alignmerge.errors import ShardError
from alignmerge.merger.checkpoint import open_checkpoint
from alignmerge.merger.recipe import Expert, Recipe
from alignmerge.merger.stream import merge

HEADER = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}'


def test_A08_duplicate_tensor_name(family: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(family / "expert_a", bad)
    shard = bad / "model.safetensors"
    shard.write_bytes(len(HEADER).to_bytes(8, "little") + HEADER + b"\0" * 8)
    with safe_open(shard, "np") as library:
        assert list(library.keys()) == ["w"]  # why a check of our own is needed
    with pytest.raises(ShardError, match=r"model\.safetensors: header: not valid JSON: duplicate key 'w'") as caught:
        open_checkpoint(bad)
    assert caught.value.exit_code == 5
    with pytest.raises(ShardError, match="duplicate"):
        merge(Recipe(str(family / "anchor"), (Expert(str(bad), "anchor"),), "linear"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
