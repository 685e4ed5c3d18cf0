"""Reproducible choices for generated items: SHA-256 in counter mode, the same on every Python version."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """A stream of choices named by a key; equal keys give equal streams."""

    def __init__(self, key: str) -> None:
        self._key, self._count = key, 0

    def integer(self, low: int, high: int) -> int:
        """A whole number in [low, high], both ends included."""
        self._count += 1
        digest = hashlib.sha256(f"{self._key}#{self._count}".encode()).digest()
        return low + int.from_bytes(digest[:8], "big") % (high - low + 1)

    def choice(self, options: Sequence[T]) -> T:
        """One of `options`."""
        return options[self.integer(0, len(options) - 1)]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different members of `options` in drawn order."""
        left = list(options)
        return [left.pop(self.integer(0, len(left) - 1)) for _ in range(count)]
