"""Latent consistency models (Luo et al. 2023): a UNet that was distilled with its guidance, in few steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.models.families.base import Conditioning
from pytest_unlearndiff.models.families.stable_diffusion import StableDiffusion

SCALE = 8.5
"""Guidance scale that the network is told, the pipeline's default; prompts' own are of networks with two passes."""


class LatentConsistency(StableDiffusion):
    """A ``LatentConsistencyModelPipeline`` as attacks need it.

    Args:
        pipe: the pipeline, which keeps its scheduler: no other one draws what the network learnt.
        sampling: steps of evaluation images.
    """

    def __init__(self, pipe: Any, sampling: Sampling) -> None:
        super().__init__(pipe, replace(sampling, scheduler="own"))

    def network_arguments(self, conditioning: Conditioning, latents: torch.Tensor) -> dict[str, Any]:
        """Add the embedding of the guidance scale."""
        network = self._pipe.unet
        scales = torch.tensor(SCALE - 1).repeat(len(latents))
        embedded = self._pipe.get_guidance_scale_embedding(scales, embedding_dim=network.config.time_cond_proj_dim)
        return super().network_arguments(conditioning, latents) | {"timestep_cond": embedded.to(latents)}

    def call_arguments(self, guidance: float, steps: int) -> dict[str, Any]:
        """Draw with the scale that the network is told."""
        return super().call_arguments(SCALE, steps)

    def forwards_per_step(self, guidance: float | None = None) -> int:
        """Count one: guidance is part of the network."""
        return 1
