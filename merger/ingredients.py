"""The opened checkpoints of a recipe, checked to fit together, and seen tensor by tensor.

Notable decision: experts are put in an order given by their digests, so that the order in the recipe, which floating
point sums would feel, changes no bit of the result.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignmerge import jsonio
from alignmerge.errors import CheckpointError, RecordError, TensorMismatch, TokenizerMismatch
from alignmerge.merger.checkpoint import Checkpoint, open_checkpoint
from alignmerge.merger.methods.base import Tile
from alignmerge.merger.recipe import Recipe

if TYPE_CHECKING:
    import torch

MAX_TOKENIZER_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Ingredients:
    """What a merge is made of; the View that methods see. experts, references and weights are in canonical order."""

    names: tuple[str, ...]
    anchor: Checkpoint
    experts: tuple[Checkpoint, ...]
    references: tuple[Checkpoint, ...]
    weights: tuple[float, ...]
    seed: int
    base: Checkpoint | None = None
    materials: Any = None

    @property
    def all(self) -> tuple[Checkpoint, ...]:
        """Every checkpoint once: anchor, base where there is one, experts."""
        return (self.anchor, *((self.base,) if self.base else ()), *self.experts)

    def tile(self, name: str) -> Tile:
        """The values of tensor `name` in every ingredient, float32. They may share memory: do not change them.

        Raises:
            TensorMismatch: a value is not finite.
        """
        shared: dict[int, torch.Tensor] = {}
        return Tile(
            name=name,
            anchor=self.anchor.read(name, shared),
            experts=tuple(expert.read(name, shared) for expert in self.experts),
            references=tuple(reference.read(name, shared) for reference in self.references),
            weights=self.weights,
        )


def open_ingredients(recipe: Recipe, materials: Any = None) -> Ingredients:
    """The checkpoints of `recipe`, opened and checked against the anchor.

    Raises:
        CheckpointError: other architectures.
        TensorMismatch: other tensor names or shapes.
        TokenizerMismatch: the same id means different tokens.
        UsageError, StorageError, EndpointError: see open_checkpoint.
    """
    opened: dict[str, Checkpoint] = {}
    anchor = open_checkpoint(recipe.anchor, opened=opened)
    base = open_checkpoint(recipe.base, opened=opened) if recipe.base else None
    rows = []
    for expert in recipe.experts:
        checkpoint = open_checkpoint(expert.model, opened=opened)
        start = anchor if expert.trained_from == "anchor" else base
        assert start is not None  # resolve() saw to it
        rows.append((checkpoint.digest, expert.trained_from, expert.weight, checkpoint, start))
    for checkpoint in ([base] if base else []) + [row[3] for row in rows]:
        check_fit(anchor, checkpoint)
    rows.sort(key=lambda row: row[:3])
    return Ingredients(
        names=tuple(sorted(anchor.tensors)),
        anchor=anchor,
        experts=tuple(row[3] for row in rows),
        references=tuple(row[4] for row in rows),
        weights=tuple(row[2] for row in rows),
        seed=recipe.seed,
        base=base,
        materials=materials,
    )


def check_fit(anchor: Checkpoint, other: Checkpoint) -> None:
    """Raise unless `other` has the anchor's architecture, tensors and vocabulary."""
    for key in ("model_type", "architectures"):
        if anchor.config.get(key) != other.config.get(key):
            found, wanted = other.config.get(key), anchor.config.get(key)
            raise CheckpointError(f"{other.name}: {key} is {found!a}, the anchor {anchor.name} has {wanted!a}")
    missing, extra = sorted(set(anchor.tensors) - set(other.tensors)), sorted(set(other.tensors) - set(anchor.tensors))
    if missing or extra:
        what = f"lacks {missing[0]!r}" if missing else f"has {extra[0]!r} in addition"
        count = len(missing) + len(extra)
        raise TensorMismatch(f"{other.name}: {what} compared with the anchor {anchor.name} ({count} names differ)")
    for name, info in anchor.tensors.items():
        if other.tensors[name].shape != info.shape:
            found_shape = other.tensors[name].shape
            raise TensorMismatch(
                f"{other.name}: {name!r} has shape {found_shape}, the anchor {anchor.name} {info.shape}"
            )
    _check_tokenizers(anchor, other)


def _check_tokenizers(anchor: Checkpoint, other: Checkpoint) -> None:
    left, right = anchor.tokenizer_files, other.tokenizer_files
    if left == right:
        return
    for name in ("tokenizer.model", "spiece.model"):
        if all((folder / name).exists() for folder in (left, right)):
            same = (left / name).read_bytes() == (right / name).read_bytes()
            if not same and not (left / "tokenizer.json").exists():
                raise TokenizerMismatch(f"{other.name}: {name} differs from the anchor's, {anchor.name}")
    if not all((folder / "tokenizer.json").exists() for folder in (left, right)):
        return
    ours, theirs = vocabulary(left), vocabulary(right)
    if ours == theirs:
        return
    differing = sorted(set(ours.items()) ^ set(theirs.items()))
    token = differing[0][0]
    raise TokenizerMismatch(
        f"{other.name}: token {token!a} has id {theirs.get(token, 'none')}, in the anchor {anchor.name} "
        f"{ours.get(token, 'none')} ({len({token for token, _ in differing})} tokens differ)"
    )


def vocabulary(folder: Path) -> dict[str, int]:
    """Token -> id of the tokenizer.json in `folder`, added tokens included.

    Raises:
        TokenizerMismatch: the file is malformed.
    """
    path = folder / "tokenizer.json"
    try:
        value = jsonio.read(path, MAX_TOKENIZER_BYTES)
        vocab = value["model"]["vocab"]
        pairs = (
            vocab.items() if isinstance(vocab, Mapping) else [(entry[0], index) for index, entry in enumerate(vocab)]
        )
        tokens = {str(token): int(index) for token, index in pairs}
        return tokens | {str(added["content"]): int(added["id"]) for added in value.get("added_tokens") or []}
    except (RecordError, KeyError, TypeError, ValueError, IndexError) as error:
        raise TokenizerMismatch(f"{path}: not a tokenizer: {error}") from None
