"""Tasks of lm-eval asked of a checkpoint: run as a child process, its results read as evidence of our own run."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alignmerge import jsonio
from alignmerge.auditor.imported.evidence import Directions, Imported
from alignmerge.auditor.imported.files import read_files
from alignmerge.devices import device
from alignmerge.environment import for_child
from alignmerge.errors import StorageError, UsageError
from alignmerge.pipeline.harness_child import NOT_POSSIBLE
from alignmerge.progress import say
from alignmerge.terminal import printable

if TYPE_CHECKING:
    from alignmerge.merger.checkpoint import Checkpoint
    from alignmerge.pipeline.audit_plan import AuditPlan

_TAIL = 800
_PATIENCE = 10.0  # seconds to end by itself


@dataclass(frozen=True)
class Harness:
    """Tasks by name. include: a folder of task files of your own, which may run code. python: where lm-eval is."""

    tasks: tuple[str, ...]
    include: Path | None = None
    python: str | None = None


def run(harness: Harness, checkpoint: "Checkpoint", plan: "AuditPlan") -> list[Imported]:
    """The tasks' results on these weights, with the plan's dtype, limit, batch size and seed.

    Raises:
        UsageError: lm-eval is not installed, or does not know a task.
        StorageError: it failed, or the disk did; the message ends with its last lines.
        RecordError: its files cannot be read as evidence.
    """
    with tempfile.TemporaryDirectory(prefix="alignmerge-harness-") as name:
        folder = Path(name)
        _write(checkpoint, folder / "model", plan.dtype)
        request = {
            "model": str(folder / "model"),
            "dtype": plan.dtype,
            "tasks": list(harness.tasks),
            "include": None if harness.include is None else str(harness.include.resolve()),
            "limit": plan.limit,
            "batch_size": plan.batch_size,
            "device": device(),
            "seed": plan.seed,
            "output": str(folder / "results"),
        }
        jsonio.write(folder / "request.json", request)
        say(f"lm-eval: {printable(', '.join(harness.tasks))}")
        script = Path(__file__).with_name("harness_child.py")
        _child([harness.python or sys.executable, "-P", str(script), str(folder / "request.json")], folder)
        found = [*(folder / "results").rglob("results_*.json"), *(folder / "results").rglob("samples_*.jsonl")]
        return read_files(sorted(found), Directions())


def _write(checkpoint: "Checkpoint", folder: Path, dtype: str) -> None:
    """The checkpoint as one plain model, as lm-eval wants it; adapters and GGUF files are written out."""
    from alignmerge.models import load_model

    model, tokenizer = load_model(checkpoint, dtype, on="cpu")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _child(command: Sequence[str], folder: Path) -> None:
    log = folder / "log.txt"
    with log.open("wb") as handle:
        try:
            given = for_child(
                os.environ, "PYTHONPATH", "HF_DATASETS_CACHE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"
            )
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=handle, stderr=subprocess.STDOUT, cwd=folder, env=given
            )
        except OSError as error:
            raise UsageError(f"--harness-python {command[0]}: cannot be started: {error.strerror}") from None
        try:
            code = child.wait()
        except BaseException:
            _end(child)
            raise
    if code:
        tail = printable(log.read_text(encoding="utf-8", errors="replace").strip()[-_TAIL:])
        if code == NOT_POSSIBLE:
            raise UsageError(f"--harness: {tail.splitlines()[-1]}")
        raise StorageError(f"lm-eval ended with code {code}: {tail}")


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
