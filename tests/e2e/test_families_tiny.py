"""Every model family from its chat template to its blame: one merge gated against a base, and who spent its drift."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alignmerge import jsonio
from alignmerge.cli import cli
from tests.conftest import byte_tokenizer
from tests.unit.merger.families import LAYERS, write_family

RECIPE = """\
anchor: {root}/anchor
base: {root}/base
experts:
  - {{model: {root}/expert_a, trained_from: anchor, skill: arithmetic}}
  - {{model: {root}/expert_b, trained_from: anchor, skill: units}}
method: alignmerge
parameters: {{functional: aqi, budget: 0.0, descent_steps: 2, stretches: 1, batch_rows: 4, steps: 1, threads: 1}}
calibration: {{alignment_items: 10, expert_items: 2, validation_items: 8, alignment_tokens: 2, expert_tokens: 2}}
"""


def run(*arguments: str | Path) -> Result:
    found = CliRunner().invoke(cli, [str(one) for one in arguments], standalone_mode=False)
    assert found.exception is None, repr(found.exception)
    return found


@pytest.mark.parametrize("family", ["mistral", "qwen2", "phi3", "gemma2"])
def test_a_family_is_merged_gated_and_blamed(family: str, tmp_path: Path, empty_cache: Path) -> None:
    write_family(family, tmp_path, byte_tokenizer())
    source = tmp_path / "recipe.yaml"
    source.write_text(RECIPE.format(root=tmp_path))
    run("merge", source, "-o", tmp_path / "out")
    account = jsonio.read(tmp_path / "out" / "merge.json")["account"]
    aqi = account["validity"]["tried"][0]
    assert aqi["name"] == "aqi" and len(aqi["values"]) == 3  # its states were read in three models
    assert account["rows"] >= 20 and account["skill_validation_rows"] > 0
    assert [line["phase"] for line in account["trace"]["steps"]][:3] == ["mixture", "start", "descent"]
    few = ("--items", "2", "--points", "2", "--json")
    blame = json.loads(run("blame", source, "--merge", tmp_path / "out", *few).stdout)
    assert blame["finite"]["finite_drift"] > 0
    assert {cell["layer"] for cell in blame["finite"]["cells"]} == {*range(LAYERS), None}
    assert {cell["contributor"] for cell in blame["finite"]["cells"]} == {"expert_a", "expert_b", "method"}
    assert blame["linear"]["linear_drift"] > 0
