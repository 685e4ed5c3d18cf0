"""I04: an audit killed by SIGKILL goes on where it stopped, and ends with the scores of an unbroken one."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from alignmerge.auditor.ask import COMMIT_EVERY
from alignmerge.auditor.audit import audit
from alignmerge.auditor.engines.base import Answer, Sampling
from alignmerge.auditor.engines.transformers_engine import TransformersEngine
from alignmerge.auditor.record import AuditRecord
from alignmerge.auditor.store import CompletionStore
from alignmerge.suites.registry import SUITES

ROOT = Path(__file__).resolve().parents[2]
ITEMS, KILLED_AFTER = 60, 40


class Counting(TransformersEngine):
    """The engine, counting the prompts it was given."""

    asked = 0

    def stream(self, prompts: Sequence[str], sampling: Sampling, *, states: bool = False) -> Iterator[Answer]:
        self.asked += len(prompts)
        return super().stream(prompts, sampling, states=states)


def run(folder: Path, store: Path | None, progress: Callable[[int], None] | None = None) -> tuple[AuditRecord, int]:
    """The record of an audit of the tiny model, and how many prompts the model was really asked."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    engine = Counting(model, AutoTokenizer.from_pretrained(folder), batch_size=8)
    suite, opened = SUITES["arithmetic"], CompletionStore(store) if store else None
    found = audit(engine, checkpoint="a", name="n", suites=[suite], limit=ITEMS, store=opened, progress=progress)
    if opened:
        opened.close()
    return found, engine.asked


def run_and_die(folder: Path, store: Path) -> None:
    """Audit until KILLED_AFTER answers have come, then die as a power cut would have it."""
    answers = 0

    def progress(count: int) -> None:
        nonlocal answers
        answers += count
        if answers >= KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)

    run(folder, store, progress)


def test_I04_a_killed_audit_resumes(tiny_checkpoint: Path, tmp_path: Path) -> None:
    store = tmp_path / "answers.sqlite"
    code = "import runpy, sys, pathlib; runpy.run_path(sys.argv[1])['run_and_die'](*map(pathlib.Path, sys.argv[2:]))"
    command = [sys.executable, "-c", code, __file__, str(tiny_checkpoint), str(store)]
    child = subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
    assert child.returncode == -signal.SIGKILL, child.stderr[-2000:]
    resumed, asked = run(tiny_checkpoint, store)
    assert asked == ITEMS - KILLED_AFTER // COMMIT_EVERY * COMMIT_EVERY
    whole, everything = run(tiny_checkpoint, None)
    assert everything == ITEMS
    assert resumed.items == whole.items
    assert resumed.metrics == whole.metrics
