"""Where models are computed: on a GPU if there is one, unless ALIGNMERGE_DEVICE names another place."""

import os
from typing import TYPE_CHECKING

from alignmerge.errors import UsageError

if TYPE_CHECKING:
    import torch

VARIABLE = "ALIGNMERGE_DEVICE"


def device() -> str:
    """What ALIGNMERGE_DEVICE names ("cpu", "cuda", "cuda:1"), else the first GPU that torch sees, else the CPU.

    Raises:
        UsageError: the variable names something else, or a GPU that torch does not see.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    chosen = os.environ.get(VARIABLE) or ("cuda" if count else "cpu")
    kind, _, index = chosen.partition(":")
    if kind not in ("cpu", "cuda") or (index and (kind == "cpu" or not index.isdecimal())):
        raise UsageError(f"{VARIABLE}: {chosen!a} is no device; use cpu, cuda or cuda:N")
    if kind == "cuda" and int(index or 0) >= count:
        raise UsageError(f"{VARIABLE}: {chosen!a}, but torch sees {count} GPUs; use cpu or leave it unset")
    return chosen


def model_of(device: "torch.device") -> str:
    """The kind of `device`, with the product's name where it is a GPU: "cpu", "cuda NVIDIA H200"."""
    import torch

    return f"cuda {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type
