"""The victim's tokens: which of them a person can type, and how text becomes ids."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch


class Vocabulary:
    """A CLIP tokenizer and the embedding of its tokens.

    Args:
        tokenizer: a CLIP tokenizer of ``transformers``.
        embeddings: token embeddings (V, d).
        others: further tokenizers that read the same text, for encoders beside the first.
    """

    def __init__(self, tokenizer: Any, embeddings: torch.Tensor, others: Sequence[Any] = ()) -> None:
        self._tokenizer = tokenizer
        self._others = others
        self.embeddings = embeddings

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

    def padded(self, text: str) -> list[int]:
        """Ids of a text with begin, end and padding, cut as the tokenizer would; ``length`` of them."""
        ids = [self.bos, *self.ids(text)[: self.length - 2], self.eos]
        return ids + [self.pad] * (self.length - len(ids))

    def text(self, ids: list[int]) -> str:
        """Ids as a person would type them."""
        # Not skip_special_tokens: the padding of SD 2.x is "!", which prompts may hold as well.
        return str(self._tokenizer.decode([i for i in ids if i not in (self.bos, self.eos)])).strip()

    @cached_property
    def typeable(self) -> torch.Tensor:
        """Ids (V',) int64 of the tokens that survive decoding and tokenizing on their own.

        An adversarial prompt is text; a token that does not come back from its own text would be optimised as one
        thing and judged as another.
        """
        special = set(self._tokenizer.all_special_ids)
        candidates = [i for i in range(len(self.embeddings)) if i not in special]
        texts = self._tokenizer.batch_decode([[i] for i in candidates])
        readings = [each(texts, add_special_tokens=False).input_ids for each in (self._tokenizer, *self._others)]
        kept = [
            i
            for i, text, *again in zip(candidates, texts, *readings, strict=True)
            if text.strip() and all(ids == [i] for ids in again)
        ]
        return torch.tensor(kept, dtype=torch.int64)
