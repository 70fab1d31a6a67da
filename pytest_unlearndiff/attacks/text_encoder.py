"""Attacks on the un-erased text encoder alone, which see nothing of the victim but its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch

from ..models.diffusion_model import DiffusionModel
from ..models.families.vocabulary import FilledPrompt, Slots
from .base import PromptAttack, PromptState
from .slots import Choice, choice_rows, token_ids

PHRASES = ("{}", "a {}", "a photo of a {}", "a picture of a {}", "a drawing of one {}")
"""Texts with a concept's word and, for a difference, without it."""

StateT = TypeVar("StateT", bound=PromptState)


class TextEncoderAttack(PromptAttack[StateT]):
    """Base of attacks that compare text encodings of the un-erased model."""

    def _phrases(self, base: DiffusionModel) -> torch.Tensor:
        """Return the encodings (N, n) float32 of PHRASES with the concept's word.

        Raises:
            ValueError: the configuration has no word.
        """
        word = self._config.word
        if not word:
            raise ValueError(f"{self._config.name} needs the concept's word")
        return base.encode_prompts([phrase.format(word) for phrase in PHRASES]).vectors()

    @torch.no_grad()
    def _vectors(self, slots: Slots, choices: Sequence[Choice], base: DiffusionModel) -> torch.Tensor:
        """Return the encodings (N, n) float32 of a prompt with each of these choices in its slots."""
        prompts = [FilledPrompt(slots, tuple(token_ids(choice, base.vocabulary.typeable))) for choice in choices]
        return torch.cat([base.encode(part).vectors()[:count] for count, part in base.batches(prompts)])

    def _rows(self, choices: Sequence[Choice]) -> torch.Tensor:
        return choice_rows(choices, self._config.slots)
