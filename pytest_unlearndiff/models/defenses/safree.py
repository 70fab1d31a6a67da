"""SAFREE's filter of text states (Yoon et al. 2024, arXiv 2410.12761, sections 3.1 and 3.2).

The pooled states of given concepts span a subspace C. A token is near it if, without that token, the prompt is further
from C than prompts without one of its other tokens are on average. States of these tokens are replaced by their part
orthogonal to C, projected on the space that the prompts without one token span: ``P_I (I - P_C) p``. The authors'
program, in copies that were read, takes both projections in the other order. It also puts token 0 at the position of
the one left out, where here attention is kept from it, since embeddings that an attack tries belong to no token.

Left out are the self-validating filter, which returns to the unfiltered text after some denoising steps, so that here
the text is filtered at every step, and the re-attention in latent space. An attack meets more of the text's filter than
the authors' whole pipeline has, and nothing of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from ...core.errors import ModelError
from ..families.vocabulary import FilledPrompt
from . import DefendedModel

_ALPHA = 0.01  # section 3.1: how much further than the mean a prompt without the token must be


class Safree:
    """Filters text states (``Defense``).

    Args:
        concepts: phrases of the concept, separated by semicolons.

    Raises:
        ModelError: there is none.
    """

    extra_forwards_per_step = 0

    def __init__(self, concepts: str) -> None:
        self._concepts = [phrase.strip() for phrase in concepts.split(";") if phrase.strip()]
        if not self._concepts:
            raise ModelError("safree: concepts must name one phrase at least, or several separated by ';'")
        self._subspace: torch.Tensor | None = None

    def call_arguments(self, count: int, guidance: float) -> dict[str, Any]:
        """See ``Defense``."""
        return {}

    @contextmanager
    def applied(self, model: DefendedModel, guidance: float) -> Iterator[None]:
        """See ``Defense``.

        Gradients pass through the projection of the states. Which tokens are near the subspace, and the space that the
        prompts span, are taken as constants.
        """
        encoder = model.module("text_encoder")
        if self._subspace is None:
            self._subspace = _projection(self._pooled_concepts(model, encoder))
        handle = encoder.register_forward_hook(self._filter, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _pooled_concepts(self, model: DefendedModel, encoder: Any) -> torch.Tensor:
        """Pooled states (K, d) of the concepts, unfiltered."""
        vocabulary = model.vocabulary
        rows = [vocabulary.padded(FilledPrompt(vocabulary.unattacked(phrase)).pieces) for phrase in self._concepts]
        return _pooled(encoder, torch.tensor(rows, device=encoder.get_input_embeddings().weight.device))

    def _filter(self, encoder: Any, positional: Any, named: Any, output: Any) -> Any:
        """Filter what a text encoder returns for ids (B, L)."""
        ids = positional[0] if positional else named["input_ids"]
        states = output[0]
        near, change = self._near_and_projection(encoder, ids)
        filtered = (states.float() @ change.mT).to(states.dtype)
        states = torch.where(near.unsqueeze(-1), filtered, states)
        return (states, *output[1:]) if isinstance(output, tuple) else replace(output, last_hidden_state=states)

    @torch.no_grad()
    def _near_and_projection(self, encoder: Any, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return which tokens (B, L) are near the subspace, and ``P_I (I - P_C)`` (B, d, d) of each prompt."""
        assert self._subspace is not None
        length, position = ids.shape[1], torch.arange(ids.shape[1], device=ids.device)
        ends = _ends(encoder, ids).unsqueeze(1)
        tokens = (position >= 1) & (position < ends)
        without = torch.zeros(len(ids), length, len(self._subspace), device=ids.device)
        # One position of all prompts at a time: an attack's embeddings stand in for the look-up of just these rows.
        for i in range(1, int(ends.max())):
            pooled = _pooled(encoder, ids, (position != i).long().expand_as(ids))
            without[:, i] = torch.where(tokens[:, i, None], pooled, 0.0)
        outside = torch.eye(len(self._subspace), device=ids.device) - self._subspace
        distance = (without @ outside).norm(dim=-1)
        mean_of_others = (distance.sum(1, keepdim=True) - distance) / (tokens.sum(1, keepdim=True) - 1).clamp(min=1)
        return tokens & (distance > (1 + _ALPHA) * mean_of_others), _projection(without) @ outside


def _projection(rows: torch.Tensor) -> torch.Tensor:
    """Return the orthogonal projection (..., d, d) on the span of rows (..., n, d); rows of zeros count for nothing."""
    projection: torch.Tensor = torch.linalg.pinv(rows) @ rows
    return projection


def _ends(encoder: Any, ids: torch.Tensor) -> torch.Tensor:
    """Return the positions (B,) of the tokens that end texts, as CLIP finds them; 2 is an old, wrong configuration."""
    end = encoder.config.eos_token_id
    return ids.argmax(1) if end == 2 else (ids == end).int().argmax(1)


@torch.no_grad()
def _pooled(encoder: Any, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Return a text's states at its end (B, d) float32, without hooks of the encoder itself."""
    pooled: torch.Tensor = encoder.forward(ids, attention_mask=mask)[1]
    return pooled.float()
