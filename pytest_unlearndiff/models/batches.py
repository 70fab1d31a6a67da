"""Batches of one size, so that a sample's numbers do not depend on which others are computed with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")

BATCH = 4
"""Samples in one call of a network. Part of the algorithm: another size sums in another order, and Adam's first steps
magnify the last bits of a gradient until another token is drawn."""

_size = BATCH


def in_batches(items: Sequence[T]) -> Iterator[tuple[int, list[T]]]:
    """Split into batches of exactly BATCH, the last one filled up with copies of its last item.

    Where memory ran out before, batches are smaller: numbers then differ in their last digits, as on another device.

    Yields:
        How many items of the batch count, and the batch.
    """
    size = _size
    for first in range(0, len(items), size):
        part = list(items[first : first + size])
        yield len(part), part + [part[-1]] * (size - len(part))


def halve_batches() -> bool:
    """Halve the batches of this process for good; returns whether they could be halved."""
    global _size
    possible = _size > 1
    _size = max(1, _size // 2)
    return possible


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that a device has no memory left; only CUDA's has a type of its own."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
    )
