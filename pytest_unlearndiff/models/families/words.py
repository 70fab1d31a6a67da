"""Words as adversarial tokens, for text encoders whose tokenizers differ: one token each, in every one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from ...core.attack_config import Placement
from .vocabulary import Piece, Slots, Vocabulary, slot_positions


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder as a vocabulary sees it.

    Attributes:
        tokenizer: of ``transformers``.
        embedding: module that looks its tokens up.
        length: tokens that it reads of a text, special ones included.
    """

    tokenizer: Any
    embedding: torch.nn.Module
    length: int


class WordVocabulary(Vocabulary):
    """Words that are one token in every tokenizer, at the beginning of a text and behind a space.

    Pieces of prompts are words: the tokens in slots by their index in the vocabulary, a prompt's own as text.

    Args:
        encoders: the first one's tokens are the candidates.
        device: where the embeddings are; none for that of the first encoder.
        lower_case: the pipeline reads lower-case letters only, whatever is typed.
    """

    def __init__(
        self, encoders: Sequence[TextEncoder], device: torch.device | None = None, *, lower_case: bool = False
    ) -> None:
        self._encoders = encoders
        self._device = device
        self._lower_case = lower_case

    @cached_property
    def _readings(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """Each word's two tokens in every tokenizer: at the beginning of a text, and behind a space."""
        lead = self._encoders[0].tokenizer
        special = set(lead.all_special_ids)
        texts = lead.batch_decode([[i] for i in range(len(lead)) if i not in special])
        words = [text for text in dict.fromkeys(map(str.strip, texts)) if text.isprintable() and len(text.split()) == 1]
        if self._lower_case:
            words = [word for word in words if word == word.lower()]
        readings: dict[str, tuple[tuple[int, int], ...]] = dict.fromkeys(words, ())
        for encoder in self._encoders:
            readings = _read(readings, encoder.tokenizer)
        # Words that no tokenizer tells apart, such as a word in capitals for CLIP, are one: the first.
        first = {reading: word for word, reading in reversed(readings.items())}
        return {word: reading for word, reading in readings.items() if first[reading] == word}

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words, by token."""
        return tuple(self._readings)

    @cached_property
    def embeddings(self) -> torch.Tensor:
        """See ``Vocabulary``; of the tokens behind a space, as the encoders' modules return them."""
        tables = []
        for index, encoder in enumerate(self._encoders):
            weight: Any = encoder.embedding.weight
            ids = torch.tensor([reading[index][1] for reading in self._readings.values()], device=weight.device)
            with torch.no_grad():
                tables.append(encoder.embedding(ids).detach())
        return torch.cat([table.to(self._device or tables[0].device) for table in tables], -1)

    @cached_property
    def widths(self) -> list[int]:
        """Numbers of each encoder's embeddings."""
        weights: list[Any] = [encoder.embedding.weight for encoder in self._encoders]
        return [int(weight.shape[-1]) for weight in weights]

    @cached_property
    def typeable(self) -> torch.Tensor:
        """See ``Vocabulary``: all."""
        return torch.arange(len(self.words))

    @cached_property
    def unlike_pair(self) -> tuple[int, int]:
        """Two tokens that no tokenizer reads alike."""
        first, *others = self._readings.values()
        unlike = (all(set(one).isdisjoint(two) for one, two in zip(first, other, strict=True)) for other in others)
        return 0, 1 + list(unlike).index(True)

    def unattacked(self, text: str) -> Slots:
        """See ``Vocabulary``; the text as it is, which tokenizers cut."""
        return Slots((text,))

    def slots(self, text: str, count: int, placement: Placement) -> Slots:
        """See ``Vocabulary``; words are left out at the end until every encoder reads the last slot."""
        words = text.split()
        while True:
            slots = Slots(tuple(words), slot_positions(len(words), count, placement))
            short = [encoder for encoder in self._encoders if not self._fits(slots, encoder)]
            if not short:
                return slots
            if not words:
                raise ValueError(f"{count} adversarial tokens do not fit into {short[0].length} positions")
            words = words[:-1]

    def _fits(self, slots: Slots, encoder: TextEncoder) -> bool:
        pieces = slots.filled([0] * len(slots.positions))[: slots.positions[-1] + 1]
        return len(_ids(encoder.tokenizer, self.text(pieces))) <= encoder.length

    def text(self, pieces: Sequence[Piece]) -> str:
        """See ``Vocabulary``."""
        return " ".join(piece if isinstance(piece, str) else self.words[piece] for piece in pieces)

    def count(self, text: str) -> int:
        """See ``Vocabulary``; of the encoder that reads most."""
        return len(_ids(max(self._encoders, key=lambda encoder: encoder.length).tokenizer, text))


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, verbose=False).input_ids)


def _read(readings: dict[str, tuple[tuple[int, int], ...]], tokenizer: Any) -> dict[str, tuple[tuple[int, int], ...]]:
    """Keep the words that are one token wherever they stand, with their two tokens behind those of others."""
    special = set(tokenizer.all_special_ids)
    rows = tokenizer([f"{word} {word} {word}" for word in readings], add_special_tokens=False).input_ids
    return {
        word: (*reading, (ids[0], ids[1]))
        for (word, reading), ids in zip(readings.items(), rows, strict=True)
        if len(ids) == 3 and ids[1] == ids[2] and special.isdisjoint(ids)
    }
