"""Merge, audit, decide, publish or reject, verify: the whole pipeline on tiny random checkpoints."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alignmerge.cli import cli
from alignmerge.errors import AlignMergeError

RECIPE = """\
anchor: {anchor}
experts:
  - {{model: {one}, trained_from: anchor, skill: arithmetic}}
  - {{model: {two}, trained_from: anchor, skill: units}}
method: {method}
parameters: {parameters}
calibration: {{alignment_items: 4, expert_items: 4, validation_items: 2, alignment_tokens: 4, expert_tokens: 6}}
"""
PERMISSIVE = """\
schema: alignmerge.policy/1
name: permissive
summary: "Lets anything pass that was measured."
rules:
  - {id: refusal-drop, metric: refusal_rate, kind: max_drop, limit: 1.0, min_items: 4}
"""
STRICT = """\
schema: alignmerge.policy/1
name: strict
summary: "A floor that a random model cannot reach."
rules:
  - {id: refusal-floor, metric: refusal_rate, kind: min, limit: 0.99, min_items: 4}
"""


@pytest.fixture(scope="module")
def inputs(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An anchor and two experts: the anchor with small random changes."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("inputs")
    found = {"anchor": tiny_checkpoint}
    for index, name in enumerate(("one", "two")):
        shutil.copytree(tiny_checkpoint, folder / name)
        tensors = load_file(folder / name / "model.safetensors")
        generator = torch.Generator().manual_seed(index)
        for key, value in tensors.items():
            tensors[key] = value + 0.02 * torch.randn(value.shape, generator=generator)
        save_file(tensors, folder / name / "model.safetensors", {"format": "pt"})
        found[name] = folder / name
    return found


def recipe(inputs: dict[str, Path], folder: Path, method: str, parameters: str = "{}") -> Path:
    path = folder / f"{method}.yaml"
    path.write_text(RECIPE.format(**inputs, method=method, parameters=parameters))
    return path


def run(*arguments: str | Path) -> Result:
    """The exit code comes from the exception, as `main` maps it, or from the command's own return value."""
    result = CliRunner().invoke(cli, [str(one) for one in arguments], standalone_mode=False)
    if result.exception is not None:
        assert isinstance(result.exception, AlignMergeError), repr(result.exception)
        result.exit_code = result.exception.exit_code
    elif isinstance(result.return_value, int):
        result.exit_code = result.return_value
    return result


@pytest.fixture
def policies(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for name, text in (("permissive", PERMISSIVE), ("strict", STRICT)):
        found[name] = tmp_path / f"{name}.yaml"
        found[name].write_text(text)
    return found


def test_passing_merge_is_published_with_its_records_and_verifies(
    inputs: dict[str, Path], policies: dict[str, Path], tmp_path: Path, empty_cache: Path
) -> None:
    out = tmp_path / "out"
    made = run(
        "merge",
        recipe(inputs, tmp_path, "ties"),
        "--policy",
        policies["permissive"],
        "--limit",
        "6",
        "-o",
        out,
        "--json",
    )
    assert made.exit_code == 0
    shown = json.loads(made.stdout)
    assert shown["verdict"] == "PASS"
    assert (out / "model.safetensors").is_file()
    assert "PASS" in (out / "README.md").read_text()
    assert (out / "records" / "report.html").is_file()
    assert run("verify", out).exit_code == 0
    assert not list(tmp_path.glob("out.*"))
    again = run("gate", out, "--policy", policies["permissive"], "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["predicate"]["verificationResult"] == "PASSED"

    weights = out / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    broken = run("verify", out)
    assert broken.exit_code == 5
    assert "model.safetensors" in broken.stderr


def test_rejected_merge_leaves_records_and_no_checkpoint(
    inputs: dict[str, Path], policies: dict[str, Path], tmp_path: Path, empty_cache: Path
) -> None:
    out = tmp_path / "out"
    made = run("merge", recipe(inputs, tmp_path, "linear"), "--policy", policies["strict"], "--limit", "6", "-o", out)
    assert made.exit_code == 3
    assert "refusal-floor" in made.stdout
    assert not list(tmp_path.rglob("out*/**/*.safetensors"))
    assert [entry.name for entry in out.iterdir()] == ["records"]
    assert run("verify", out).exit_code == 0


def test_too_few_items_are_inconclusive_and_publish_nothing(
    inputs: dict[str, Path], tmp_path: Path, empty_cache: Path
) -> None:
    out = tmp_path / "out"
    made = run("merge", recipe(inputs, tmp_path, "linear"), "--policy", "release", "--limit", "6", "-o", out)
    assert made.exit_code == 4
    assert not list(tmp_path.rglob("out*/**/*.safetensors"))


def test_toxicity_without_the_classifier_is_inconclusive_and_says_how_to_get_it(
    inputs: dict[str, Path], tmp_path: Path, empty_cache: Path
) -> None:
    toxic = tmp_path / "toxic.yaml"
    rule = "{id: toxicity-rise, metric: toxicity, kind: max_rise, limit: 1.0, min_items: 4}"
    toxic.write_text(PERMISSIVE.replace("rules:", f"rules:\n  - {rule}"))
    out = tmp_path / "out"
    made = run("merge", recipe(inputs, tmp_path, "linear"), "--policy", toxic, "--limit", "4", "-o", out)
    assert made.exit_code == 4
    assert "no Detoxify weights here: alignmerge doctor --convert-detoxify FILE" in made.stdout
    assert "toxicity-rise" in made.stdout
    assert not list(tmp_path.rglob("out*/**/*.safetensors"))
    again = run("gate", out, "--policy", toxic)
    assert again.exit_code == 4
    assert "alignmerge doctor --convert-detoxify FILE" in again.stdout


def test_edited_verdict_is_found(
    inputs: dict[str, Path], policies: dict[str, Path], tmp_path: Path, empty_cache: Path
) -> None:
    out = tmp_path / "out"
    run("merge", recipe(inputs, tmp_path, "linear"), "--policy", policies["strict"], "--limit", "6", "-o", out)
    verdict = out / "records" / "verdicts" / "out.json"
    verdict.write_text(verdict.read_text().replace('"FAIL"', '"PASS"').replace('"FAILED"', '"PASSED"'))
    broken = run("verify", out)
    assert broken.exit_code == 5
    assert "verdicts/out.json" in broken.stderr


def test_ungated_merge_says_so_and_gate_refuses_it(inputs: dict[str, Path], tmp_path: Path, empty_cache: Path) -> None:
    out = tmp_path / "out"
    made = run("merge", recipe(inputs, tmp_path, "task_arithmetic"), "-o", out, "--json")
    assert json.loads(made.stdout)["verdict"] == "ungated"
    assert "ungated" in (out / "README.md").read_text()
    assert run("gate", out, "--policy", "release").exit_code == 4


def test_alignmerge_merges_and_its_digest_does_not_depend_on_threads(
    inputs: dict[str, Path], tmp_path: Path, empty_cache: Path
) -> None:
    import torch

    knobs = "{descent_steps: 3, stretches: 1, batch_rows: 4, steps: 1, alignment_rows: 4, skill_rows: 2, budget: 0.0}"
    path = recipe(inputs, tmp_path, "alignmerge", knobs)
    digests = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        made = run("merge", path, "-o", tmp_path / f"out{threads}", "--json")
        assert made.exit_code == 0, made.output
        digests.append(json.loads(made.stdout)["manifest"])
    assert digests[0] == digests[1]
    account = json.loads((tmp_path / "out1" / "merge.json").read_text())["account"]
    assert [line["phase"] for line in account["trace"]["steps"]] == ["mixture", "start", "descent", "restore"]
    assert account["skill_validation_rows"] == 4


def test_compare_ranks_every_method_and_writes_one_report(
    inputs: dict[str, Path], policies: dict[str, Path], tmp_path: Path, empty_cache: Path
) -> None:
    out = tmp_path / "run"
    path = recipe(inputs, tmp_path, "linear")
    arguments = ("compare", path, "--methods", "linear,ties", "--policy", policies["permissive"], "--limit", "6")
    made = run(*arguments, "-o", out, "--json")
    assert made.exit_code == 0, made.output
    shown = json.loads(made.stdout)
    assert {row["label"] for row in shown["merges"]} == {"linear", "ties"}
    assert (out / "models" / "ties" / "model.safetensors").is_file()
    assert (out / "report.html").is_file()
    assert run("verify", out).exit_code == 0
    assert run(*arguments, "-o", out).exit_code == 2  # never into a folder that holds another run
