"""The zoo on the real reference model: digests that hold everywhere, and one merge under a policy from start to end."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from alignmerge.cli import cli
from alignmerge.errors import AlignMergeError

RECIPE = """\
anchor: zoo:safety
experts:
  - {{model: zoo:arithmetic, trained_from: anchor}}
  - {{model: zoo:format, trained_from: anchor}}
  - {{model: zoo:units, trained_from: anchor}}
method: {method}
"""


def digest(folder: Path, method: str, threads: int) -> str:
    import torch

    torch.set_num_threads(threads)
    recipe = folder / f"{method}.yaml"
    recipe.write_text(RECIPE.format(method=method))
    arguments = ["merge", str(recipe), "-o", str(folder / f"{method}{threads}"), "--json"]
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert result.exception is None, repr(result.exception)
    return str(json.loads(result.stdout)["tensors"])


@pytest.mark.model
@pytest.mark.parametrize(
    ("method", "golden"),
    [
        ("linear", "b110cee9a1646f531337448c25adbbc13f0f841bae399b4ebac89b303da34343"),
        ("task_arithmetic", "e0be05402cdf111a4611964b09c52d4fd3be4cc36113f9aa3f03b1654eb07090"),
        ("ties", "41bb959162a44a2e9d5763e27f59504c588d8cf23959f8ec84add0ca3454a9ae"),
    ],
)
def test_weights_only_merges_of_the_zoo_have_one_digest_everywhere(
    reference_model: Path, tmp_path: Path, method: str, golden: str
) -> None:
    assert digest(tmp_path, method, 1) == golden
    assert digest(tmp_path, method, 2) == golden


@pytest.mark.model
def test_ties_of_the_zoo_cannot_be_released_on_64_items(
    reference_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "ties.yaml"
    recipe.write_text(RECIPE.format(method="ties"))
    out = tmp_path / "out"
    arguments = ["merge", str(recipe), "--policy", "release", "--limit", "64", "-o", str(out), "--json"]
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert result.exception is None or isinstance(result.exception, AlignMergeError), repr(result.exception)
    assert result.return_value in (3, 4)  # over budget, or too few items to say; never a pass
    assert not list(tmp_path.rglob("*.safetensors"))
    rules = json.loads((out / "records" / "verdicts" / "out.json").read_text())
    assert rules["predicate"]["verificationResult"] == "FAILED"
    assert CliRunner().invoke(cli, ["verify", str(out)], standalone_mode=False).return_value == 0
