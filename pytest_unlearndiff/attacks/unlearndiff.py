"""UnlearnDiffAtk (Zhang et al., ECCV 2024), whose own search is gradient descent on distributions over tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..core.attack_config import AttackConfig
from ..models.diffusion_model import DiffusionModel
from .gradient import GradientAttack, GradientState
from .losses import LossQuery
from .schedules import RepeatedNoiseSchedule, TokenSwapSchedule
from .token_swaps import TokenSwapAttack


def create(config: AttackConfig, model: DiffusionModel) -> SimplexAttack | TokenSwapAttack:
    """Return the search for the configuration's schedule."""
    return (TokenSwapAttack if isinstance(config.settings, TokenSwapSchedule) else SimplexAttack)(config, model)


class SimplexAttack(GradientAttack):
    """Upstream's search in batches: states share one call of the network, and none sees another's gradient.

    One distribution over the searched vocabulary is optimized for each slot (k, V').
    """

    def _initial(self, generator: torch.Generator) -> torch.Tensor:
        """Return distributions in which every token is equally likely."""
        size = len(self._space.tokens)
        return torch.full((self._config.slots, size), 1 / size, device=self._model.device)

    def _start_round(self, states: Sequence[GradientState]) -> None:
        if isinstance(self._schedule, RepeatedNoiseSchedule):
            for state in states:
                state.generator.manual_seed(state.generator.initial_seed())

    def _queries(self, states: Sequence[GradientState]) -> list[LossQuery]:
        """Return queries of tokens drawn from the states' distributions."""
        distributions = torch.stack([state.variable for state in states]).cpu()
        choices = [sample(each, state.generator) for each, state in zip(distributions, states, strict=True)]
        return [
            self._query(state, self._space.tokens[choice].tolist())
            for state, choice in zip(states, choices, strict=True)
        ]

    def _gradient(self, slope: torch.Tensor) -> torch.Tensor:
        return straight_through(slope, self._space.embeddings)

    def _finish_step(self, states: Sequence[GradientState]) -> None:
        """Project onto the simplex (paper, section 5; step and projection as upstream's)."""
        projected = project(torch.stack([state.variable for state in states]))
        for state, distributions in zip(states, projected, strict=True):
            state.variable.copy_(distributions)

    def _tokens(self, state: GradientState) -> list[int]:
        """Return the most likely token of each slot."""
        ids: list[int] = self._space.tokens[state.variable.argmax(-1).cpu()].tolist()
        return ids


def project(u: torch.Tensor) -> torch.Tensor:
    """Project each row onto the probability simplex, by sorting (Duchi et al. 2008, fig. 1).

    Args:
        u: any real numbers (..., V).

    Returns:
        The nearest points with non-negative entries that sum to one, same shape and dtype.
    """
    ordered, _ = u.sort(dim=-1, descending=True)
    excess = ordered.cumsum(-1) - 1
    rank = torch.arange(1, u.shape[-1] + 1, device=u.device, dtype=u.dtype)
    support = (ordered * rank > excess).sum(-1, keepdim=True)
    threshold = excess.gather(-1, support - 1) / support.to(u.dtype)
    return (u - threshold).clamp(min=0)


def sample(u: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw one token per row from distributions (k, V); return indices (k,) int64."""
    return torch.multinomial(u, 1, generator=generator).squeeze(-1)


def straight_through(gradient: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    """Return the gradient for the distributions behind sampled tokens.

    The sampled one-hot z gave the embedding z E, so dL/dz = dL/de E^T; the straight-through estimator hands it on to u
    through a hardtanh, that is, clipped to [-1, 1].

    Args:
        gradient: dL/de of the slots' embeddings (..., k, d).
        embeddings: of the tokens in play (V, d).

    Returns:
        Gradient (..., k, V) float32.
    """
    return (gradient.float() @ embeddings.float().T).clamp(-1, 1)
