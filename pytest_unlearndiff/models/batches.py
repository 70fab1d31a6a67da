"""Batches of one size, so that a sample's numbers do not depend on which others are computed with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

BATCH = 4
"""Samples in one call of a network. Part of the algorithm: another size sums in another order, and Adam's first steps
magnify the last bits of a gradient until another token is drawn."""


def in_batches(items: Sequence[T]) -> Iterator[tuple[int, list[T]]]:
    """Split into batches of exactly BATCH, the last one filled up with copies of its last item.

    Yields:
        How many items of the batch count, and the batch.
    """
    for first in range(0, len(items), BATCH):
        part = list(items[first : first + BATCH])
        yield len(part), part + [part[-1]] * (BATCH - len(part))
