"""One safetensors file written front to back: header first, then each tensor, hashed on the way.

Notable decisions:
- The library's save_file keeps a whole shard in memory, never calls fsync, leaves mode 0600 and orders
  metadata at random; here the bytes depend on names, shapes and values alone.
- Space is reserved before the first tensor is computed, so a full disk is known at once.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from alignmerge.errors import StorageError, TensorMismatch
from alignmerge.merger.safetensors_header import DTYPE_BYTES
from alignmerge.provenance.manifest import FileEntry

if TYPE_CHECKING:
    import torch

DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


@dataclass(frozen=True)
class Slot:
    """A tensor to be written: name, dtype as torch spells it ("bfloat16", "float16", "float32"), shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return prod(self.shape) * DTYPE_BYTES[DTYPES[self.dtype]]


def header(slots: Sequence[Slot]) -> bytes:
    """The length prefix and JSON header of a file holding `slots` in this order; a multiple of 8 bytes."""
    fields: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for slot in slots:
        fields[slot.name] = {"dtype": DTYPES[slot.dtype], "shape": slot.shape, "data_offsets": [end, end + slot.size]}
        end += slot.size
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def first_not_finite(tensor: "torch.Tensor") -> int | None:
    """The flat index of the first NaN or infinity in `tensor`, or None."""
    import torch

    if tensor.numel() == 0:
        return None
    low, high = torch.aminmax(tensor)  # one pass without a copy; NaN wins in both
    if math.isfinite(low) and math.isfinite(high):
        return None
    return int((~torch.isfinite(tensor)).flatten().nonzero()[0].item())


def cast(name: str, tensor: "torch.Tensor", dtype: str) -> "torch.Tensor":
    """`tensor` rounded once to `dtype`, contiguous.

    Raises:
        TensorMismatch: a value is NaN or infinite, or becomes so in `dtype`.
    """
    import torch

    out = tensor.to(getattr(torch, dtype)).contiguous()
    where = first_not_finite(out)
    if where is not None:
        value = float(tensor.flatten()[where])
        raise TensorMismatch(f"tensor {name!r}: element {where} is {value!r}, which is not finite in {dtype}")
    return out


@dataclass(frozen=True)
class Written:
    """A finished shard: the file, and the SHA-256 (hex) of each tensor's bytes by name."""

    file: FileEntry
    tensors: Mapping[str, str]


def write_shard(path: Path, slots: Sequence[Slot], produce: Callable[[str], "torch.Tensor"]) -> Written:
    """Digests of the safetensors file written at `path`, complete and on disk.

    `produce(name)` is called once per slot, in order, and returns the values; they are rounded once to the slot's
    dtype. One tensor is in memory at a time. `path` must not exist; it is removed again on failure.

    Raises:
        StorageError: no space, or the disk failed.
        TensorMismatch: a produced tensor has another shape or does not fit the dtype.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StorageError(f"{path}: cannot be created: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as handle:
            written = _fill(path, handle.fileno(), slots, produce)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return written


def _fill(path: Path, descriptor: int, slots: Sequence[Slot], produce: Callable[[str], "torch.Tensor"]) -> Written:
    import torch

    start = header(slots)
    total = len(start) + sum(slot.size for slot in slots)
    _reserve(path, descriptor, total)
    sha256 = hashlib.sha256()
    sha256.update(start)
    _write_all(path, descriptor, memoryview(start))
    tensors = {}
    for slot in slots:
        tensor = produce(slot.name)
        if tuple(tensor.shape) != slot.shape:
            raise TensorMismatch(f"tensor {slot.name!r}: produced shape {tuple(tensor.shape)}, planned {slot.shape}")
        view = cast(slot.name, tensor, slot.dtype).reshape(-1).view(torch.uint8).numpy().data
        sha256.update(view)
        tensors[slot.name] = hashlib.sha256(view).hexdigest()
        _write_all(path, descriptor, view)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise StorageError(f"{path}: not safely on disk: {error.strerror}") from None
    return Written(FileEntry(path.name, total, sha256.hexdigest()), tensors)


def _reserve(path: Path, descriptor: int, size: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        free = shutil.disk_usage(path.parent).free
        raise StorageError(f"{path}: {size} bytes needed, {free} free: {error.strerror}") from None


def _write_all(path: Path, descriptor: int, view: memoryview) -> None:
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except OSError as error:
            raise StorageError(f"{path}: cannot be written: {error.strerror}") from None
