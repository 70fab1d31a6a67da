"""Defenses, which erase at inference time: one module each, and one row here, which needs no torch."""

from __future__ import annotations

from ...core.model_info import DefenseInfo

ROWS = (
    DefenseInfo(
        "negative-prompt",
        f"{__name__}.negative_prompt:NegativePrompt",
        "1",
        description="negative prompt {prompt!r}",
        options=("prompt",),
    ),
    DefenseInfo(
        "safe-latent-diffusion",
        f"{__name__}.safe_latent_diffusion:SafeLatentDiffusion",
        "1",
        description="safe latent diffusion ({strength}, warm-up in {warmup}) away from {concept!r}",
        options=("strength", "concept", "warmup"),
        choices={"strength": ("weak", "medium", "strong", "max"), "warmup": ("steps", "timesteps")},
    ),
)
