"""Manifests: what they name, what changes their digest, what verification reports."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignmerge.errors import CheckpointError, IntegrityError, RecordError, StorageError
from alignmerge.provenance.manifest import (
    Difference,
    FileEntry,
    Manifest,
    build_manifest,
    hash_file,
    read,
    verify,
    write,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small folder with files that look like a checkpoint's."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(b"weights")
    (path / "tokenizer.json").write_text("[]")
    (path / "tokenizer_config.json").write_text('{"chat_template": "{{ x }}"}')
    (path / "README.md").write_text("words")
    return path


def build(folder: Path) -> Manifest:
    return build_manifest(folder, tensor_count=1, parameter_count=7)


def test_golden_digest(folder: Path) -> None:
    manifest = build(folder)
    assert [entry.path for entry in manifest.files] == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert manifest.files[0] == FileEntry(
        "config.json", 2, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )
    assert manifest.digest == "1c9b7c17b968d966494d3f6fa694515af8954d18e0d282bc2609ffe7dd78beb6"


def test_written_and_read_back(folder: Path) -> None:
    manifest = build(folder)
    assert write(manifest, folder) == folder / "manifest.json"
    assert read(folder) == manifest
    assert build(folder) == manifest
    assert verify(folder) == []
    moved = folder.parent / "moved"
    shutil.move(folder, moved)
    assert build(moved).digest == manifest.digest


def test_files_known_already_are_not_read_again(folder: Path) -> None:
    known = hash_file(folder / "model.safetensors")
    (folder / "model.safetensors").write_bytes(b"changed")
    assert build_manifest(folder, tensor_count=1, parameter_count=7, known=(known,)).files[1] == known


def test_template_wherever_it_lies(folder: Path) -> None:
    inside = build(folder).template_digest
    assert inside is not None
    (folder / "chat_template.jinja").write_text("{{ y }}")
    assert build(folder).template_digest == hash_file(folder / "chat_template.jinja").sha256 != inside
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text("{}")
    assert build(folder).template_digest is None


def test_adapter_takes_what_it_lacks_from_its_base(folder: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"update")
    base = build(folder)
    manifest = build_manifest(adapter, tensor_count=1, parameter_count=7, base=base)
    assert (manifest.config_digest, manifest.tokenizer_digest) == (base.config_digest, base.tokenizer_digest)
    assert manifest.base_digest == base.digest
    (adapter / "tokenizer.json").write_text("[1]")
    assert (
        build_manifest(adapter, tensor_count=1, parameter_count=7, base=base).tokenizer_digest != base.tokenizer_digest
    )


def test_verify_names_every_difference_in_order(folder: Path) -> None:
    write(build(folder), folder)
    (folder / "zz.py").write_text("import os")
    (folder / "audit.json").write_text("{}")
    (folder / "sub").mkdir()
    (folder / "sub" / "x").write_text("")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "tokenizer.json").rename(folder / "tokenizer2.json")
    (folder / "config.json").write_text("{ }")
    (folder / "model.safetensors").write_bytes(b"Weights")
    assert [str(difference) for difference in verify(folder)] == [
        "extra: dangling",
        "extra: sub/x",
        "extra: tokenizer2.json",
        "extra: zz.py",
        "missing: tokenizer.json",
        "changed: config.json",
        "changed: model.safetensors",
    ]
    assert Difference("extra", "audit.json") in verify(folder, allowed=frozenset())


def test_links_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (folder / "vocab.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match="link out of"):
        build(folder)
    (folder / "vocab.txt").unlink()
    (folder / "vocab.txt").symlink_to("tokenizer.json")
    assert build(folder).files[-1].path == "vocab.txt"
    (folder / "vocab.txt").unlink()
    (folder / "vocab.txt").symlink_to("vocab.txt")
    with pytest.raises(StorageError, match="cannot be read"):
        build(folder)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('"tensor_count": 1', '"tensor_count": 2', IntegrityError),
        ('"tensor_count": 1', '"tensor_count": true', RecordError),
        ('"parameter_count": 7', '"parameter_count": 7, "parameter_count": 7', RecordError),
        ('"size": 2\n', '"size": 3\n', IntegrityError),
        ('"size": 2\n', '"size": "2"\n', RecordError),
        ("alignmerge.manifest/1", "alignmerge.manifest/2", RecordError),
        ('"config.json"', '"../config.json"', RecordError),
        ('"config.json"', '"model.safetensors"', RecordError),
        ('"files"', '"fils"', RecordError),
    ],
)
def test_edited_manifest(folder: Path, old: str, new: str, error: type[Exception]) -> None:
    path = write(build(folder), folder)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(error):
        read(folder)


def test_no_manifest(folder: Path) -> None:
    with pytest.raises(StorageError, match="manifest.json"):
        verify(folder)


entries = st.builds(
    FileEntry, st.text("abc.", min_size=1, max_size=3), st.integers(0, 10), st.sampled_from(["0" * 64, "1" * 64])
)


@given(st.lists(entries, max_size=4), st.integers(0, 3), st.lists(entries, max_size=4), st.integers(0, 3))
def test_equal_digests_exactly_where_equal(left: list[FileEntry], one: int, right: list[FileEntry], two: int) -> None:
    first = Manifest(tuple(left), one, 0, None, None, None)
    second = Manifest(tuple(right), two, 0, None, None, None)
    assert (first == second) == (first.digest == second.digest)
    assert first.digest != replace(first, base_digest="x").digest
    assert json.loads(json.dumps(first.to_json()))["digest"] == first.digest
