"""`alignmerge blame` on tiny checkpoints: an expert's part, a merge in memory and a published one, text and JSON."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from alignmerge.cli import cli
from alignmerge.errors import RecordError
from alignmerge.merger.geometry.blame import METHOD, Blame, Cell, totals
from alignmerge.merger.recipe import Expert, Recipe
from alignmerge.pipeline.blame_showing import headline, heat
from alignmerge.pipeline.blaming import Blamed, blame_recipe

FEW = ("--items", "2", "--points", "6")


@pytest.fixture(scope="module")
def experts(family: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Experts that each moved one layer of the anchor alone, and one that is the anchor."""
    folder = tmp_path_factory.mktemp("experts")
    moves = {"front": "layers.0.self_attn.q_proj", "back": "layers.1.mlp.down_proj", "idle": "none"}
    for seed, (name, where) in enumerate(moves.items()):
        shutil.copytree(family / "anchor", folder / name)
        tensors = load_file(folder / name / "model.safetensors")
        generator = torch.Generator().manual_seed(seed)
        for key, value in tensors.items():
            if where in key:
                tensors[key] = (value + 0.05 * torch.randn(value.shape, generator=generator)).bfloat16()
        save_file(tensors, folder / name / "model.safetensors", {"format": "pt"})
    return {name: folder / name for name in moves}


def recipe(family: Path, experts: dict[str, Path], method: str = "task_arithmetic", **more: Any) -> Recipe:
    listed = tuple(Expert(str(path), "anchor") for path in experts.values())
    return Recipe(anchor=str(family / "anchor"), experts=listed, method=method, dtype="float32", **more)


def written(folder: Path, of: Recipe) -> Path:
    rows = "\n".join(f"  - {{model: {one.model}, trained_from: anchor}}" for one in of.experts)
    path = folder / "recipe.yaml"
    path.write_text(f"anchor: {of.anchor}\nexperts:\n{rows}\nmethod: {of.method}\ndtype: {of.dtype}\n")
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments], standalone_mode=False)


@pytest.fixture(scope="module")
def blamed(family: Path, experts: dict[str, Path]) -> Blamed:
    return blame_recipe(recipe(family, experts), items=2, points=6)


def test_every_expert_has_the_blame_of_its_own_layer_alone(blamed: Blamed) -> None:
    assert blamed.finite.error < 1e-3
    assert blamed.finite.drift > 0
    spent = {(cell.contributor, cell.layer, cell.module) for cell in blamed.finite.cells if abs(cell.share) > 1e-9}
    assert spent == {("front", 0, "attention.q_proj"), ("back", 1, "mlp.down_proj")}
    assert sum(cell.share for cell in blamed.finite.cells if cell.contributor == "idle") == 0.0
    assert set(blamed.experts) == {"front", "back", "idle"}


def test_linear_shares_lie_in_the_layers_that_moved_and_sum_to_the_drift(
    blamed: Blamed, family: Path, experts: dict[str, Path]
) -> None:
    assert not isinstance(blamed.linear, str)
    sums = totals(blamed.linear, lambda cell: (cell.contributor, cell.layer))
    whole = sum(sums.values())
    assert whole > 0
    assert sums["front", 0] + sums["back", 1] == pytest.approx(whole, rel=1e-6)
    # A square: moving half as far leaves a quarter, whoever's it is.
    halved = blame_recipe(recipe(family, experts, parameters={"scale": 0.5}), items=2, points=1).linear
    assert not isinstance(halved, str)
    for cell, half in zip(blamed.linear, halved, strict=True):
        assert half.share == pytest.approx(cell.share / 4, rel=1e-4, abs=whole * 1e-6)


@pytest.mark.parametrize(
    ("method", "knobs"),
    [
        ("resta", {"gamma": 0.0}),
        ("layerwise", {"start": 1.0, "end": 1.0}),
        ("safemerge_revert", {"threshold": 0.0}),
        ("lata", {"drop": "threshold", "threshold": 1.0}),
    ],
)
def test_a_method_that_only_adds_up_has_the_blame_of_task_arithmetic(
    method: str, knobs: dict[str, object], family: Path, experts: dict[str, Path], blamed: Blamed
) -> None:
    base = str(family / "base")
    found = blame_recipe(
        recipe(family, experts, method, parameters=knobs, unaligned=base, base=base), items=2, points=6
    ).finite
    assert found.drift == pytest.approx(blamed.finite.drift, rel=1e-5)
    ours, theirs = (totals(one.cells, lambda cell: cell.contributor) for one in (found, blamed.finite))
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert ours[METHOD] == pytest.approx(0.0, abs=1e-6)


def test_a_method_that_prunes_has_a_share_of_its_own(family: Path, experts: dict[str, Path]) -> None:
    pruned = blame_recipe(recipe(family, experts, "ties", parameters={"density": 0.2}), items=2, points=6).finite
    sums = totals(pruned.cells, lambda cell: cell.contributor)
    assert abs(sums[METHOD]) > 1e-6
    assert pruned.total == pytest.approx(pruned.drift, rel=1e-3)


def test_a_published_merge_has_the_blame_of_the_one_in_memory(
    family: Path, experts: dict[str, Path], blamed: Blamed, tmp_path: Path
) -> None:
    path = written(tmp_path, recipe(family, experts))
    assert run("merge", path, "-o", tmp_path / "out").exception is None
    shown = run("blame", path, "--merge", tmp_path / "out", *FEW, "--json")
    assert shown.exception is None, repr(shown.exception)
    value = json.loads(shown.stdout)
    assert value["finite"]["finite_drift"] == pytest.approx(blamed.finite.drift, rel=1e-6)
    assert len(value["finite"]["cells"]) == len(blamed.finite.cells)
    assert value["experts"]["front"] == str(experts["front"])


def test_a_merge_of_another_anchor_is_refused(family: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    other = recipe(family, {"front": experts["front"]})
    made = written(tmp_path, Recipe(**{**vars(other), "anchor": str(family / "base")}))
    assert run("merge", made, "-o", tmp_path / "out").exception is None
    refused = run("blame", written(tmp_path, other), "--merge", tmp_path / "out")
    assert isinstance(refused.exception, RecordError)
    assert "was made from the anchor" in str(refused.exception)


def test_the_terminal_shows_experts_layers_and_modules(family: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    shown = run("blame", written(tmp_path, recipe(family, experts)), *FEW, "--top", "1")
    assert shown.exception is None, repr(shown.exception)
    text = shown.stdout
    assert "finite drift 0." in text
    assert "layers 0 to 1" in text
    assert "attention.q_proj" in text
    assert "mlp.down_proj" in text
    bars = {line.split()[0]: line for line in text.splitlines() if "█" in line and "layers" not in line}
    assert len(bars) == 1
    assert next(iter(bars)) in ("front", "back")


def test_bars_share_a_scale_and_mark_what_takes_drift_back() -> None:
    cells = [Cell("a", 0, "m", 0.8), Cell("a", 1, "m", 0.1), Cell("b", 0, "m", -0.4), Cell("b", None, "other", 0.25)]
    _, first, second = heat(cells)
    assert first == "a         █▁  0.0000"
    assert second == "b         -   0.2500"


def test_a_quadrature_that_misses_is_announced() -> None:
    good, bad = (Blame((Cell("a", 0, "m", share),), 1.0, 8, 2) for share in (0.96, 0.94))
    assert len(headline(good)) == 1
    assert headline(bad)[1].startswith("warning: the quadrature misses more than 5%")
