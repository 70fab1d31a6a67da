"""Safe latent diffusion inside a pipeline's own call: the network answers as if the text had been guided away.

Classifier-free guidance computes ``e_u + s_g (e_p - e_u)``; safe latent diffusion (Schramowski et al. 2023, equations
3 to 8) computes ``e_u + s_g (e_p - e_u - gamma)``. So it is enough to return ``e_p - gamma`` in place of ``e_p``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from . import DefendedModel
from .concept_guidance import ConceptGuidance, Guide


@dataclass(frozen=True)
class Settings:
    """Hyperparameters (Schramowski et al. 2023, section 3).

    Attributes:
        scale: s_S, strength of the guidance away from the concept.
        warmup: delta, how long images are drawn without it.
        threshold: lambda, how near a prediction must be to the concept's to be guided away.
        momentum: s_m, share of the accumulated momentum.
        beta: beta_m, share of the momentum that is kept in a step.
    """

    scale: float
    warmup: int
    threshold: float
    momentum: float
    beta: float


# The four configurations of the paper and of its authors' repository (ml-research/safe-latent-diffusion).
STRENGTHS: Mapping[str, Settings] = {
    "weak": Settings(200, 15, 0.0, 0.0, 0.0),
    "medium": Settings(1000, 10, 0.01, 0.3, 0.4),
    "strong": Settings(2000, 7, 0.025, 0.5, 0.7),
    "max": Settings(5000, 0, 1.0, 0.5, 0.7),
}


class SafeLatentDiffusion(ConceptGuidance):
    """Guides images away from a concept (``Defense``).

    Args:
        strength: one of STRENGTHS.
        concept: what images are guided away from.
        warmup: ``steps``, counting denoising steps as the paper does, or ``timesteps``, comparing it with the timestep
            as Diffusion-MU-Attack does; there guidance begins at once and ends shortly before the image is done.
    """

    def __init__(self, strength: str, concept: str, warmup: str) -> None:
        super().__init__(concept)
        self._settings = STRENGTHS[strength]
        self._by_timestep = warmup == "timesteps"

    def _guide(self, model: DefendedModel) -> AbstractContextManager[Guide]:
        return nullcontext(Momentum(self._settings, by_timestep=self._by_timestep))


class Momentum(Guide):
    """State that is carried from one denoising step of a batch to the next.

    Args:
        settings: hyperparameters.
        by_timestep: whether the warm-up is compared with the timestep instead of the step's number.
    """

    def __init__(self, settings: Settings, *, by_timestep: bool) -> None:
        self._settings = settings
        self._by_timestep = by_timestep
        self._step = 0
        self._momentum: torch.Tensor | float = 0.0

    def outputs(self, predictions: torch.Tensor, timestep: Any) -> torch.Tensor:
        """See ``Guide``."""
        settings = self._settings
        free, text, concept = predictions.chunk(3)
        apart = text - concept
        # Equation 6: guide where the text's prediction is near the concept's, the more the further apart they are.
        strength = torch.where(apart >= settings.threshold, 0.0, (apart.abs() * settings.scale).clamp(max=1.0))
        gamma = (concept - free) * strength + settings.momentum * self._momentum
        self._momentum = settings.beta * self._momentum + (1 - settings.beta) * gamma
        warm = (int(timestep) if self._by_timestep else self._step) >= settings.warmup
        self._step += 1
        return torch.cat([free, text - gamma if warm else text])
