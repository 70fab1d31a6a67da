"""Adversarial tokens of a configuration: where they stand in a prompt, and which tokens a search may choose."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch

from ..core.attack_config import AttackConfig
from ..core.images import GenerationRequest
from ..models.families.vocabulary import Slots, Vocabulary
from .base import PromptState

Choice = tuple[int, ...]
"""Tokens in the slots, as indices into those that a search may choose."""


def slots_of(config: AttackConfig, text: str, vocabulary: Vocabulary) -> Slots:
    """Make room in a prompt as a configuration says.

    Raises:
        ValueError: as ``Vocabulary.slots``.
    """
    return vocabulary.slots(text, config.slots, config.placement)


def propose(state: PromptState, slots: Slots, tokens: list[int], vocabulary: Vocabulary) -> GenerationRequest:
    """Return the request of a state's prompt with these tokens in the slots, as text; note them as inserted."""
    state.inserted = vocabulary.text(tokens)
    return GenerationRequest(vocabulary.text(slots.filled(tokens)), state.prompt.seed, state.prompt.guidance)


def token_ids(choice: Choice, tokens: torch.Tensor) -> list[int]:
    """Return the tokens of a choice among these (V',)."""
    return [int(tokens[index]) for index in choice]


def swapped(choice: Choice, slot: int, token: int) -> Choice:
    """Return a choice with another token in one slot."""
    return (*choice[:slot], token, *choice[slot + 1 :])


def choice_rows(choices: Sequence[Choice], slots: int) -> torch.Tensor:
    """Return choices as a tensor (N, slots) int64, also where there are none."""
    return torch.tensor(choices, dtype=torch.int64).reshape(-1, slots)


class SearchSpace:
    """The tokens that a search may choose.

    Args:
        vocabulary: the victim's.
        typeable: whether only tokens count that survive decoding and tokenizing on their own.
    """

    def __init__(self, vocabulary: Vocabulary, typeable: bool) -> None:
        self._vocabulary = vocabulary
        self._typeable = typeable

    @cached_property
    def tokens(self) -> torch.Tensor:
        """The tokens (V',)."""
        return self._vocabulary.typeable if self._typeable else torch.arange(len(self._vocabulary.embeddings))

    @cached_property
    def embeddings(self) -> torch.Tensor:
        """Embeddings (V', d) float32 of the tokens."""
        embeddings = self._vocabulary.embeddings
        return embeddings[self.tokens.to(embeddings.device)].float()
