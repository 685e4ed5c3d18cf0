"""The executor: same bytes whatever the threads, shards and order; nothing under OUT that is not whole."""

import contextlib
import json
import os
import resource
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignmerge.errors import CheckpointError, StorageError, TensorMismatch, TokenizerMismatch, UsageError
from alignmerge.merger import record as merge_record
from alignmerge.merger.checkpoint import open_checkpoint
from alignmerge.merger.recipe import Expert, Recipe
from alignmerge.merger.stream import Staged, merge, merge_in_memory, stage
from alignmerge.provenance import manifest as manifests

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("linear", {}),
    ("task_arithmetic", {"scale": 0.4}),
    ("ties", {}),
    ("ties", {"trim": "global", "sign": "mergekit", "density": 0.3}),
]


def recipe(family: Path, method: str = "linear", parameters: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    experts = tuple(Expert(str(family / name), "anchor") for name in ("expert_a", "expert_b", "adapter"))
    return replace(Recipe(str(family / "anchor"), experts, method, parameters or {}), **changes)


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def set_tensor(folder: Path, name: str, value: torch.Tensor) -> None:
    path = folder / "model.safetensors"
    save_file(load_file(path) | {name: value}, path, {"format": "pt"})


@pytest.mark.parametrize(("method", "parameters"), VARIANTS)
def test_output_is_a_checkpoint_with_the_same_bytes_every_time(
    family: Path, tmp_path: Path, method: str, parameters: dict[str, Any]
) -> None:
    plain = merge(recipe(family, method, parameters), tmp_path / "one")
    torch.set_num_threads(2)
    threads = merge(recipe(family, method, parameters), tmp_path / "two")
    torch.set_num_threads(1)
    given = recipe(family, method, parameters)
    turned = merge(replace(given, experts=given.experts[::-1]), tmp_path / "three")
    sharded = merge(given, tmp_path / "four", shard_bytes=3000)
    assert plain.manifest == threads.manifest == turned.manifest
    assert len(sharded.manifest.files) > 10
    assert len({found.record.tensor_digest for found in (plain, threads, turned, sharded)}) == 1

    memory = merge_in_memory(given)
    for folder in ("one", "four"):
        opened = open_checkpoint(tmp_path / folder)
        assert opened.digest == manifests.read(tmp_path / folder).digest
        assert manifests.verify(tmp_path / folder) == []
        assert all(info.dtype == "BF16" for info in opened.tensors.values())
        assert set(memory) == set(opened.tensors) == set(load_file(family / "anchor" / "model.safetensors"))
        assert all(torch.equal(opened.read(name), value.float()) for name, value in memory.items())
    assert not list(tmp_path.glob("*.partial"))


def test_task_arithmetic_against_float64(family: Path, tmp_path: Path) -> None:
    given = recipe(family, "task_arithmetic", {"scale": 0.5}, base=str(family / "base"), dtype="float32")
    given = replace(given, experts=(Expert(str(family / "expert_a"), "base", 2.0), *given.experts[1:]))
    merge(given, tmp_path / "out")
    base, anchor, first, second = (
        load_file(family / name / "model.safetensors") for name in ("base", "anchor", "expert_a", "expert_b")
    )
    third = open_checkpoint(family / "adapter")
    for name, value in load_file(tmp_path / "out" / "model.safetensors").items():
        start = anchor[name].double()
        moves = 2 * (first[name].double() - base[name].double())
        moves += second[name].double() - start + third.read(name).double() - start
        assert torch.allclose(value.double(), start + 0.5 * moves, atol=1e-6), name


def test_record_names_inputs_and_output(family: Path, tmp_path: Path) -> None:
    result = merge(recipe(family, "ties"), tmp_path / "out")
    found = merge_record.read(tmp_path / "out")
    assert found == result.record
    assert found.output_digest == manifests.read(tmp_path / "out").digest
    knobs = {"density": 0.2, "scale": 1.0, "trim": "tensor", "sign": "paper", "combine": "mean"}
    assert found.recipe["parameters"] == knobs
    assert found.inputs[0].digest == open_checkpoint(family / "anchor").digest
    assert {entry.role for entry in found.inputs} == {"anchor", "expert"}
    assert found.versions["torch"] == torch.__version__
    again = merge(recipe(family, "ties"), tmp_path / "again")
    assert (again.folder / "merge.json").read_bytes() == (tmp_path / "out" / "merge.json").read_bytes()


def test_companions_come_from_the_anchor_without_code(family: Path, tmp_path: Path) -> None:
    anchor = copy(family / "anchor", tmp_path / "anchor")
    config = json.loads((anchor / "config.json").read_text())
    (anchor / "config.json").write_text(
        json.dumps(config | {"auto_map": {"AutoModel": "x.Y"}, "torch_dtype": "float32"})
    )
    (anchor / "modeling_x.py").write_text("raise SystemExit")
    result = merge(recipe(family, anchor=str(anchor), dtype="float16"), tmp_path / "out")
    copied = json.loads((tmp_path / "out" / "config.json").read_text())
    assert copied == {key: value for key, value in config.items() if key != "dtype"} | {"dtype": "float16"}
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (anchor / "tokenizer.json").read_bytes()
    assert {entry.name for entry in (tmp_path / "out").iterdir()} == {
        "chat_template.jinja", "config.json", "generation_config.json", "manifest.json", "merge.json",
        "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert any("auto_map ignored" in note for note in result.record.notes)


def test_files_get_the_usual_mode(family: Path, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        merge(recipe(family), tmp_path / "out")
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "out").iterdir()} == {"0o644"}


# --- refusals ---------------------------------------------------------------------------------------------------------


def refused(given: Recipe, out: Path, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        merge(given, out)
    assert not out.exists()


def test_overflow_in_the_output_dtype(family: Path, tmp_path: Path) -> None:
    expert = copy(family / "expert_a", tmp_path / "expert")
    values = load_file(expert / "model.safetensors")["model.norm.weight"].float()
    values[3] = 70_000.0
    set_tensor(expert, "model.norm.weight", values)
    given = Recipe(str(family / "anchor"), (Expert(str(expert), "anchor"),), "task_arithmetic", dtype="float16")
    refused(given, tmp_path / "out", TensorMismatch, r"'model\.norm\.weight': element 3 is 7.*not finite in float16")
    merge(replace(given, dtype="bfloat16"), tmp_path / "fits")


def test_shapes_and_names_and_architecture_must_agree(family: Path, tmp_path: Path) -> None:
    for number, (name, value, message) in enumerate(
        [
            ("model.norm.weight", torch.ones(33), r"'model\.norm\.weight' has shape \(33,\), the anchor .* \(32,\)"),
            ("model.extra.weight", torch.ones(3), r"has 'model\.extra\.weight' in addition"),
        ]
    ):
        expert = copy(family / "expert_a", tmp_path / f"expert{number}")
        set_tensor(expert, name, value)
        given = Recipe(str(family / "anchor"), (Expert(str(expert), "anchor"),), "linear")
        refused(given, tmp_path / "out", TensorMismatch, message)
    expert = copy(family / "expert_a", tmp_path / "other")
    config = json.loads((expert / "config.json").read_text())
    (expert / "config.json").write_text(json.dumps(config | {"model_type": "mistral"}))
    given = Recipe(str(family / "anchor"), (Expert(str(expert), "anchor"),), "linear")
    refused(given, tmp_path / "out", CheckpointError, "model_type is 'mistral', the anchor .* has 'llama'")


def test_swapped_token_ids(family: Path, tmp_path: Path) -> None:
    expert = copy(family / "expert_a", tmp_path / "expert")
    tokenizer = json.loads((expert / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (expert / "tokenizer.json").write_text(json.dumps(tokenizer))
    given = Recipe(str(family / "anchor"), (Expert(str(expert), "anchor"),), "linear")
    refused(given, tmp_path / "out", TokenizerMismatch, r"token 'a' has id \d+, in the anchor .*2 tokens differ")
    (expert / "tokenizer.json").write_text(json.dumps({"model": {}}))
    refused(given, tmp_path / "out", TokenizerMismatch, "not a tokenizer")


def test_out_must_be_free_and_no_input(family: Path, tmp_path: Path) -> None:
    inputs = copy(family, tmp_path / "family")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for out in (tmp_path / "full", inputs / "anchor", inputs / "anchor" / "sub", inputs, tmp_path / "link"):
        with pytest.raises(UsageError, match=r"choose another|not an empty folder"):
            merge(recipe(inputs), out)
    assert manifests.build_manifest(inputs / "anchor", tensor_count=0, parameter_count=0) == manifests.build_manifest(
        family / "anchor", tensor_count=0, parameter_count=0
    )
    (tmp_path / "empty").mkdir()
    assert merge(recipe(inputs), tmp_path / "empty").folder == tmp_path / "empty"


def test_full_disk_is_known_before_the_first_tensor(family: Path, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        refused(recipe(family), tmp_path / "out", StorageError, r"\d+ bytes needed, \d+ free")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "out.partial" / "checkpoint").iterdir())
    merge(recipe(family), tmp_path / "out")


# --- staging ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def staged(given: Recipe, out: Path, **more: Any) -> Iterator[Staged]:
    with stage(given, out, shard_bytes=20_000, **more) as result:
        yield result


def test_nothing_is_published_until_asked_and_nothing_is_left_after_a_discard(family: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staged(recipe(family), out) as result:
        assert open_checkpoint(result.folder).digest == result.manifest.digest
        assert not out.exists()
    assert not out.exists()
    with staged(recipe(family), out) as result:
        result.discard()
    assert list(tmp_path.iterdir()) == []


def test_two_merges_into_one_folder(family: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staged(recipe(family), out) as result:
        with pytest.raises(StorageError, match=r"another merge into .* is running"):
            merge(recipe(family), out)
        result.publish()
    assert manifests.verify(out) == []


def test_resume_keeps_good_shards_and_rewrites_bad_ones(family: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staged(recipe(family), out) as first:
        pass
    shards = sorted(first.folder.glob("*.safetensors"))
    kept_since = shards[0].stat().st_mtime_ns
    data = bytearray(shards[1].read_bytes())
    data[-1] ^= 1
    shards[1].write_bytes(data)
    shards[2].unlink()
    with staged(recipe(family), out) as second:
        assert second.manifest == first.manifest
        assert shards[0].stat().st_mtime_ns == kept_since
        assert second.record.notes == (
            f"{shards[1].name}: differs from the journal and was written again",
            f"{shards[2].name}: differs from the journal and was written again",
        )


def test_last_journal_line_cut_short(family: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staged(recipe(family), out) as first:
        pass
    journal = tmp_path / "out.partial" / "journal.jsonl"
    complete = journal.read_bytes()
    journal.write_bytes(complete[:-20])
    with staged(recipe(family), out) as second:
        assert second.manifest == first.manifest
        assert second.record.notes == ("journal.jsonl: unreadable lines were dropped: 1",)
    lines = journal.read_bytes().splitlines()
    assert lines[-1] == complete.splitlines()[-1]
    with staged(recipe(family), out) as third:
        assert third.record.notes == ("journal.jsonl: unreadable lines were dropped: 1",)
        third.publish()


def test_another_plan_may_not_resume(family: Path, tmp_path: Path) -> None:
    inputs = copy(family, tmp_path / "family")
    with staged(recipe(inputs), tmp_path / "out"):
        pass
    with pytest.raises(UsageError, match="unfinished merge with another recipe"):
        merge(recipe(inputs, "ties"), tmp_path / "out")
    with pytest.raises(UsageError, match="unfinished merge with another recipe"):
        merge(recipe(inputs), tmp_path / "out", shard_bytes=20_000, materials_digest="other")
    set_tensor(inputs / "expert_a", "model.norm.weight", torch.full((32,), 2.0))
    with pytest.raises(UsageError, match="unfinished merge with another recipe"):
        merge(recipe(inputs), tmp_path / "out", shard_bytes=20_000)


def test_a_merge_that_asked_models_on_a_gpu_does_not_go_on_but_begins_anew(family: Path, tmp_path: Path) -> None:
    """Two solves there may differ in their last digits; half of each would be neither."""
    there, here = (SimpleNamespace(device=device, products=None) for device in ("cuda some product", "cpu"))
    with staged(recipe(family), tmp_path / "out", materials=there) as first:
        assert first.record.versions["device"] == "cuda some product"
    with pytest.raises(UsageError, match="does not go on: its models are computed on a GPU.*--clean"):
        merge(recipe(family), tmp_path / "out", shard_bytes=20_000, materials=there)
    with staged(recipe(family), tmp_path / "out", materials=there, clean=True) as again:
        assert again.manifest == first.manifest
    for _ in range(2):
        with staged(recipe(family), tmp_path / "other", materials=here) as kept:
            assert kept.record.versions["device"] == "cpu" and "products" not in kept.record.versions


def test_a_record_says_how_models_took_their_products_and_halves_of_two_kinds_are_not_joined(
    family: Path, tmp_path: Path
) -> None:
    rounded, native = (SimpleNamespace(device="cpu", products=how) for how in ("float32, rounded", None))
    with staged(recipe(family), tmp_path / "out", materials=rounded) as first:
        assert first.record.versions["products"] == "float32, rounded"
    with pytest.raises(UsageError, match="unfinished merge"):
        merge(recipe(family), tmp_path / "out", materials=native)
