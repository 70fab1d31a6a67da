"""UNet forward passes that were computed, whatever for: by this process, and for it by workers.

What a prompt's outcome counts is the prompt's own and the same however it was attacked. What was computed is more: the
copies that fill batches up, target images, a positive control's images, and what was begun and lost.
"""

from __future__ import annotations

_computed = 0


def count_forwards(passes: int) -> None:
    """So many more were computed, each on one latent; a backward pass is one more."""
    global _computed
    _computed += passes


def computed_forwards() -> int:
    """How many were computed since this process began."""
    return _computed
