"""P4D (Chin et al., ICML 2024, arXiv 2309.06135) as UnlearnDiffAtk's authors run it beside their own attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from ..core.attack_config import AttackConfig
from ..core.concept import Prompt
from ..core.drawing import GenerationRequest
from ..core.registry import Schedule
from ..models.batches import in_batches
from ..models.diffusion_model import DiffusionModel
from ..models.target_images import Targets
from .base import PromptState, lane_generator, note_overflow, one_block
from .denoising_loss import LossQuery, gradients
from .schedules import EmbeddingSchedule
from .search_space import SearchSpace
from .slots import Slots, lay_out, propose


@dataclass(eq=False)
class EmbeddingLane(PromptState):
    """A lane that searches token embeddings.

    Attributes:
        slots: the prompt with room for the tokens.
        plain: ids (L,) of the prompt without them, padded.
        x0: latents (C, h, w) of the target image.
        free: the embeddings (k, d) that are optimised, float32; they need not belong to any token.
        optimiser: Adam on ``free``.
        base: the un-erased model, whose prediction is the target.
    """

    slots: Slots = field(kw_only=True)
    plain: torch.Tensor = field(kw_only=True)
    x0: torch.Tensor = field(kw_only=True)
    free: torch.Tensor = field(kw_only=True)
    optimiser: torch.optim.Optimizer = field(kw_only=True)
    base: DiffusionModel = field(kw_only=True)


class EmbeddingSearch:
    """Makes the victim predict, with tokens in the prompt, what the un-erased model predicts without.

    Each step is taken at the tokens nearest to the free embeddings, and moves the embeddings (PEZ, Wen et al. 2023,
    arXiv 2302.03668).

    Args:
        spec: slots, placement and schedule.
        victim: what is attacked.
        schedule: how much work, where not the configuration's.
    """

    def __init__(self, spec: AttackConfig, victim: DiffusionModel, schedule: Schedule | None = None) -> None:
        schedule = schedule or spec.settings
        assert isinstance(schedule, EmbeddingSchedule)
        self._spec = spec
        self._schedule = schedule
        self._timesteps = [victim.timestep(share) for share in schedule.timesteps]
        self._victim = victim
        self._space = SearchSpace(victim.vocabulary, schedule.typeable)

    @cached_property
    def _embeddings(self) -> torch.Tensor:
        """Embeddings (V', d) float32 of the searched vocabulary."""
        return self._space.embeddings.float()

    def start(
        self, prompts: Sequence[Prompt], victim: DiffusionModel, targets: Targets | None, seed: int
    ) -> list[EmbeddingLane]:
        """A fresh lane for each prompt, at random tokens."""
        assert targets is not None
        latents = targets.latents(prompts, victim)
        return [self._lane(prompt, x0, targets.base, seed) for prompt, x0 in zip(prompts, latents, strict=True)]

    def _lane(self, prompt: Prompt, x0: torch.Tensor, base: DiffusionModel, seed: int) -> EmbeddingLane:
        generator, vocabulary = lane_generator(seed, prompt), self._victim.vocabulary
        first = torch.randint(len(self._space.tokens), (self._spec.slots,), generator=generator)
        free = self._embeddings[first.to(self._embeddings.device)].clone()
        body = tuple(vocabulary.ids(prompt.text)[: vocabulary.length - 2])
        return EmbeddingLane(
            prompt,
            generator,
            slots=lay_out(prompt.text, self._spec.slots, self._spec.placement, vocabulary),
            plain=Slots(body, ()).padded([], vocabulary),
            x0=x0.clone(),
            free=free,
            optimiser=torch.optim.Adam([free], lr=self._schedule.learning_rate, weight_decay=self._schedule.decay),
            base=base,
        )

    def advance(self, lanes: Sequence[EmbeddingLane], victim: DiffusionModel) -> list[GenerationRequest | None]:
        """One block of optimiser steps on every lane, then the tokens nearest to each lane's embeddings as text."""
        live = one_block(lanes, self._timesteps, self._schedule.steps, lambda some: self._step(some, victim))
        return [
            propose(lane, lane.slots, self._nearest(lane), victim.vocabulary) if lane in live else None
            for lane in lanes
        ]

    def _step(self, lanes: Sequence[EmbeddingLane], victim: DiffusionModel) -> None:
        """One Adam step on every lane."""
        if not lanes:
            return
        probes = [self._probe(lane, victim) for lane in lanes]
        wanted = _predictions(lanes, probes)
        probes = [LossQuery(p.slots, p.tokens, p.x0, p.noise, p.t, w) for p, w in zip(probes, wanted, strict=True)]
        error, slopes = gradients(probes, victim)
        for lane, loss, slope in zip(lanes, error, slopes, strict=True):
            lane.steps += 1
            lane.forwards += 3
            if note_overflow(lane, f"the prediction error or its gradient at step {lane.steps}", loss, slope):
                continue
            lane.free.grad = slope
            lane.optimiser.step()

    def _probe(self, lane: EmbeddingLane, victim: DiffusionModel) -> LossQuery:
        noise = torch.randn(lane.x0.shape, generator=lane.generator)
        return LossQuery(lane.slots, self._nearest(lane), lane.x0, noise, self._timesteps[lane.block])

    def _nearest(self, lane: EmbeddingLane) -> list[int]:
        """Ids of the tokens with the smallest angles to a lane's embeddings."""
        normal = torch.nn.functional.normalize
        closeness = normal(lane.free, dim=-1) @ normal(self._embeddings, dim=-1).T
        return [int(token) for token in self._space.tokens[closeness.argmax(-1).cpu()]]


@torch.no_grad()
def _predictions(lanes: Sequence[EmbeddingLane], probes: Sequence[LossQuery]) -> torch.Tensor:
    """What the un-erased model predicts (B, C, h, w) for each lane's own prompt, at its probe's x_t."""
    base, found = lanes[0].base, []
    for count, part in in_batches(list(zip(lanes, probes, strict=True))):
        x0, noise = (torch.stack([getattr(p, name) for _, p in part]).to(base.device) for name in ("x0", "noise"))
        t = torch.tensor([probe.t for _, probe in part], device=base.device)
        ids = torch.stack([lane.plain for lane, _ in part]).to(base.device)
        states = base.encode(ids, base.vocabulary.embeddings[ids])
        x_t, _ = base.add_noise(x0, noise, t)
        found.append(base.predict(x_t, t, states)[:count])
    return torch.cat(found)
