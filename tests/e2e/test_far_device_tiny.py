"""The whole command with models on another device than the main memory: every method that asks a model, and audits."""

import json
from pathlib import Path

import pytest

from alignmerge import devices
from tests.e2e.test_data_aware_tiny import POLICY, RECIPE, inputs, run
from tests.far_device import FAR, far

__all__ = ["inputs"]  # the fixture
METHODS = ("alignmerge", "repair_finetune", "alignment_shield", "fisher", "regmean", "led")


def test_merges_and_audits_there(
    inputs: dict[str, Path], tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, policy, out = tmp_path / "recipe.yaml", tmp_path / "policy.yaml", tmp_path / "run"
    recipe.write_text(RECIPE.format(**inputs, method="alignmerge") + f"unaligned: {inputs['one']}\n")
    policy.write_text(POLICY)
    monkeypatch.setattr(devices, "device", lambda: str(FAR))
    with far():
        run("compare", recipe, "--methods", ",".join(METHODS), "--policy", policy, "--limit", "6", "-o", out, "--json")
    for name in METHODS:
        assert (out / "models" / name / "model.safetensors").is_file(), name
        record = json.loads((out / "models" / name / "merge.json").read_text())
        assert record["versions"]["device"] == "meta"
    with far():
        run("blame", recipe, "--merge", out / "models" / "alignmerge", "--json")
    audits = list(out.rglob("audit*.json"))
    assert audits and all(json.loads(path.read_text())["engine"]["device"] == "meta" for path in audits)
