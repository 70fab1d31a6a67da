"""The tokens that a gradient search may choose from."""

from __future__ import annotations

from functools import cached_property

import torch

from ..models.vocabulary import Vocabulary


class SearchSpace:
    """A vocabulary, or those of its tokens that a person can type.

    Args:
        vocabulary: the victim's.
        typeable: whether only tokens count that survive decoding and tokenizing on their own.
    """

    def __init__(self, vocabulary: Vocabulary, typeable: bool) -> None:
        self._vocabulary = vocabulary
        self._typeable = typeable

    @cached_property
    def tokens(self) -> torch.Tensor:
        """Ids (V',) of the searched tokens."""
        return self._vocabulary.typeable if self._typeable else torch.arange(len(self._vocabulary.embeddings))

    @cached_property
    def embeddings(self) -> torch.Tensor:
        """Embeddings (V', d) of the searched tokens, in the text encoder's dtype."""
        embeddings = self._vocabulary.embeddings
        return embeddings[self.tokens.to(embeddings.device)]
