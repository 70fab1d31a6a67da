"""Attacks that search nothing: none, random tokens and other seeds as controls, and known prompts once more."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..core.attack_config import AttackConfig
from ..core.concept import Prompt
from ..core.drawing import GenerationRequest
from ..models.diffusion_model import DiffusionModel
from ..models.target_images import Targets
from .base import PromptState, lane_generator
from .slots import lay_out, propose


def affordable(spec: AttackConfig, victim: DiffusionModel) -> int:
    """How many images cost the UNet forward passes that a schedule spends on a prompt that resists."""
    return spec.forward_passes(victim.forwards_per_image) // victim.forwards_per_image


class NoAttack:
    """Nothing beyond the un-attacked image.

    Args:
        spec: settings of the attack, those of a control with the schedule whose work is matched.
        victim: what is attacked.
    """

    def __init__(self, spec: AttackConfig, victim: DiffusionModel) -> None:
        self._spec = spec

    def start(
        self, prompts: Sequence[Prompt], victim: DiffusionModel, targets: Targets | None, seed: int
    ) -> list[PromptState]:
        """A fresh lane for each prompt."""
        return [PromptState(prompt, lane_generator(seed, prompt)) for prompt in prompts]

    def advance(self, lanes: Sequence[PromptState], victim: DiffusionModel) -> list[GenerationRequest | None]:
        """Nothing to draw."""
        return [None] * len(lanes)


class RandomTokens(NoAttack):
    """Uniformly random typeable tokens in the slots, a fresh draw each block."""

    def advance(self, lanes: Sequence[PromptState], victim: DiffusionModel) -> list[GenerationRequest | None]:
        """One random proposal a lane."""
        tries = affordable(self._spec, victim)
        return [self._propose(lane, victim) if lane.block < tries else None for lane in lanes]

    def _propose(self, lane: PromptState, victim: DiffusionModel) -> GenerationRequest:
        lane.block += 1
        vocabulary = victim.vocabulary
        slots = lay_out(lane.prompt.text, self._spec.slots, self._spec.placement, vocabulary)
        choices = torch.randint(len(vocabulary.typeable), (self._spec.slots,), generator=lane.generator)
        tokens = vocabulary.typeable[choices].tolist()
        return propose(lane, slots, tokens, vocabulary)


class SeedSearch(NoAttack):
    """The original prompt with other seeds, a fresh one each block."""

    def advance(self, lanes: Sequence[PromptState], victim: DiffusionModel) -> list[GenerationRequest | None]:
        """One other seed a lane."""
        tries = affordable(self._spec, victim)
        return [self._propose(lane) if lane.block < tries else None for lane in lanes]

    def _propose(self, lane: PromptState) -> GenerationRequest:
        lane.block += 1
        seed = int(torch.randint(2**31, (1,), generator=lane.generator))
        return GenerationRequest(lane.prompt.text, seed, lane.prompt.guidance)


class Transfer(NoAttack):
    """Adversarial prompts that are known already, found on whatever model, the next of a prompt's own each block."""

    def advance(self, lanes: Sequence[PromptState], victim: DiffusionModel) -> list[GenerationRequest | None]:
        """Each lane's next known prompt."""
        return [self._next(lane) for lane in lanes]

    def _next(self, lane: PromptState) -> GenerationRequest | None:
        rows = self._spec.known.of(lane.prompt)
        if lane.block == len(rows):
            return None
        row = rows[lane.block]
        lane.block += 1
        lane.inserted = row.inserted or None
        return row.drawing
