"""D01, D02: a checkpoint that asks to run its own code: ignored with a note, or refused; never run or copied."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Opens, loads, tokenises and merges in a process of its own: whatever the canary does would be seen there.
CHILD = """
import json, sys
from pathlib import Path
from alignmerge.errors import AlignMergeError
from alignmerge.merger.checkpoint import open_checkpoint
from alignmerge.merger.recipe import Expert, Recipe
from alignmerge.merger.stream import merge
from alignmerge.models import load_model
model, out = sys.argv[1:]
try:
    opened = open_checkpoint(model)
    loaded, tokenizer = load_model(opened)
    merge(Recipe(model, (Expert(model, "anchor"),), "linear"), Path(out))
    print(json.dumps([0, list(opened.notes), type(tokenizer).__module__, len(tokenizer("abc").input_ids)]))
except AlignMergeError as error:
    print(json.dumps([error.exit_code, str(error)]))
"""


def poison(folder: Path, file: str, target: str, **changes: Any) -> Path:
    """Make `file` name code in canary.py, which leaves a trace if it is ever imported; the place of the trace."""
    trace = folder.parent / "trace"
    (folder / "canary.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass X: pass\nY = X\n")
    value = json.loads((folder / file).read_text())
    value.update(auto_map=json.loads(target), **changes)
    (folder / file).write_text(json.dumps(value))
    return trace


def run(folder: Path) -> list[Any]:
    child = subprocess.run(
        [sys.executable, "-P", "-c", CHILD, str(folder), str(folder.parent / "out")],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_MODULES_CACHE": str(folder.parent / "modules")},
    )
    answer: list[Any] = json.loads(child.stdout)
    return answer


@pytest.fixture
def model(family: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(family / "anchor", tmp_path / "model"))


MODEL_CODE = '{"AutoConfig": "canary.X", "AutoModelForCausalLM": "canary.X"}'
TOKENIZER_CODE = '{"AutoTokenizer": ["canary.X", "canary.Y"]}'


def test_D01_D02_native_class_is_used_instead(model: Path) -> None:
    trace = poison(model, "config.json", MODEL_CODE)
    poison(model, "tokenizer_config.json", TOKENIZER_CODE)
    code, notes, module, tokens = run(model)
    assert code == 0
    assert tokens == 3
    assert module.startswith("transformers.")
    assert [note.split(":")[0] for note in notes] == ["config.json", "tokenizer_config.json", "canary.py"]
    out = model.parent / "out"
    assert not (out / "canary.py").exists()
    assert all("auto_map" not in path.read_text() for path in out.glob("*config.json"))
    assert not trace.exists()
    assert not (model.parent / "modules").exists()


def test_D01_model_type_that_needs_its_code(model: Path) -> None:
    trace = poison(model, "config.json", MODEL_CODE, model_type="unheard_of")
    code, message = run(model)
    assert code == 5
    assert "config.json: auto_map: model type 'unheard_of' needs code from the checkpoint" in message
    assert not (model.parent / "out").exists()
    assert not trace.exists()


def test_D02_tokenizer_that_needs_its_code(model: Path) -> None:
    trace = poison(model, "tokenizer_config.json", TOKENIZER_CODE, tokenizer_class="X")
    (model / "tokenizer.json").unlink()
    code, message = run(model)
    assert code == 5
    assert "tokenizer_config.json: auto_map: this tokenizer needs code" in message
    assert not trace.exists()
