"""UnlearnDiffAtk's own search (Zhang et al., ECCV 2024): gradient descent on distributions over tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from ..core.attack_config import AttackConfig
from ..core.concept import Prompt
from ..core.drawing import GenerationRequest
from ..core.registry import Schedule
from ..models.diffusion_model import DiffusionModel
from ..models.target_images import Targets
from .base import PromptState, lane_generator, note_overflow, one_block
from .denoising_loss import LossQuery, gradients
from .schedules import RepeatedNoiseSchedule, SimplexSchedule
from .search_space import SearchSpace
from .simplex import project, sample, straight_through
from .slots import Slots, lay_out, propose


@dataclass(eq=False)
class SimplexLane(PromptState):
    """A lane that searches distributions over tokens.

    Attributes:
        slots: the prompt with room for the tokens.
        x0: latents (C, h, w) of the target image.
        u: one distribution over the searched vocabulary for each slot (k, V'), float32.
        optimiser: Adam on ``u``; its moments live as long as the lane.
    """

    slots: Slots = field(kw_only=True)
    x0: torch.Tensor = field(kw_only=True)
    u: torch.Tensor = field(kw_only=True)
    optimiser: torch.optim.Optimizer = field(kw_only=True)


class SimplexSearch:
    """Upstream's search, in batched lanes: B lanes share one UNet call, and no lane sees another's gradient.

    Args:
        spec: slots, placement and schedule.
        victim: what is attacked.
        schedule: how much work, where not the configuration's.
    """

    def __init__(self, spec: AttackConfig, victim: DiffusionModel, schedule: Schedule | None = None) -> None:
        schedule = schedule or spec.settings
        assert isinstance(schedule, SimplexSchedule)
        self._spec = spec
        self._schedule = schedule
        self._timesteps = [victim.timestep(share) for share in schedule.timesteps]
        self._space = SearchSpace(victim.vocabulary, schedule.typeable)

    def start(
        self, prompts: Sequence[Prompt], victim: DiffusionModel, targets: Targets | None, seed: int
    ) -> list[SimplexLane]:
        """A fresh lane for each prompt, every token equally likely in every slot."""
        assert targets is not None
        latents = targets.latents(prompts, victim)
        return [self._lane(prompt, x0, victim, seed) for prompt, x0 in zip(prompts, latents, strict=True)]

    def _lane(self, prompt: Prompt, x0: torch.Tensor, victim: DiffusionModel, seed: int) -> SimplexLane:
        size = len(self._space.tokens)
        u = torch.full((self._spec.slots, size), 1 / size, device=victim.device)
        schedule = self._schedule
        return SimplexLane(
            prompt,
            lane_generator(seed, prompt),
            slots=lay_out(prompt.text, self._spec.slots, self._spec.placement, victim.vocabulary),
            x0=x0.clone(),
            u=u,
            optimiser=torch.optim.Adam([u], lr=schedule.learning_rate, weight_decay=schedule.decay),
        )

    def advance(self, lanes: Sequence[SimplexLane], victim: DiffusionModel) -> list[GenerationRequest | None]:
        """One block of optimiser steps on every lane, then each lane's most likely tokens as text."""
        if isinstance(self._schedule, RepeatedNoiseSchedule):
            for lane in lanes:
                lane.generator.manual_seed(lane.generator.initial_seed())
        live = one_block(lanes, self._timesteps, self._schedule.steps, lambda some: self._step(some, victim))
        return [self._proposal(lane, victim) if lane in live else None for lane in lanes]

    def _step(self, lanes: list[SimplexLane], victim: DiffusionModel) -> None:
        """One Adam step and projection on every lane (paper, section 5; step and projection as upstream's)."""
        if not lanes:
            return
        choices = torch.stack([sample(lane.u.cpu(), lane.generator) for lane in lanes])
        error, gradient = self._gradient(lanes, choices, victim)
        for lane, loss, slots in zip(lanes, error, gradient, strict=True):
            lane.steps += 1
            lane.forwards += 2
            # The straight-through estimator clips, which would make infinity a number like any other.
            if note_overflow(lane, f"the denoising error or its gradient at step {lane.steps}", loss, slots):
                continue
            lane.u.grad = straight_through(slots, self._space.embeddings)
            lane.optimiser.step()
        for lane, u in zip(lanes, project(torch.stack([lane.u for lane in lanes])), strict=True):
            lane.u.copy_(u)

    def _gradient(
        self, lanes: list[SimplexLane], choices: torch.Tensor, victim: DiffusionModel
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Denoising errors (B,) with the chosen tokens (B, k) in the slots, and dL/de of those slots (B, k, d)."""
        probes = [
            LossQuery(
                lane.slots,
                self._space.tokens[row].tolist(),
                lane.x0,
                torch.randn(lane.x0.shape, generator=lane.generator),
                self._timesteps[lane.block],
            )
            for lane, row in zip(lanes, choices, strict=True)
        ]
        return gradients(probes, victim)

    def _proposal(self, lane: SimplexLane, victim: DiffusionModel) -> GenerationRequest:
        best = self._space.tokens[lane.u.argmax(-1).cpu()].tolist()
        return propose(lane, lane.slots, best, victim.vocabulary)
