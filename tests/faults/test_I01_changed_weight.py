"""I01: one weight byte changed, same path, same name: no stored answer of the old weights may be used."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from alignmerge.auditor.audit import audit
from alignmerge.auditor.engines.base import Answer, Sampling
from alignmerge.auditor.engines.transformers_engine import TransformersEngine
from alignmerge.auditor.store import CompletionStore
from alignmerge.suites.model import Item, Split, Suite


def _items(split: Split) -> tuple[Item, ...]:
    return tuple(Item(f"{n}", f"Count to {n}.", "f", "c", split, reference={"answer": str(n)}) for n in range(6))


SUITE = Suite("arithmetic", "1", "counting", _items, ("arithmetic_accuracy",), 4)


class Counting(TransformersEngine):
    """The engine, remembering which prompts it was asked."""

    asked: list[str]

    def stream(self, prompts: Sequence[str], sampling: Sampling, *, states: bool = False) -> Iterator[Answer]:
        self.asked = list(prompts)
        return super().stream(prompts, sampling, states=states)


def _asked(folder: Path, store: CompletionStore) -> list[str]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    engine = Counting(model, AutoTokenizer.from_pretrained(folder))
    engine.asked = []
    audit(engine, checkpoint=digest, name="same name", suites=[SUITE], store=store)
    return engine.asked


def test_I01_one_changed_byte_means_asking_again(tiny_checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    with CompletionStore(tmp_path / "answers.sqlite") as store:
        assert len(_asked(folder, store)) == 6
        assert _asked(folder, store) == []
        weights = bytearray((folder / "model.safetensors").read_bytes())
        weights[-4] ^= 1
        (folder / "model.safetensors").write_bytes(weights)
        assert len(_asked(folder, store)) == 6
