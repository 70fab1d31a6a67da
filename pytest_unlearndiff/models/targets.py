"""Target images: what the base model draws for the same prompts and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image

from ..core.concept import Prompt
from ..core.drawing import Drawing
from .victim import Victim


class Targets:
    """Makes target images with the base model and encodes them with the victim's autoencoder.

    Attributes:
        base: the un-erased model.
        witnesses: each is shown every target image with its prompt.
    """

    def __init__(
        self, base: Victim, witnesses: Sequence[Callable[[Sequence[Prompt], Sequence[Image.Image]], None]] = ()
    ) -> None:
        self.base = base
        self._witnesses = witnesses

    def latents(self, prompts: Sequence[Prompt], victim: Victim) -> torch.Tensor:
        """Latents (B, C, h, w) float32 of the prompts' target images."""
        drawings = [Drawing(prompt.text, prompt.seed, prompt.guidance) for prompt in prompts]
        images = self.base.generate(drawings)
        for witness in self._witnesses:
            witness(prompts, images)
        return victim.latents(images)
