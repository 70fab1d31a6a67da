"""Safe latent diffusion inside a pipeline's own call: the UNet answers as if the text had been guided away.

Classifier-free guidance computes ``e_u + s_g (e_p - e_u)``; safe latent diffusion (Schramowski et al. 2023, equations
3 to 8) computes ``e_u + s_g (e_p - e_u - gamma)``. So it is enough to give ``e_p - gamma`` in place of ``e_p``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from ..core.defenses import Guidance, SafeGuidance


@contextmanager
def safe_latent_diffusion(unet: Any, guidance: Guidance, concept: Mapping[str, Any]) -> Iterator[None]:
    """Guide every image of one pipeline call, which must use classifier-free guidance.

    Args:
        unet: the pipeline's.
        guidance: with the settings of safe latent diffusion.
        concept: what the UNet is given for the text to guide away from, by its keywords, each (1, ...).
    """
    assert guidance.safe is not None
    state = _Momentum(guidance.safe, by_timestep=guidance.warmup == "timesteps")
    before = unet.register_forward_pre_hook(lambda _, given, named: _third(given, named, concept), with_kwargs=True)
    after = unet.register_forward_hook(lambda _, given, output: state.corrected(output, given[1]))
    try:
        yield
    finally:
        before.remove()
        after.remove()


def _third(given: Any, named: Any, concept: Mapping[str, Any]) -> tuple[Any, Any]:
    """The latents once more, to be predicted for the concept."""
    latents, *rest = given
    count = len(latents) // 2
    conditions = {name: _appended(named[name], value, count) for name, value in concept.items()}
    return (torch.cat([latents, latents[:count]]), *rest), {**named, **conditions}


def _appended(mine: Any, concept: Any, count: int) -> Any:
    """Conditions of a batch, and behind them so many times the concept's."""
    if isinstance(concept, Mapping):
        return {**mine, **{name: _appended(mine[name], value, count) for name, value in concept.items()}}
    return torch.cat([mine, concept.to(mine).expand(count, *concept.shape[1:])])


class _Momentum:
    """What is carried from one denoising step of a image to the next.

    Args:
        settings: of safe latent diffusion.
        by_timestep: whether the warm-up is held against the timestep instead of the step's number.
    """

    def __init__(self, settings: SafeGuidance, *, by_timestep: bool) -> None:
        self._settings = settings
        self._by_timestep = by_timestep
        self._step = 0
        self._momentum: torch.Tensor | float = 0.0

    def corrected(self, output: Any, timestep: Any) -> tuple[torch.Tensor]:
        """Predictions (2B, ...) for classifier-free guidance, from those (3B, ...) with the concept's."""
        settings = self._settings
        free, text, concept = output[0].chunk(3)
        apart = text - concept
        # Equation 6: guide where the text's prediction is near the concept's, the more the further apart they are.
        strength = torch.where(apart >= settings.threshold, 0.0, (apart.abs() * settings.scale).clamp(max=1.0))
        gamma = (concept - free) * strength + settings.momentum * self._momentum
        self._momentum = settings.beta * self._momentum + (1 - settings.beta) * gamma
        warm = (int(timestep) if self._by_timestep else self._step) >= settings.warmup
        self._step += 1
        return (torch.cat([free, text - gamma if warm else text]),)
