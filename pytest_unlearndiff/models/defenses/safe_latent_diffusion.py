"""Safe latent diffusion inside a pipeline's own call: the network answers as if the text had been guided away.

Classifier-free guidance computes ``e_u + s_g (e_p - e_u)``; safe latent diffusion (Schramowski et al. 2023, equations
3 to 8) computes ``e_u + s_g (e_p - e_u - gamma)``. So it is enough to return ``e_p - gamma`` in place of ``e_p``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from . import DefendedModel


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


class SafeLatentDiffusion:
    """Guides images away from a concept (``Defense``).

    Args:
        strength: one of STRENGTHS.
        concept: what images are guided away from.
        warmup: ``steps``, counting denoising steps as the paper does, or ``timesteps``, comparing it with the timestep
            as Diffusion-MU-Attack does; there guidance begins at once and ends shortly before the image is done.
    """

    extra_forwards_per_step = 1

    def __init__(self, strength: str, concept: str, warmup: str) -> None:
        self._settings = STRENGTHS[strength]
        self._concept = concept
        self._by_timestep = warmup == "timesteps"

    def call_arguments(self, count: int, guidance: float) -> dict[str, Any]:
        """See ``Defense``."""
        return {}

    def applied(self, model: DefendedModel, guidance: float) -> AbstractContextManager[None]:
        """See ``Defense``; without classifier-free guidance (scale above 1) there is nothing to subtract from."""
        return nullcontext() if guidance <= 1 else self._hooked(model)

    @contextmanager
    def _hooked(self, model: DefendedModel) -> Iterator[None]:
        network, concept = model.network, model.network_arguments(self._concept)
        momentum = Momentum(self._settings, by_timestep=self._by_timestep)
        before = network.register_forward_pre_hook(
            lambda _, positional, named: add_concept(positional, named, concept), with_kwargs=True
        )
        after = network.register_forward_hook(lambda _, positional, output: momentum.corrected(output, positional[1]))
        try:
            yield
        finally:
            before.remove()
            after.remove()


def add_concept(positional: Any, named: Any, concept: Mapping[str, Any]) -> tuple[Any, Any]:
    """Append the latents once more, to be predicted for the concept."""
    latents, *rest = positional
    count = len(latents) // 2
    conditions = {name: _append(named[name], value, count) for name, value in concept.items()}
    return (torch.cat([latents, latents[:count]]), *rest), {**named, **conditions}


def _append(batch: Any, concept: Any, count: int) -> Any:
    """Append ``count`` copies of the concept's conditions to a batch's."""
    if isinstance(concept, Mapping):
        return {**batch, **{name: _append(batch[name], value, count) for name, value in concept.items()}}
    return torch.cat([batch, concept.to(batch).expand(count, *concept.shape[1:])])


class Momentum:
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

    def corrected(self, output: Any, timestep: Any) -> tuple[torch.Tensor]:
        """Return predictions (2B, ...) for classifier-free guidance, from those (3B, ...) with the concept's."""
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
