"""K01: one byte of a finished merge changed, in any of its files. `alignmerge verify` exits 5 and names the file."""

import json
from pathlib import Path

import pytest

from alignmerge.cli import main
from alignmerge.errors import InputRejected
from alignmerge.merger.recipe import Expert, Recipe
from alignmerge.merger.stream import merge
from alignmerge.provenance.manifest import read, verify

POLICY = """\
schema: alignmerge.policy/1
name: permissive
summary: "Lets anything pass that was measured."
rules:
  - {id: refusal-drop, metric: refusal_rate, kind: max_drop, limit: 1.0, min_items: 4}
"""


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def command(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(one) for one in arguments])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


@pytest.fixture(scope="module")
def published(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merge that its policy let pass, with its records. A test that changes a file puts it back."""
    folder = tmp_path_factory.mktemp("published")
    recipe = {
        "anchor": str(family / "anchor"),
        "experts": [{"model": str(family / "expert_a"), "trained_from": "anchor"}],
        "method": "linear",
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "cache").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALIGNMERGE_CACHE", str(folder / "cache"))
        arguments = ("--policy", folder / "policy.yaml", "--limit", "4", "-o", folder / "out")
        assert command("merge", folder / "recipe.yaml", *arguments) == 0
    return folder / "out"


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("config.json", "config.json"),
        ("tokenizer.json", "tokenizer.json"),
        ("tokenizer_config.json", "tokenizer_config.json"),
        ("model.safetensors", "model.safetensors"),
        ("README.md", "README.md"),
        ("merge.json", "merge.json"),
        ("records/run.json", "run.json"),
        ("records/policy.yaml", "policy.yaml"),
        ("records/report.html", "report.html"),
        ("records/verdicts/out.json", "verdicts/out.json"),
        ("records/merges/out.json", "merges/out.json"),
        ("records/audits/out/audit.json", "audits/out"),
        ("records/audits/out/items.jsonl", "audits/out"),
        ("records/audits/anchor/audit.json", "audits/anchor"),
        ("records/audits/anchor/items.jsonl", "audits/anchor"),
    ],
)
def test_K01_flipped_byte_of_a_published_merge_is_named(
    published: Path, name: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = published / name
    size = path.stat().st_size
    for position in (0, size // 3, size - 2):
        flip(path, position)
        code = command("verify", published)
        shown = capsys.readouterr().err
        flip(path, position)
        assert code == 5, position
        assert named in shown, position


def test_K01_the_untouched_merge_holds(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("verify", published) == 0
    assert "out: PASS" in capsys.readouterr().out


def test_K01_flipped_byte_is_found_and_named(family: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    recipe = Recipe(str(family / "anchor"), (Expert(str(family / "expert_a"), "anchor"),), "linear")
    merge(recipe, out, shard_bytes=30_000)
    names = [entry.path for entry in read(out).files]
    assert {"config.json", "tokenizer.json", "model.safetensors.index.json"} < set(names)
    for name in names:
        for position in (0, (out / name).stat().st_size // 2, -1):
            flip(out / name, position)
            assert [str(difference) for difference in verify(out)] == [f"changed: {name}"]
            flip(out / name, position)
    assert verify(out) == []


def test_K01_flipped_byte_in_the_manifest_itself(family: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    merge(Recipe(str(family / "anchor"), (Expert(str(family / "expert_a"), "anchor"),), "linear"), out)
    text = (out / "manifest.json").read_bytes()
    for position in range(0, len(text), 7):
        flip(out / "manifest.json", position)
        if text[position : position + 1].isspace():
            flip(out / "manifest.json", position)
            continue
        with pytest.raises(InputRejected) as caught:
            read(out)
        assert caught.value.exit_code == 5
        flip(out / "manifest.json", position)
    assert (out / "manifest.json").read_bytes() == text
