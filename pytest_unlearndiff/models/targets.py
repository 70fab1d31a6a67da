"""Target images: what the base model draws for the same prompts and seeds."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..core.concept import Prompt
from ..core.drawing import Drawing
from .victim import Victim


class Targets:
    """Makes target images with the base model and encodes them with the victim's autoencoder.

    Args:
        base: the un-erased model.
    """

    def __init__(self, base: Victim) -> None:
        self._base = base

    def latents(self, prompts: Sequence[Prompt], victim: Victim) -> torch.Tensor:
        """Latents (B, C, h, w) float32 of the prompts' target images."""
        drawings = [Drawing(prompt.text, prompt.seed, prompt.guidance) for prompt in prompts]
        return victim.latents(self._base.generate(drawings))
