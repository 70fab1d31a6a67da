"""Batches of one size, so that a sample's numbers do not depend on which others are computed with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")

BATCH = 4
"""Samples in one call of a network. Part of the algorithm: another size sums in another order, and Adam's first steps
magnify the last bits of a gradient until another token is drawn.

So the copies that fill a batch up can not be left out. Measured with one and with two threads of an AMD EPYC (torch
2.13.0+cpu; the emoji model, and random ones of Stable Diffusion's and XL's classes), against batches of 4: a UNet's
predictions and gradients differ in every sample, by up to 3e-6, in batches of 1, 2 and 3, and not in those of 8;
autoencoders differ in batches of 1, the random ones with two threads also of 3; the classifier in those of 1; XL's text
encoders in all three, Stable Diffusion 1.x's in none. Of eight emoji images five came out a grey level different
where they were drawn one at a time, four where all were drawn together; two at a time none, but one of XL's. Where a
sample stands in its batch, and what stands beside it, changed nothing. What is computed so is counted (``core.work``),
and prompts are attacked in an order that needs few copies (``Campaign``).
"""

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
    """Tell whether an exception means that a device has no memory left; only CUDA's has a type of its own."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
    )
