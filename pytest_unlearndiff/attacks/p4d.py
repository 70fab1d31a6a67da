"""P4D (Chin et al., ICML 2024, arXiv 2309.06135) as UnlearnDiffAtk's authors run it beside their own attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch

from ..models.families.vocabulary import FilledPrompt
from .gradient import GradientAttack, GradientState
from .losses import LossQuery


class EmbeddingAttack(GradientAttack):
    """Makes the victim predict, with tokens in the prompt, what the un-erased model predicts without.

    Free embeddings (k, d) are optimized. Each step is taken at the tokens nearest to them, and moves the
    embeddings (PEZ, Wen et al. 2023, arXiv 2302.03668).
    """

    passes_per_step: ClassVar[int] = 3
    error_name: ClassVar[str] = "prediction error"

    def _initial(self, generator: torch.Generator) -> torch.Tensor:
        """Return the embeddings of random tokens."""
        embeddings = self._space.embeddings
        tokens = torch.randint(len(self._space.tokens), (self._config.slots,), generator=generator)
        return embeddings[tokens.to(embeddings.device)].clone()

    def _queries(self, states: Sequence[GradientState]) -> list[LossQuery]:
        queries = [self._query(state, self._tokens(state)) for state in states]
        predictions = _base_predictions(states, queries)
        return [replace(query, target=target) for query, target in zip(queries, predictions, strict=True)]

    def _gradient(self, slope: torch.Tensor) -> torch.Tensor:
        return slope

    def _tokens(self, state: GradientState) -> list[int]:
        """Return the tokens with the smallest angles to the free embeddings."""
        normal = torch.nn.functional.normalize
        cosines = normal(state.variable, dim=-1) @ normal(self._space.embeddings, dim=-1).T
        return [int(token) for token in self._space.tokens[cosines.argmax(-1).cpu()]]


@torch.no_grad()
def _base_predictions(states: Sequence[GradientState], queries: Sequence[LossQuery]) -> torch.Tensor:
    """Return the un-erased model's predictions (B, C, h, w) for each state's own prompt, at its query's x_t."""
    base, predictions = states[0].base, []
    assert base is not None
    device = base.device
    for count, part in base.batches(list(zip(states, queries, strict=True))):
        x0, noise = (torch.stack([getattr(query, name) for _, query in part]).to(device) for name in ("x0", "noise"))
        t = torch.tensor([query.t for _, query in part], device=device)
        prompts = [FilledPrompt(base.vocabulary.unattacked(state.prompt.text)) for state, _ in part]
        conditioning = base.encode(prompts)
        x_t, _ = base.add_noise(x0, noise, t)
        predictions.append(base.predict(x_t, t, conditioning)[:count])
    return torch.cat(predictions)
