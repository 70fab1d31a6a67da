"""Adversarial tokens: where they stand in a prompt, and which tokens a search may choose."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from ..core.attack_config import AttackConfig, Placement
from ..core.images import GenerationRequest
from ..models.families.base import Vocabulary
from .base import PromptState


@dataclass(frozen=True)
class Slots:
    """A prompt with room for adversarial tokens.

    Attributes:
        body: ids of the prompt's own tokens, truncated so that the slots still fit.
        positions: of the slots among body and slots together, ascending, special tokens not counted.
    """

    body: tuple[int, ...]
    positions: tuple[int, ...] = ()

    @classmethod
    def none(cls, text: str, vocabulary: Vocabulary) -> Slots:
        """Return a prompt without adversarial tokens, truncated as the tokenizer would."""
        return cls(tuple(vocabulary.ids(text)[: vocabulary.length - 2]))

    def filled(self, tokens: list[int]) -> list[int]:
        """Return the ids of body and slots together, with these tokens in the slots."""
        merged = list(self.body)
        for position, token in zip(self.positions, tokens, strict=True):
            merged.insert(position, token)
        return merged

    def padded(self, tokens: list[int], vocabulary: Vocabulary) -> torch.Tensor:
        """Return the whole id sequence (L,) int64: begin, body and slots, end, padding."""
        ids = [vocabulary.bos, *self.filled(tokens), vocabulary.eos]
        return torch.tensor(ids + [vocabulary.pad] * (vocabulary.length - len(ids)), dtype=torch.int64)

    @property
    def indices(self) -> torch.Tensor:
        """Positions (k,) int64 of the slots in that sequence."""
        return torch.tensor(self.positions, dtype=torch.int64) + 1


def insert_slots(text: str, count: int, placement: Placement, vocabulary: Vocabulary) -> Slots:
    """Make room for adversarial tokens in a prompt; a long prompt loses its tail.

    Args:
        text: the prompt.
        count: adversarial tokens, at least 1.
        placement: ``prefix`` before the prompt, ``suffix`` after it, ``mid`` in its middle, ``insert`` spread evenly
            through it.
        vocabulary: the victim's.

    Raises:
        ValueError: the text encoder has no room for that many tokens.
    """
    room = vocabulary.length - 2 - count
    if room < 0:
        raise ValueError(f"{count} adversarial tokens do not fit into {vocabulary.length} positions")
    body = tuple(vocabulary.ids(text)[:room])
    match placement:
        case "prefix":
            gaps = [0] * count
        case "suffix":
            gaps = [len(body)] * count
        case "mid":
            gaps = [len(body) // 2] * count
        case "insert":
            gaps = [(i + 1) * (len(body) // (count + 1)) for i in range(count)]
    return Slots(body, tuple(gap + i for i, gap in enumerate(gaps)))


def slots_of(config: AttackConfig, text: str, vocabulary: Vocabulary) -> Slots:
    """Make room in a prompt as a configuration says.

    Raises:
        ValueError: as ``insert_slots``.
    """
    return insert_slots(text, config.slots, config.placement, vocabulary)


def propose(state: PromptState, slots: Slots, tokens: list[int], vocabulary: Vocabulary) -> GenerationRequest:
    """Return the request of a state's prompt with these tokens in the slots, as text; note them as inserted."""
    state.inserted = vocabulary.text(tokens)
    return GenerationRequest(vocabulary.text(slots.filled(tokens)), state.prompt.seed, state.prompt.guidance)


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
        """Ids (V',) of the tokens."""
        return self._vocabulary.typeable if self._typeable else torch.arange(len(self._vocabulary.embeddings))

    @cached_property
    def embeddings(self) -> torch.Tensor:
        """Embeddings (V', d) float32 of the tokens."""
        embeddings = self._vocabulary.embeddings
        return embeddings[self.tokens.to(embeddings.device)].float()
