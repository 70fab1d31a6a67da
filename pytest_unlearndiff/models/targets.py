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
        shown: told of every target image as it is drawn.
    """

    def __init__(self, base: Victim, shown: Callable[[Prompt, Image.Image], None] | None = None) -> None:
        self.base = base
        self._shown = shown

    def latents(self, prompts: Sequence[Prompt], victim: Victim) -> torch.Tensor:
        """Latents (B, C, h, w) float32 of the prompts' target images."""
        drawings = [Drawing(prompt.text, prompt.seed, prompt.guidance) for prompt in prompts]
        images = self.base.generate(drawings)
        if self._shown is not None:
            for prompt, image in zip(prompts, images, strict=True):
                self._shown(prompt, image)
        return victim.latents(images)
