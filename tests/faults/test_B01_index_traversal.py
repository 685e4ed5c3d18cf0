"""B01: an index that points out of its folder. The target must not even be opened."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]

CHILD = """
import json, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from alignmerge.errors import AlignMergeError
from alignmerge.merger.checkpoint import open_checkpoint
try:
    open_checkpoint(sys.argv[1])
    result = [0, "opened"]
except AlignMergeError as error:
    result = [error.exit_code, str(error)]
print(json.dumps({"result": result, "opened": opened}))
"""


@pytest.mark.parametrize("link", [False, True])
def test_B01_index_points_out_of_the_folder(tmp_path: Path, link: bool) -> None:
    outside = tmp_path / "x.safetensors"
    save_file({"secret": torch.zeros(2)}, outside)
    model = tmp_path / "a" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text('{"model_type": "llama"}')
    name = "inside.safetensors" if link else "../../x.safetensors"
    if link:
        (model / name).symlink_to(outside)
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"secret": name}}))
    child = subprocess.run(
        [sys.executable, "-P", "-c", CHILD, str(model)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    seen = json.loads(child.stdout)
    assert seen["result"][0] == 5
    assert ("link out of the checkpoint's folder" if link else "weight_map['secret'] is '../../x.safetensors'") in seen[
        "result"
    ][1]
    assert str(model / "model.safetensors.index.json") in seen["opened"]  # the hook does see what is opened
    assert [path for path in seen["opened"] if Path(path).name in ("x.safetensors", "inside.safetensors")] == []
