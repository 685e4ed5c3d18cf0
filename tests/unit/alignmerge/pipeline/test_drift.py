"""Drift of every merge: measured from the anchor, kept beside the audit, shown, and checked by verify."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from alignmerge.auditor.engines.transformers_engine import TransformersEngine
from alignmerge.cli import cli
from alignmerge.merger.checkpoint import Checkpoint, open_checkpoint
from alignmerge.merger.geometry import directions
from alignmerge.merger.geometry.rows import Row
from alignmerge.models import load_model
from alignmerge.pipeline import drift
from alignmerge.pipeline.drift import ITEMS, DriftGauge, held_out
from alignmerge.suites.model import select
from alignmerge.suites.registry import get_suite

RECIPE = """\
anchor: {anchor}
experts:
  - {{model: {one}, trained_from: anchor}}
  - {{model: {two}, trained_from: anchor}}
method: task_arithmetic
dtype: float32
"""
POLICY = """\
schema: alignmerge.policy/1
name: permissive
summary: "Lets anything pass that was measured."
rules:
  - {id: refusal-drop, metric: refusal_rate, kind: max_drop, limit: 1.0, min_items: 2}
"""


def engine(checkpoint: Checkpoint, dtype: str = "float32") -> TransformersEngine:
    return TransformersEngine(*load_model(checkpoint, dtype))


@pytest.fixture(scope="module")
def anchor(family: Path) -> Checkpoint:
    return open_checkpoint(str(family / "anchor"))


@pytest.fixture(scope="module")
def gauge(anchor: Checkpoint) -> DriftGauge:
    found = DriftGauge(limit=4)
    found.anchor(engine(anchor), anchor)
    return found


def test_items_are_held_out_in_pairs_and_apart_from_what_a_search_asks() -> None:
    items = held_out()
    assert len(items) == 2 * ITEMS
    assert all(item.split == "validation" for item in items)
    assert [item.pair for item in items[::2]] == [item.pair for item in items[1::2]]
    first = {item.id for name in ("refusal", "over_refusal") for item in select(get_suite(name), "validation", 60)}
    assert not first & {item.id for item in items}
    assert {item.id for item in held_out(3)} < {item.id for item in items}


def test_the_anchor_has_not_drifted_and_an_expert_has(gauge: DriftGauge, anchor: Checkpoint, family: Path) -> None:
    still = gauge.measure(engine(anchor), anchor.digest)
    assert still.value == 0.0
    assert (still.finite["low"], still.finite["high"]) == (0.0, 0.0)
    assert (still.linear["absolute"], still.linear["relative"]) == (0.0, 0.0)
    moved = gauge.measure(engine(open_checkpoint(str(family / "expert_a"))), "d")
    assert moved.value is not None
    assert 0 < moved.finite["low"] < moved.value < moved.finite["high"]
    assert 0 < moved.linear["relative"] < 1


def test_linear_drift_is_that_of_the_move_and_quadratic_in_it(
    gauge: DriftGauge, anchor: Checkpoint, family: Path
) -> None:
    expert = open_checkpoint(str(family / "expert_a"))
    whole = gauge.measure(engine(expert), "whole").linear
    half = engine(expert)
    for name, value in half.model.named_parameters():
        value.data = (value.data + anchor.read(name)) / 2
    found = gauge.measure(half, "half").linear
    assert found["absolute"] == pytest.approx(whole["absolute"] / 4, rel=1e-3)
    assert found["relative"] == pytest.approx(whole["relative"], rel=1e-3)


def test_factors_that_do_not_fit_are_made_again_for_every_merge(
    gauge: DriftGauge, anchor: Checkpoint, family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert = engine(open_checkpoint(str(family / "expert_a")))
    kept = gauge.measure(expert, "d").linear
    passes, made = [], directions.factors
    monkeypatch.setattr(directions, "factors", lambda *given: (passes.append(len(given[1].ids)), made(*given))[1])
    monkeypatch.setattr(drift, "FACTOR_BYTES", 200_000)
    streamed = DriftGauge(limit=4)
    streamed.anchor(engine(anchor), anchor)
    assert 1 <= max(passes) < drift.CHUNK
    passes.clear()
    found = streamed.measure(expert, "d").linear
    assert sum(passes) == found["margins"] * 2
    assert found["absolute"] == pytest.approx(kept["absolute"], rel=1e-3)
    assert found["relative"] == pytest.approx(kept["relative"], rel=1e-3)
    assert (found["rank"], found["margins"]) == (kept["rank"], kept["margins"])


def test_rows_at_once_fit_into_what_is_allowed() -> None:
    """The 8 B Llama: at 17 tokens its 48 rows fit no more; 9 rows' gradients of an MLP matrix, twice, still do."""
    sides = [(4096, 4096), (4096, 1024), (4096, 1024), (4096, 4096), (4096, 14336), (4096, 14336), (14336, 4096)]
    with torch.device("meta"):
        layers = [torch.nn.Linear(a, b, dtype=torch.bfloat16) for a, b in sides] * 32
    rows = {size: [Row((1,) * size, (2,), "alignment", 0.0)] * 48 for size in (15, 63, 2000, 50_000)}
    assert [drift._rows_at_once(layers, given) for given in rows.values()] == [16, 9, 1, 1]


def test_a_broken_merge_is_unscored_and_says_why(gauge: DriftGauge, anchor: Checkpoint) -> None:
    broken = engine(anchor)
    with torch.no_grad():
        broken.model.model.layers[0].mlp.down_proj.weight[0, 0] = float("nan")
    found = gauge.measure(broken, "broken")
    assert found.value is None
    assert "not finite" in found.finite["unscored"]
    assert "not finite" in found.linear["unscored"]


def test_an_anchor_that_answers_nothing_leaves_merges_unscored(
    anchor: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, gauge = engine(anchor), DriftGauge(limit=2)
    every = frozenset(range(silent.model.config.vocab_size))
    monkeypatch.setattr(silent, "_ends", every)
    gauge.anchor(silent, anchor)
    found = gauge.measure(engine(anchor), anchor.digest)
    assert found.value is None
    assert "answered 0 of the held-out items" in found.finite["unscored"]
    assert "unscored" in found.linear


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments], standalone_mode=False)


@pytest.fixture(scope="module")
def compared(family: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a comparison of two methods, and what `--json` printed."""
    folder = tmp_path_factory.mktemp("drift")
    (folder / "policy.yaml").write_text(POLICY)
    paths = {"anchor": family / "anchor", "one": family / "expert_a", "two": family / "expert_b"}
    (folder / "recipe.yaml").write_text(RECIPE.format(**paths))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALIGNMERGE_CACHE", str(folder / "cache"))
        what = (folder / "recipe.yaml", "--methods", "task_arithmetic,linear", "--policy", folder / "policy.yaml")
        made = run("compare", *what, "--limit", "2", "-o", folder / "out", "--json")
    assert made.exception is None, repr(made.exception)
    return folder / "out", json.loads(made.stdout)


def test_a_comparison_keeps_and_shows_the_drift_of_every_merge(compared: tuple[Path, dict[str, Any]]) -> None:
    out, shown = compared
    rows = {row["label"]: row for row in shown["merges"]}
    for label in ("task_arithmetic", "linear"):
        kept = json.loads((out / "drifts" / f"{label}.json").read_text())
        assert kept["checkpoint"] == rows[label]["manifest"]
        assert kept["finite_drift"] == rows[label]["finite_drift"]
        assert kept["linear_drift"] == rows[label]["linear_drift"]
        finite = kept["finite_drift"]
        assert (
            f"{finite['value']:.4g} ({finite['low']:.4g} to {finite['high']:.4g})" in (out / "report.html").read_text()
        )
    # The sum of the experts' moves goes further than their mean with the anchor.
    assert rows["task_arithmetic"]["finite_drift"]["value"] > rows["linear"]["finite_drift"]["value"]
    assert "finite_drift" not in (out / "merges" / "linear.json").read_text()
    assert run("verify", out).exception is None


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("checkpoint", "0" * 64, "speaks of checkpoint 000000000000"),
        ("anchor", "0" * 64, "was measured from 000000000000"),
        ("finite_drift", {"value": 0.0, "low": 0.0, "high": 0.0}, "report.html"),
        ("finite_drift", {"value": "none"}, "neither value, low, high nor 'unscored'"),
        ("schema", "alignmerge.drift/9", "schema"),
    ],
)
def test_an_edited_drift_record_is_found(
    compared: tuple[Path, dict[str, Any]], tmp_path: Path, key: str, value: Any, said: str
) -> None:
    shutil.copytree(compared[0], tmp_path / "out")
    path = tmp_path / "out" / "drifts" / "linear.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    found = run("verify", tmp_path / "out")
    assert found.exception is not None
    assert said in found.stderr or said in str(found.exception)


def test_a_run_without_drift_records_is_still_read(compared: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    from alignmerge.reports.model import load_run

    shutil.copytree(compared[0], tmp_path / "out")
    run_json = tmp_path / "out" / "run.json"
    value = json.loads(run_json.read_text())
    for entry in value["entries"]:
        entry.pop("drift", None)
    run_json.write_text(json.dumps(value))
    assert all(entry.drift is None for entry in load_run(tmp_path / "out").entries)
