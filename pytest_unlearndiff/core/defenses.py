"""Unlearning at inference time: what images are guided away from as they are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class SafeGuidance:
    """Settings of safe latent diffusion (Schramowski et al. 2023, section 3).

    Attributes:
        scale: s_S, strength of the guidance away from the concept.
        warmup: delta, how long images are drawn without it.
        threshold: lambda, how near a prediction must be to the concept's to be guided away.
        momentum: s_m, share of the accumulated momentum.
        beta: beta_m, how much of the momentum is kept in a step.
    """

    scale: float
    warmup: int
    threshold: float
    momentum: float
    beta: float


# The four configurations of the paper and of its authors' repository (ml-research/safe-latent-diffusion).
STRENGTHS: Mapping[str, SafeGuidance] = {
    "weak": SafeGuidance(200, 15, 0.0, 0.0, 0.0),
    "medium": SafeGuidance(1000, 10, 0.01, 0.3, 0.4),
    "strong": SafeGuidance(2000, 7, 0.025, 0.5, 0.7),
    "max": SafeGuidance(5000, 0, 1.0, 0.5, 0.7),
}
WARMUPS = ("steps", "timesteps")


@dataclass(frozen=True)
class Guidance:
    """How a victim's images are guided away from a concept.

    Attributes:
        negative_prompt: takes the place of the empty prompt; None for none.
        strength: of safe latent diffusion, one of STRENGTHS; None for none.
        concept: what safe latent diffusion guides away from.
        warmup: whether its warm-up counts denoising steps, as the paper does, or is held against the timestep, as
            Diffusion-MU-Attack does; there guidance begins at once and ends shortly before the image is done.
    """

    negative_prompt: str | None = None
    strength: str | None = None
    concept: str = ""
    warmup: str = "steps"

    def __bool__(self) -> bool:
        """Whether there is any."""
        return self.negative_prompt is not None or self.strength is not None

    @property
    def safe(self) -> SafeGuidance | None:
        """Settings of safe latent diffusion, where it is asked for."""
        return STRENGTHS[self.strength] if self.strength is not None else None

    def __str__(self) -> str:
        """In words, for reports and keys; empty where there is none."""
        parts = []
        if self.negative_prompt is not None:
            parts.append(f"negative prompt {self.negative_prompt!r}")
        if self.strength is not None:
            counted = f"warm-up in {self.warmup}"
            parts.append(f"safe latent diffusion ({self.strength}, {counted}) away from {self.concept!r}")
        return " and ".join(parts)


UNGUIDED = Guidance()
