"""AlignMerge of a LoRA adapter through the whole command: what it makes of the same expert as a full checkpoint."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from alignmerge import jsonio
from alignmerge.cli import cli
from alignmerge.merger.checkpoint import open_checkpoint
from alignmerge.merger.ingredients import open_ingredients
from alignmerge.merger.methods.alignmerge import _teachers
from alignmerge.merger.recipe import load_recipe
from tests.conftest import write_adapter

RECIPE = """\
anchor: {family}/anchor
base: {family}/base
experts:
  - {{model: {one}, trained_from: {start}, skill: arithmetic, weight: 0.8}}
  - {{model: {family}/expert_a, trained_from: anchor, skill: units, weight: 0.6}}
method: alignmerge
parameters: {{start: {kind}, descent_steps: 0, steps: 0, lambda_bud: 0.0, threads: 1}}
dtype: float32
calibration: {{alignment_items: 4, expert_items: 4, validation_items: 2, alignment_tokens: 4, expert_tokens: 4}}
"""
ALPHA = 8  # lora_alpha of what write_adapter writes


@pytest.fixture(params=["anchor", "base"])
def start(request: pytest.FixtureRequest) -> str:
    """What the adapter was trained on."""
    return str(request.param)


def updates(adapter: Path) -> dict[str, torch.Tensor]:
    """alpha / r B A of every layer that the adapter changes, from its file."""
    factors = load_file(adapter / "adapter_model.safetensors")
    stems = [name.removesuffix(".lora_A.weight") for name in factors if name.endswith(".lora_A.weight")]
    pairs = {stem: [factors[f"{stem}.lora_{factor}.weight"] for factor in "AB"] for stem in stems}
    return {
        f"{stem.removeprefix('base_model.model.')}.weight": ALPHA / len(a) * b @ a for stem, (a, b) in pairs.items()
    }


@pytest.fixture(params=["closed-form", "progressive"])
def kind(request: pytest.FixtureRequest) -> str:
    """What the solve starts from."""
    return str(request.param)


@pytest.fixture
def recipes(start: str, kind: str, family: Path, tmp_path: Path) -> dict[str, Path]:
    """The recipe with the adapter, and with its update added to what it was trained on."""
    write_adapter(tmp_path / "adapter", family / start)
    opened, moves = open_checkpoint(family / start), updates(tmp_path / "adapter")
    whole = {name: opened.read(name).float() + moves.get(name, 0.0) for name in opened.tensors}
    shutil.copytree(family / start, tmp_path / "folded")
    save_file(whole, tmp_path / "folded" / "model.safetensors", {"format": "pt"})
    found = {}
    for name in ("adapter", "folded"):
        found[name] = tmp_path / f"{name}.yaml"
        found[name].write_text(RECIPE.format(family=family, one=tmp_path / name, start=start, kind=kind))
    return found


def merged(recipe: Path) -> tuple[Mapping[str, torch.Tensor], dict[str, Any]]:
    """The merge's tensors and the method's account of them."""
    out = recipe.parent / f"{recipe.stem}_merged"
    result = CliRunner().invoke(cli, ["merge", str(recipe), "-o", str(out)], standalone_mode=False)
    assert result.exception is None, repr(result.exception)
    return load_file(out / "model.safetensors"), jsonio.read(out / "merge.json")["account"]


def test_it_is_the_merge_of_the_same_expert_as_a_full_checkpoint(
    recipes: dict[str, Path], kind: str, empty_cache: Path
) -> None:
    (found, account), (wanted, _) = (merged(recipes[name]) for name in ("adapter", "folded"))
    assert account["start"] == {"from": kind, "why": None}
    assert set(found) == set(wanted)
    for name, value in wanted.items():  # experts stand in the order of their digests, so sums round differently
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5)


def test_its_task_vector_is_its_update_whatever_it_was_trained_on(recipes: dict[str, Path]) -> None:
    adapter = recipes["adapter"].with_suffix("")
    view, moves = open_ingredients(load_recipe(recipes["adapter"])), updates(adapter)
    known = _teachers(view)
    index = list(known.sources).index(f"expert {adapter}")
    for name in view.names:
        wanted = moves.get(name, torch.zeros(view.anchor.tensors[name].shape))
        torch.testing.assert_close(known.task_vector(name, index), wanted, rtol=0, atol=1e-6)
    assert len(moves.keys() & set(view.names)) == 2 * 3 and all(bool(one.any()) for one in moves.values())
