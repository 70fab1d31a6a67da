"""Adversarial tokens in a prompt, and the vocabularies that they are chosen from."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from ...core.attack_config import Placement
from ...core.errors import ModelError

Piece = int | str
"""A piece of a prompt: a token of the vocabulary, or text that need not be one."""


@dataclass(frozen=True)
class Slots:
    """A prompt with room for adversarial tokens.

    Attributes:
        body: pieces of the prompt itself, as far as they are encoded together with the slots.
        positions: of the slots among body and slots together, ascending.
    """

    body: tuple[Piece, ...]
    positions: tuple[int, ...] = ()

    def filled(self, tokens: Sequence[int]) -> list[Piece]:
        """Return body and slots together, with these tokens in the slots."""
        merged = list(self.body)
        for position, token in zip(self.positions, tokens, strict=True):
            merged.insert(position, token)
        return merged


@dataclass(frozen=True)
class FilledPrompt:
    """A prompt with tokens in its slots.

    Attributes:
        slots: the prompt with room for the tokens.
        tokens: of the vocabulary, one per slot.
    """

    slots: Slots
    tokens: tuple[int, ...] = ()

    @property
    def pieces(self) -> list[Piece]:
        """Body and tokens together."""
        return self.slots.filled(self.tokens)


class Vocabulary(ABC):
    """Tokens that a search chooses from: whatever can be typed and is looked up as one embedding by every encoder."""

    @property
    @abstractmethod
    def embeddings(self) -> torch.Tensor:
        """Embeddings (V, d) of the tokens; with several text encoders, theirs side by side in one row."""

    @property
    @abstractmethod
    def typeable(self) -> torch.Tensor:
        """Tokens (V',) int64 that come back from their own text.

        An adversarial prompt is text; a token that does not come back from its own text would be optimised as one
        thing and judged as another.
        """

    @abstractmethod
    def unattacked(self, text: str) -> Slots:
        """Return a prompt without slots."""

    @abstractmethod
    def slots(self, text: str, count: int, placement: Placement) -> Slots:
        """Make room for adversarial tokens in a prompt; a long prompt loses what would push them out.

        Args:
            text: the prompt.
            count: adversarial tokens, at least 1.
            placement: ``prefix`` before the prompt, ``suffix`` after it, ``mid`` in its middle, ``insert`` spread
                evenly through it.

        Raises:
            ValueError: the text encoders have no room for that many tokens.
        """

    @abstractmethod
    def text(self, pieces: Sequence[Piece]) -> str:
        """Return pieces as a person would type them."""

    @abstractmethod
    def count(self, text: str) -> int:
        """Count the tokens that a text is read as, those at its ends included, before it is cut."""


def embedded_prompt(text: str, vocabulary: Vocabulary) -> FilledPrompt:
    """Make room for a free embedding before a prompt, with a placeholder that the prompt does not have.

    Raises:
        ValueError: as ``Vocabulary.slots``.
    """
    return FilledPrompt(vocabulary.slots(text, 1, "prefix"), (placeholder(text, vocabulary),))


def placeholder(text: str, vocabulary: Vocabulary) -> int:
    """Return the last token that is a word in Latin letters and not in a text."""
    used, tokens = text.lower(), vocabulary.typeable
    words = ((token, vocabulary.text([token])) for token in map(int, reversed(tokens)))
    return next(token for token, word in words if word.isascii() and word.isalpha() and word.lower() not in used)


def slot_positions(length: int, count: int, placement: Placement) -> tuple[int, ...]:
    """Return the positions of slots among a prompt's own pieces and the slots together.

    Args:
        length: pieces of the prompt.
        count: slots.
        placement: see ``Vocabulary.slots``.
    """
    match placement:
        case "prefix":
            gaps = [0] * count
        case "suffix":
            gaps = [length] * count
        case "mid":
            gaps = [length // 2] * count
        case "insert":
            gaps = [(i + 1) * (length // (count + 1)) for i in range(count)]
    return tuple(gap + i for i, gap in enumerate(gaps))


class ClipVocabulary(Vocabulary):
    """Tokens of a CLIP tokenizer, which are the pieces of prompts as well.

    Args:
        tokenizer: a CLIP tokenizer of ``transformers``.
        embeddings: token embeddings (V, d).
        others: further tokenizers that read the same text, for encoders beside the first.
    """

    def __init__(self, tokenizer: Any, embeddings: torch.Tensor, others: Sequence[Any] = ()) -> None:
        self._tokenizer = tokenizer
        self._others = others
        self._embeddings = embeddings

    @property
    def embeddings(self) -> torch.Tensor:
        """See ``Vocabulary``."""
        return self._embeddings

    @property
    def length(self) -> int:
        """Positions of the text encoder, the two special tokens included."""
        return int(self._tokenizer.model_max_length)

    @property
    def bos(self) -> int:
        """Id of the token that begins every text."""
        return int(self._tokenizer.bos_token_id)

    @property
    def eos(self) -> int:
        """Id of the token that ends every text."""
        return int(self._tokenizer.eos_token_id)

    @property
    def pad(self) -> int:
        """Id of the token that fills up the rest; not always the end token."""
        return int(self._tokenizer.pad_token_id)

    def ids(self, text: str) -> list[int]:
        """Ids of a text, without special tokens and not truncated."""
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    def padded(self, ids: Sequence[Piece]) -> list[int]:
        """Put ids between begin and end, with padding behind; ``length`` of them."""
        whole = [self.bos, *map(int, ids), self.eos]
        return whole + [self.pad] * (self.length - len(whole))

    def unattacked(self, text: str) -> Slots:
        """See ``Vocabulary``; cut as the tokenizer would."""
        return Slots(tuple(self.ids(text)[: self.length - 2]))

    def slots(self, text: str, count: int, placement: Placement) -> Slots:
        """See ``Vocabulary``."""
        room = self.length - 2 - count
        if room < 0:
            raise ValueError(f"{count} adversarial tokens do not fit into {self.length} positions")
        body = tuple(self.ids(text)[:room])
        return Slots(body, slot_positions(len(body), count, placement))

    def text(self, pieces: Sequence[Piece]) -> str:
        """See ``Vocabulary``."""
        # Not skip_special_tokens: the padding of SD 2.x is "!", which prompts may hold as well.
        return str(self._tokenizer.decode([i for i in pieces if i not in (self.bos, self.eos)])).strip()

    def count(self, text: str) -> int:
        """See ``Vocabulary``."""
        return len(self.ids(text)) + 2

    @cached_property
    def typeable(self) -> torch.Tensor:
        """See ``Vocabulary``."""
        return _typeable((self._tokenizer, *self._others), len(self.embeddings))


_TYPEABLE: weakref.WeakKeyDictionary[Any, dict[tuple[int, ...], torch.Tensor]] = weakref.WeakKeyDictionary()
"""By first tokenizer: reading 49,408 tokens takes seconds, and every gate makes a vocabulary of the same tokenizers."""


def _typeable(tokenizers: Sequence[Any], size: int) -> torch.Tensor:
    """Return the tokens (V',) int64 below ``size`` that every tokenizer reads back from the first one's text."""
    remembered = _TYPEABLE.setdefault(tokenizers[0], {})
    # Added tokens make a tokenizer longer; the others live as long as the pipeline that has them all.
    key = (size, *map(len, tokenizers), *map(id, tokenizers))
    if key not in remembered:
        special = set(tokenizers[0].all_special_ids)
        candidates = [i for i in range(size) if i not in special]
        texts = tokenizers[0].batch_decode([[i] for i in candidates])
        readings = [tokenizer(texts, add_special_tokens=False).input_ids for tokenizer in tokenizers]
        kept = [
            i
            for i, text, *again in zip(candidates, texts, *readings, strict=True)
            if text.strip() and all(ids == [i] for ids in again)
        ]
        if not kept:
            raise ModelError(
                f"none of its tokenizer's {len(candidates)} tokens comes back from its own text, so that no prompt can "
                "be attacked. A tokenizer of transformers loses its decoder in copy.deepcopy: load it again"
            )
        remembered[key] = torch.tensor(kept, dtype=torch.int64)
    return remembered[key]
