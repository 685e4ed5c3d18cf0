"""What an audit of a recipe computes in, and that it is the weights that would ship."""

from pathlib import Path
from typing import Any, cast

import pytest

from alignmerge.auditor.engines.base import DEFAULT_BATCH_SIZE, Engine
from alignmerge.errors import TensorMismatch
from alignmerge.merger.checkpoint import open_checkpoint
from alignmerge.merger.recipe import Expert, Recipe
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.pipeline.bench import Bench
from alignmerge.policies.schema import load_policy


@pytest.mark.parametrize(
    ("stored", "computed", "noted"),
    [("bfloat16", "bfloat16", False), ("float32", "float32", False), ("float16", "float32", True)],
)
def test_a_recipe_is_audited_in_the_type_it_stores(
    stored: str, computed: str, noted: bool, tiny_checkpoint: Path, empty_cache: Path
) -> None:
    from dataclasses import replace

    import torch

    plan = replace(AuditPlan.of(stored, 2), suites=("arithmetic",))
    checkpoint = open_checkpoint(str(tiny_checkpoint))
    with Bench(plan) as bench:
        engine = bench.engine(checkpoint)
        record = bench.anchor(engine, checkpoint, "tiny")
    assert engine.model.dtype == getattr(torch, computed)
    assert engine.batch_size == DEFAULT_BATCH_SIZE
    assert (record.engine["dtype"], record.engine["batch_size"]) == (computed, DEFAULT_BATCH_SIZE)
    assert any("float16 weights" in note for note in record.notes) == noted
    assert [suite.items for suite in record.suites] == [2]


def test_a_base_without_the_anchors_tensors_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, empty_cache: Path
) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    anchor, never_asked = open_checkpoint(str(tiny_checkpoint)), cast(Engine, None)
    name = "model.layers.1.mlp.up_proj.weight"
    for number, message in enumerate(("is missing here", r"\(64, 32\) there, is \(63, 32\) here")):
        folder = tmp_path / str(number)
        shutil.copytree(tiny_checkpoint, folder)
        tensors = load_file(folder / "model.safetensors")
        changed = tensors.pop(name)
        if number:
            tensors[name] = changed[:63].contiguous()
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        with Bench(AuditPlan(limit=2)) as bench, pytest.raises(TensorMismatch, match=f"no base of .*{name}.*{message}"):
            bench.anchor(never_asked, anchor, "tiny", open_checkpoint(str(folder)))


def test_commands_take_the_type_from_the_recipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, empty_cache: Path
) -> None:
    from alignmerge.commands import merge as merge_command
    from alignmerge.merger import mergekit_config
    from alignmerge.pipeline import showing, ungated

    recipe = Recipe("a", (Expert("b", "anchor"),), "linear", dtype="float32")
    plans: list[Any] = []

    class Stopped(Exception):
        pass

    def stop(plan: Any) -> Any:
        plans.append(plan)
        raise Stopped

    monkeypatch.setattr(mergekit_config, "load_any", lambda path: mergekit_config.Loaded(recipe))
    monkeypatch.setattr(ungated, "merge_ungated", lambda loaded, output, plan, **_: stop(plan))
    monkeypatch.setattr(showing, "Bench", stop)
    callback = merge_command.command.callback
    assert callback is not None
    with pytest.raises(Stopped):
        callback(
            recipe=tmp_path,
            output=tmp_path / "out",
            plan_only=False,
            policy=None,
            limit=None,
            threads=None,
            clean=False,
            as_json=False,
            **dict.fromkeys(("junit", "sarif", "summary", "shown_at")),
            on_fail="discard",
            key=None,
            ledger=None,
        )
    with pytest.raises(Stopped):
        showing.compare_and_report(recipe, [], tmp_path / "run", [load_policy("demo")], limit=3, title="", notes=[])
    assert [(plan.dtype, plan.limit) for plan in plans] == [("float32", None), ("float32", 3)]
