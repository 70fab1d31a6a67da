"""Attacks that search nothing: none, random tokens and other seeds as controls, and known prompts once more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch

from ..core.concept import Prompt
from ..core.images import GenerationRequest
from ..models.target_images import Targets
from .base import PromptAttack, PromptState, prompt_generator
from .slots import propose, slots_of


class NoAttack(PromptAttack[PromptState]):
    """Nothing beyond the un-attacked image."""

    def start(self, prompts: Sequence[Prompt], targets: Targets | None, seed: int) -> list[PromptState]:
        """Return a fresh state for each prompt."""
        return [PromptState(prompt, prompt_generator(seed, prompt)) for prompt in prompts]

    def _tensors(self, state: PromptState) -> dict[str, torch.Tensor]:
        return {}

    def _restore(
        self, prompt: Prompt, generator: torch.Generator, tensors: Mapping[str, torch.Tensor], targets: Targets | None
    ) -> PromptState:
        return PromptState(prompt, generator)

    def advance(self, states: Sequence[PromptState]) -> list[GenerationRequest | None]:
        """Return no request."""
        return [None] * len(states)


class Redraw(NoAttack, ABC):
    """An attack that draws once a round, and learns nothing from what it drew."""

    def advance(self, states: Sequence[PromptState]) -> list[GenerationRequest | None]:
        """Return the next request of each state."""
        return [self._advance(state) if state.round < self._rounds(state) else None for state in states]

    def _advance(self, state: PromptState) -> GenerationRequest:
        state.round += 1
        return self._request(state)

    @abstractmethod
    def _rounds(self, state: PromptState) -> int:
        """Return how many images are drawn of a prompt."""

    @abstractmethod
    def _request(self, state: PromptState) -> GenerationRequest:
        """Return the request of a round that has begun."""


class _MatchedControl(Redraw):
    """A control that draws as many images as cost the forward passes of its schedule."""

    def _rounds(self, state: PromptState) -> int:
        return self._config.matched_rounds(self._model.forwards_per_image)


class RandomTokens(_MatchedControl):
    """Uniformly random typeable tokens in the slots, a fresh draw each round."""

    def _request(self, state: PromptState) -> GenerationRequest:
        vocabulary = self._model.vocabulary
        slots = slots_of(self._config, state.prompt.text, vocabulary)
        choices = torch.randint(len(vocabulary.typeable), (self._config.slots,), generator=state.generator)
        return propose(state, slots, vocabulary.typeable[choices].tolist(), vocabulary)


class SeedSearch(_MatchedControl):
    """The original prompt with other seeds, a fresh one each round."""

    def _request(self, state: PromptState) -> GenerationRequest:
        seed = int(torch.randint(2**31, (1,), generator=state.generator))
        return GenerationRequest(state.prompt.text, seed, state.prompt.guidance)


class Transfer(Redraw):
    """Known adversarial prompts, found on whatever model, the next of a prompt's own each round."""

    def _rounds(self, state: PromptState) -> int:
        return len(self._config.known.of(state.prompt))

    def _request(self, state: PromptState) -> GenerationRequest:
        row = self._config.known.of(state.prompt)[state.round - 1]
        state.inserted = row.inserted or None
        return row.drawing
