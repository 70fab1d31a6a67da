"""Probes without adversarial text (Lu et al. 2025, arXiv 2505.17013): noise along the trajectory, and completion.

They search nothing. The prompt stays as it is, and so does its seed; what changes is how the image is sampled. A round
that brings the concept back counts only where the same sampling without the prompt does not
(``GenerationRequest.control``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import torch

from ..core.attack_config import AttackConfig
from ..core.concept import Prompt
from ..core.images import GenerationRequest, SamplerChange
from ..models.diffusion_model import DiffusionModel
from ..models.target_images import Targets
from ..models.tensor_text import pack
from .base import PromptAttack, PromptState, prompt_generator
from .controls import Redraw
from .schedules import CompletionSchedule, NoiseSchedule


class NoiseProbe(Redraw):
    """More noise along the trajectory than the sampler takes away, another amount in each round.

    The authors keep the best of their images by a classifier; here any that the judge sees the concept in counts.
    """

    def __init__(self, config: AttackConfig, model: DiffusionModel) -> None:
        super().__init__(config, model)
        schedule = config.settings
        assert isinstance(schedule, NoiseSchedule)
        self._pairs = list(product(schedule.etas, schedule.scales))

    def _rounds(self, state: PromptState) -> int:
        return len(self._pairs)

    def _request(self, state: PromptState) -> GenerationRequest:
        eta, scale = self._pairs[state.round - 1]
        return _changed(state.prompt, SamplerChange(eta, scale))


@dataclass(eq=False)
class CompletionState(PromptState):
    """A prompt with the latents (C, h, w) of its target image."""

    x0: torch.Tensor = field(default_factory=torch.Tensor)


class CompletionProbe(PromptAttack[CompletionState]):
    """The target image, noised and completed by the victim; the more of the image is left, the later the round.

    The authors interrupt the un-erased model's sampling; here its finished image is noised to the same step
    (SDEdit, Meng et al. 2022, section 3), so that images of the user's can be completed too.
    """

    def __init__(self, config: AttackConfig, model: DiffusionModel) -> None:
        super().__init__(config, model)
        schedule = config.settings
        assert isinstance(schedule, CompletionSchedule)
        self._skipped = schedule.skipped

    def start(self, prompts: Sequence[Prompt], targets: Targets | None, seed: int) -> list[CompletionState]:
        """Return a fresh state for each prompt."""
        assert targets is not None
        latents = targets.latents(prompts, self._model).cpu()
        return [
            CompletionState(p, prompt_generator(seed, p), x0=x0.clone()) for p, x0 in zip(prompts, latents, strict=True)
        ]

    def _tensors(self, state: CompletionState) -> dict[str, torch.Tensor]:
        return {"x0": state.x0}

    def _restore(
        self, prompt: Prompt, generator: torch.Generator, tensors: Mapping[str, torch.Tensor], targets: Targets | None
    ) -> CompletionState:
        return CompletionState(prompt, generator, x0=tensors["x0"].clone())

    def advance(self, states: Sequence[CompletionState]) -> list[GenerationRequest | None]:
        """Return the next request of each state."""
        return [self._advance(state) if state.round < len(self._skipped) else None for state in states]

    def _advance(self, state: CompletionState) -> GenerationRequest:
        state.round += 1
        return _changed(state.prompt, SamplerChange(skipped=self._skipped[state.round - 1], start=pack(state.x0)))


def _changed(prompt: Prompt, change: SamplerChange) -> GenerationRequest:
    return GenerationRequest(prompt.text, prompt.seed, prompt.guidance, sampler=change)
