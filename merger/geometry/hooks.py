"""Hooks on a model's layers that are taken off again, however the pass through them ends."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch.utils.hooks import RemovableHandle


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Nothing; the hooks stay on while it lasts. Those set before one of `handles` fails to be set are removed too."""
    kept: list[RemovableHandle] = []
    try:
        for handle in handles:
            kept.append(handle)
        yield
    finally:
        for handle in kept:
            handle.remove()
