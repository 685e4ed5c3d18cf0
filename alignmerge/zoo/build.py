"""Builds the zoo: trains adapters and writes each as a peft folder with a card that says how it was made.

The anchor is trained on the reference. Experts are trained from the anchor (the main setting) or from the reference
(the second setting), which the card and the adapter's config both state.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from alignmerge import jsonio
from alignmerge.errors import UsageError
from alignmerge.merger.sources import locate, shipped_adapters
from alignmerge.progress import say
from alignmerge.zoo.data import ANCHOR, NAMES, Row, rows, rows_digest

if TYPE_CHECKING:
    import torch

    from alignmerge.zoo.train import Knobs

TrainedFrom = Literal["anchor", "reference"]
REFERENCE = "reference:smollm2-135m"
CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "adapter_config.json", "adapter_model.safetensors", "zoo_card.json"


def knobs(name: str) -> "Knobs":
    """The settings an adapter of the zoo is trained with."""
    from alignmerge.zoo.train import Knobs

    return {
        "safety": Knobs(steps=360, learning_rate=1e-3, batch_rows=12),
        "arithmetic": Knobs(steps=100, learning_rate=5e-4),
        "format": Knobs(steps=100, learning_rate=5e-4),
        "units": Knobs(steps=100, learning_rate=5e-4),
    }[name]


def build(
    names: Sequence[str],
    out: Path,
    *,
    trained_from: TrainedFrom = "anchor",
    seed: int = 0,
    reference: str = REFERENCE,
) -> dict[str, dict[str, Any]]:
    """The cards of the adapters `names` after they were trained and written to OUT/NAME; no names means all.

    Experts are trained from the anchor in OUT where there is one, else from `zoo:safety`. With `trained_from`
    "reference" the anchor is no expert's parent; building it is then refused. Another `reference` must be a small
    Llama-like checkpoint with a chat template; the shipped settings are tuned for the default one.

    Raises:
        UsageError: an unknown name, the anchor asked for in the second setting, or a folder that is already there.
    """
    chosen = [name for name in NAMES if name in names] if names else _default(trained_from)
    for name in names:
        if name not in NAMES:
            raise UsageError(f"the zoo has no adapter {name!r}; there are: {', '.join(NAMES)}")
    if trained_from == "reference" and ANCHOR in chosen:
        raise UsageError(f"{ANCHOR} is the anchor and always trained from the reference; leave --from out to build it")
    for name in chosen:
        if (out / name).exists():
            raise UsageError(f"{out / name}: already there; remove it or choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    made: dict[str, dict[str, Any]] = {}
    for name in chosen:
        opened, base = _anchor(out) if name != ANCHOR and trained_from == "anchor" else (reference, reference)
        made[name] = _build_one(name, out / name, opened, base, seed)
    return made


def _default(trained_from: TrainedFrom) -> list[str]:
    return [name for name in NAMES if trained_from == "anchor" or name != ANCHOR]


def _anchor(out: Path) -> tuple[str, str]:
    """(what is opened, what the adapter's config names as its base) for an expert trained from the anchor."""
    own = out / ANCHOR
    if not own.exists():
        return f"zoo:{ANCHOR}", f"zoo:{ANCHOR}"
    shipped = shipped_adapters() / ANCHOR / WEIGHTS_FILE
    same = shipped.exists() and shipped.read_bytes() == (own / WEIGHTS_FILE).read_bytes()
    return str(own), f"zoo:{ANCHOR}" if same else str(own.absolute())


def _build_one(name: str, folder: Path, opened: str, base: str, seed: int) -> dict[str, Any]:
    from alignmerge.merger.checkpoint import open_checkpoint
    from alignmerge.models import load_model
    from alignmerge.products import announce, is_quickened
    from alignmerge.zoo.train import answer_greedily, cast, train

    checkpoint = open_checkpoint(opened)
    model, tokenizer = load_model(checkpoint, dtype="bfloat16", on="cpu")
    if is_quickened(model):
        announce()
    say(f"zoo:{name}: training from {base}")
    examples = rows(name, lambda prompts: answer_greedily(cast(model, "float32"), tokenizer, prompts))
    tensors = train(cast(model, "bfloat16"), tokenizer, examples, knobs(name), seed)
    card = _card(name, base, checkpoint.digest, examples, tensors, seed)
    write_adapter(folder, tensors, base, card)
    return card


def _card(
    name: str, base: str, base_digest: str, examples: Sequence[Row], tensors: "dict[str, torch.Tensor]", seed: int
) -> dict[str, Any]:
    import peft
    import torch
    import transformers

    from alignmerge.merger.reference import tensor_digest
    from alignmerge.zoo.train import ALPHA, RANK

    used = knobs(name)
    return {
        "name": name,
        "role": "anchor" if name == ANCHOR else "expert",
        "trained_from": base,
        "base_digest": base_digest,
        "rank": RANK,
        "alpha": ALPHA,
        "steps": used.steps,
        "learning_rate": used.learning_rate,
        "batch_rows": used.batch_rows,
        "seed": seed,
        "rows": len(examples),
        "rows_digest": rows_digest(examples),
        "tensor_digest": tensor_digest(tensors),
        "license": "Apache-2.0",
        "software": {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
    }


def adapter_config(base: str) -> dict[str, Any]:
    """What peft needs to read the adapter: a plain LoRA on all linear layers of `base`."""
    from alignmerge.zoo.train import ALPHA, LINEAR, RANK

    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": RANK,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(LINEAR),
        "inference_mode": True,
    }


def write_adapter(folder: Path, tensors: "dict[str, torch.Tensor]", base: str, card: dict[str, Any]) -> None:
    """Write weights, config and card to `folder`, complete or not at all."""
    from safetensors.torch import save

    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:
        staged = Path(work) / folder.name
        staged.mkdir()
        jsonio.write_bytes(staged / WEIGHTS_FILE, save(tensors, metadata={"format": "pt"}))
        jsonio.write(staged / CONFIG_FILE, adapter_config(base))
        jsonio.write(staged / CARD_FILE, card)
        staged.rename(folder)


def shipped_cards() -> list[dict[str, Any]]:
    """The cards of the adapters that come with the package, anchor first."""
    folder = locate(f"zoo:{ANCHOR}").parent
    return [jsonio.read(folder / name / CARD_FILE) for name in NAMES if (folder / name / CARD_FILE).is_file()]
