"""An attack that says a prompt twice, then three times."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pytest_unlearndiff.attacks.base import AttackState, PromptState, prompt_generator
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets


class EchoAttack:
    """Repeats each prompt.

    Args:
        config: settings of the gate.
        model: the victim.
    """

    def __init__(self, config: AttackConfig, model: DiffusionModel) -> None:
        self._config = config

    def start(self, prompts: Sequence[Prompt], targets: Targets | None, seed: int) -> list[PromptState]:
        """Return a fresh state for each prompt."""
        return [PromptState(prompt, prompt_generator(seed, prompt)) for prompt in prompts]

    def advance(self, states: Sequence[PromptState]) -> list[GenerationRequest | None]:
        """Return each prompt with one more repetition, None after the second."""
        return [self._repeat(state) for state in states]

    def _repeat(self, state: PromptState) -> GenerationRequest | None:
        if state.round == 2:
            return None
        state.round += 1
        state.inserted = " ".join([state.prompt.text] * state.round)
        return GenerationRequest(f"{state.inserted} {state.prompt.text}", state.prompt.seed, state.prompt.guidance)

    def save(self, state: PromptState) -> AttackState:
        """Return all that a prompt needs to go on after an interruption."""
        return AttackState({"generator": state.generator.get_state()}, {"round": state.round})

    def load(self, prompt: Prompt, saved: AttackState, targets: Targets | None) -> PromptState:
        """Return the state of a prompt as it was saved."""
        generator = torch.Generator().set_state(saved.tensors["generator"])
        return PromptState(prompt, generator, round=saved.facts["round"])
