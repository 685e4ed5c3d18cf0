"""E01: SIGKILL anywhere in a merge. Nothing lies under the final name, and a resume ends in the same bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from alignmerge.merger.recipe import Expert, Recipe
from alignmerge.merger.stream import merge
from alignmerge.provenance.manifest import verify

ROOT = Path(__file__).resolve().parents[2]

# One process imports torch and forks a merge per kill point. A merge kills itself with a real SIGKILL before its k-th
# step on disk (open, write, fsync, rename, remove), so that every gap between two steps can be hit, and hit again.
CHILD = """
import json, os, random, signal, sys
from pathlib import Path
import torch
from alignmerge.merger.recipe import Expert, Recipe
from alignmerge.merger.stream import merge

torch.set_num_threads(1)
family, work, points = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
experts = tuple(Expert(str(family / name), "anchor") for name in ("expert_a", "expert_b"))
recipe = Recipe(str(family / "anchor"), experts, "ties")
steps, limit = 0, None

def step():
    global steps
    steps += 1
    if steps == limit:
        os.kill(os.getpid(), signal.SIGKILL)

def hook(event, arguments):
    if event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir") and str(work) in str(arguments[0]):
        step()

sys.addaudithook(hook)
for name in ("write", "fsync", "posix_fallocate"):
    def wrapped(*arguments, original=getattr(os, name)):
        step()
        return original(*arguments)
    setattr(os, name, wrapped)

def run(out, kill_at):
    global steps, limit
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        steps, limit = 0, kill_at
        merge(recipe, out, shard_bytes=30_000)
        (out.parent / "steps").write_text(str(steps))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def digest(out):
    return json.loads((out / "manifest.json").read_text())["digest"]

assert run(work / "whole", None) == 0
total = int((work / "steps").read_text())
rows = []
for number, kill_at in enumerate(sorted(random.Random(0).sample(range(1, total + 1), points))):
    out = work / f"out{number}"
    code = run(out, kill_at)
    published = (out / "manifest.json").exists()
    there = out.exists()
    again = 0
    while not (out / "manifest.json").exists():   # killed again a little later, until it gets through
        again += 1
        code2 = run(out, None if again > 2 else kill_at // 2 + 25 * again)
        assert code2 in (0, -9), code2
    rows.append([kill_at, code, there, published, digest(out)])
print(json.dumps({"whole": digest(work / "whole"), "total": total, "rows": rows}))
"""


def test_E01_kill_at_twenty_points_and_resume(family: Path, tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-P", "-c", CHILD, str(family), str(tmp_path), "20"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert child.returncode == 0, child.stderr
    seen = json.loads(child.stdout)
    assert seen["total"] > 60
    assert len(seen["rows"]) == 20
    for kill_at, code, there, published, digest in seen["rows"]:
        assert code == -9, kill_at
        assert there == published, kill_at  # under the final name: everything or nothing
        assert digest == seen["whole"], kill_at
    assert sum(not published for *_, published, _ in seen["rows"]) >= 15
    for number in range(20):
        assert verify(tmp_path / f"out{number}") == []


def test_E01_uninterrupted_merge_elsewhere_has_the_same_digest(family: Path, tmp_path: Path) -> None:
    experts = tuple(Expert(str(family / name), "anchor") for name in ("expert_a", "expert_b"))
    first = merge(Recipe(str(family / "anchor"), experts, "ties"), tmp_path / "a" / "one")
    second = merge(Recipe(str(family / "anchor"), experts, "ties"), tmp_path / "b" / "two")
    assert first.manifest.digest == second.manifest.digest
