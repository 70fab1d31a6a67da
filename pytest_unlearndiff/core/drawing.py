"""What a image is drawn from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GenerationRequest:
    """One image to draw.

    Attributes:
        text: the prompt, as a person would type it.
        seed: of the generator of its initial latents.
        guidance: classifier-free guidance scale.
    """

    text: str
    seed: int
    guidance: float
