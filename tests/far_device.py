"""A second device for machines without one: tensors that say they lie on it, hold real values, and refuse to be mixed.

    with far():
        model.to(FAR)      # every result of it is computed, as on the CPU, and is FAR too

What fails on an accelerator because two tensors lie on two devices fails here as well, with real numbers all the way
through, so that a whole solve runs. The name is that of torch's meta device, the only other one that every build of
torch has.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

FAR = torch.device("meta")
_MOVES = ("aten::copy_", "aten::_to_copy", "aten::to")


class TwoDevices(RuntimeError):
    """An operation met tensors of both devices."""


class FarTensor(torch.Tensor):
    """A tensor on FAR; `near` holds its values."""

    near: torch.Tensor

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> "FarTensor":
        own: FarTensor = torch.Tensor._make_wrapper_subclass(
            cls, near.size(), strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype, device=FAR
        )
        own.near = near
        return own

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.near.tolist()

    def data_ptr(self) -> int:
        return self.near.data_ptr()


class _Factories(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


class _FromData(TorchFunctionMode):
    """torch.tensor looks at no values where the device is meta: here they are put down first and moved then."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.tensor and kwargs.get("device") == FAR:
            return func(*args, **{**kwargs, "device": None}).to(FAR)
        return func(*args, **kwargs)


@contextmanager
def far() -> Iterator[None]:
    """While it lasts, tensors can be moved to FAR and made there."""
    with _Factories(), _FromData():
        yield


def _compute(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    given = tree_flatten((args, kwargs))[0]
    tensors = [one for one in given if isinstance(one, torch.Tensor)]
    there = [one for one in tensors if isinstance(one, FarTensor)]
    moves = func._schema.name in _MOVES
    if there and not moves and any(not isinstance(one, FarTensor) and one.dim() for one in tensors):
        raise TwoDevices(f"{func}: tensors of two devices: {[(type(one).__name__, *one.shape) for one in tensors]}")
    asked = [one for one in given if isinstance(one, torch.device)]
    out = func(*tree_map(_near, tuple(args)), **tree_map(_near, dict(kwargs)))
    if func._schema.name == "aten::copy_":
        return args[0]
    if not (asked[0] == FAR if asked else there):
        return out
    with torch.inference_mode(False):  # a view of a tensor from before that mode is none of its own kind
        out = tree_map(lambda one: FarTensor(one) if isinstance(one, torch.Tensor) else one, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if there else out


def _near(value: Any) -> Any:
    if isinstance(value, FarTensor):
        return value.near
    return torch.device("cpu") if isinstance(value, torch.device) and value == FAR else value
