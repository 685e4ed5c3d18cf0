"""I01: one weight byte changed, same path, same name: no stored answer of the old weights may be used."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from alignmerge.auditor import record
from alignmerge.auditor.engines.base import Answer, Sampling
from alignmerge.auditor.engines.transformers_engine import TransformersEngine
from alignmerge.cli import main

ITEMS = 3


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every prompt that a model, and not the store, answers from here on."""
    prompts: list[str] = []
    real = TransformersEngine.stream

    def stream(
        self: TransformersEngine, given: Sequence[str], sampling: Sampling, *, states: bool = False
    ) -> Iterator[Answer]:
        prompts.extend(given)
        return real(self, given, sampling, states=states)

    monkeypatch.setattr(TransformersEngine, "stream", stream)
    return prompts


def _audit(model: Path, out: Path) -> record.AuditRecord:
    with pytest.raises(SystemExit) as exit_:
        main(["audit", str(model), "--suite", "arithmetic", "--limit", str(ITEMS), "-o", str(out)])
    assert exit_.value.code == 0
    return record.load(out)


def test_I01_one_changed_byte_means_asking_again(
    tiny_checkpoint: Path, tmp_path: Path, empty_cache: Path, asked: list[str]
) -> None:
    model = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
    first = _audit(model, tmp_path / "first")
    assert len(asked) == ITEMS
    assert _audit(model, tmp_path / "second").checkpoint == first.checkpoint
    assert len(asked) == ITEMS

    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-4] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    changed = _audit(model, tmp_path / "third")
    assert len(asked) == 2 * ITEMS
    assert changed.name == first.name
    assert changed.checkpoint != first.checkpoint


def test_I01_a_changed_tokenizer_means_asking_again_too(
    tiny_checkpoint: Path, tmp_path: Path, empty_cache: Path, asked: list[str]
) -> None:
    model = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
    first = _audit(model, tmp_path / "first")
    text = (model / "tokenizer.json").read_text()
    (model / "tokenizer.json").write_text(text + "\n")
    changed = _audit(model, tmp_path / "second")
    assert len(asked) == 2 * ITEMS
    assert changed.checkpoint != first.checkpoint
