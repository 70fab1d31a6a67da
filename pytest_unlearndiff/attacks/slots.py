"""Where adversarial tokens stand in a prompt."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..core.attack_config import Placement
from ..core.drawing import GenerationRequest
from ..models.vocabulary import Vocabulary
from .base import PromptState


@dataclass(frozen=True)
class Slots:
    """A prompt with room for adversarial tokens.

    Attributes:
        body: ids of the prompt's own tokens, truncated so that the slots still fit.
        positions: where the slots stand among body and slots together, ascending, special tokens not counted.
    """

    body: tuple[int, ...]
    positions: tuple[int, ...]

    def filled(self, tokens: list[int]) -> list[int]:
        """Body and slots together, with these tokens in the slots."""
        merged = list(self.body)
        for position, token in zip(self.positions, tokens, strict=True):
            merged.insert(position, token)
        return merged

    def padded(self, tokens: list[int], vocabulary: Vocabulary) -> torch.Tensor:
        """The whole id sequence (L,) int64: begin, body and slots, end, padding."""
        ids = [vocabulary.bos, *self.filled(tokens), vocabulary.eos]
        return torch.tensor(ids + [vocabulary.pad] * (vocabulary.length - len(ids)), dtype=torch.int64)

    @property
    def indices(self) -> torch.Tensor:
        """Positions (k,) int64 of the slots in that sequence."""
        return torch.tensor(self.positions, dtype=torch.int64) + 1


def propose(lane: PromptState, slots: Slots, tokens: list[int], vocabulary: Vocabulary) -> GenerationRequest:
    """What a lane wants drawn: its prompt with these tokens in the slots, as text; notes them as inserted."""
    lane.inserted = vocabulary.text(tokens)
    return GenerationRequest(vocabulary.text(slots.filled(tokens)), lane.prompt.seed, lane.prompt.guidance)


def lay_out(text: str, count: int, placement: Placement, vocabulary: Vocabulary) -> Slots:
    """Make room for ``count`` adversarial tokens in a prompt.

    A long prompt loses its tail, as the tokenizer would cut it once the tokens are in it.

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
