"""The header check: what the library writes is read the same; what it would let through is refused."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from alignmerge.errors import ShardError, StorageError, TensorMismatch
from alignmerge.merger.safetensors_header import read_header, read_tensor

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def write(path: Path, header: Any, data: bytes = b"\0" * 8) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_reads_what_the_library_wrote(tmp_path: Path) -> None:
    tensors = {
        "a.weight": torch.randn(3, 5),
        "b": torch.randn(7).bfloat16(),
        "c": torch.randn(2, 2).half(),
        "d": torch.randn(2, 3).double(),
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 4),
    }
    save_file(tensors, tmp_path / "m.safetensors")
    found = read_header(tmp_path / "m.safetensors")
    assert set(found) == set(tensors)
    for name, info in found.items():
        assert torch.equal(read_tensor(info), tensors[name])
        assert read_tensor(info).dtype == tensors[name].dtype
        assert info.parameters == tensors[name].numel()


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (b"", b"", "does not start with"),
        (b"\xff\xfe{}", b"", "does not start with"),
        (b'{"a\xff": 1}', b"", "not valid JSON"),
        (b"[]", b"", "does not start with"),
        (b"{" + b'"a":{' * 100_000, b"", "not valid JSON"),
        ({"a": 1}, b"", "exactly dtype"),
        ({"a": {**F32, "extra": 1}}, b"\0" * 8, "exactly dtype"),
        ({"a": {**F32, "dtype": "F31"}}, b"\0" * 8, "unknown dtype 'F31'"),
        ({"a": {**F32, "shape": [3]}}, b"\0" * 8, "cannot fill 8 bytes"),
        ({"a": {**F32, "shape": [2.0]}}, b"\0" * 8, "unusable shape"),
        ({"a": {**F32, "shape": [True, 2]}}, b"\0" * 8, "unusable shape"),
        ({"a": {**F32, "shape": [2**63, 4]}}, b"\0" * 8, "unusable shape"),
        ({"a": {**F32, "shape": [1] * 65_536}}, b"\0" * 8, "unusable shape"),
        ({"a": {**F32, "data_offsets": [8, 0]}}, b"\0" * 8, "unusable data_offsets"),
        ({"a": {**F32, "data_offsets": [-8, 0]}}, b"\0" * 8, "unusable data_offsets"),
        ({"a": F32, "b": F32}, b"\0" * 8, "overlaps"),
        ({"a": {**F32, "data_offsets": [8, 16]}}, b"\0" * 16, "leaves a hole"),
        ({"a": F32}, b"\0" * 7, "describes"),
        ({"a": F32}, b"\0" * 8 + b"PK\x03\x04", "describes"),
        ({"a": F32, "__metadata__": {"x": 1}}, b"\0" * 8, "__metadata__"),
    ],
)
def test_malformed_is_refused(tmp_path: Path, header: Any, data: bytes, message: str) -> None:
    with pytest.raises(ShardError, match=message):
        read_header(write(tmp_path / "m.safetensors", header, data))


@pytest.mark.parametrize("name", ["", "../x", "a\0b", "a" * 513, "\x1b[31m", "a\u202eb", "a b", "<b>", "a/b"])
def test_hostile_names_are_refused_and_shown_escaped(tmp_path: Path, name: str) -> None:
    with pytest.raises(ShardError, match="not an acceptable tensor name") as caught:
        read_header(write(tmp_path / "m.safetensors", {name: F32}))
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("content", [b"", b"1234567", (2**64 - 1).to_bytes(8, "little"), (100).to_bytes(8, "little")])
def test_short_files_and_absurd_lengths(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(ShardError, match="header"):
        read_header(tmp_path / "m.safetensors")


def test_flood_of_tensors_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    entry = '"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    header = ("{" + ",".join(entry % number for number in range(200_001)) + "}").encode()
    start = time.monotonic()
    with pytest.raises(ShardError, match="more than 200000 tensors"):
        read_header(write(tmp_path / "m.safetensors", header, b""))
    assert time.monotonic() - start < 5


def test_fifo_and_folder_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.safetensors")
    for name in ("fifo.safetensors", "."):
        with pytest.raises(ShardError, match="not a regular file"):
            read_header(tmp_path / name)
    with pytest.raises(StorageError, match="cannot be opened"):
        read_header(tmp_path / "missing.safetensors")


def test_file_truncated_after_the_check_raises_instead_of_dying(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"a": torch.zeros(1000)}, path)
    info = read_header(path)["a"]
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(ShardError, match="truncated"):
        read_tensor(info)


def test_integers_are_not_merged(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(4, dtype=torch.int8)}, tmp_path / "m.safetensors")
    with pytest.raises(TensorMismatch, match="'a' has dtype I8"):
        read_tensor(read_header(tmp_path / "m.safetensors")["a"])


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_described_in_full(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.safetensors"
    path.write_bytes(data)
    try:
        found = read_header(path)
    except ShardError:
        return
    assert all(info.offset + info.size <= len(data) for info in found.values())
