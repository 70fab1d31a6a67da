"""Count of all forward passes of denoising networks: by this process, and for it by workers.

A prompt's outcome counts its own passes, the same however it was attacked. This count has more: copies that fill
batches up, target images, a positive control's images, and work that was lost.
"""

from __future__ import annotations

_computed = 0


def count_forwards(passes: int) -> None:
    """Add passes, each on one latent; a backward pass is one more."""
    global _computed
    _computed += passes


def computed_forwards() -> int:
    """Return the number of passes since this process began."""
    return _computed
