"""The relaxation of a token choice: distributions over the vocabulary, and steps that stay among them."""

from __future__ import annotations

import torch


def project(u: torch.Tensor) -> torch.Tensor:
    """Euclidean projection of each row onto the probability simplex, by sorting (Duchi et al. 2008, fig. 1).

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
    """Draw one token a row from distributions (k, V); returns indices (k,) int64."""
    return torch.multinomial(u, 1, generator=generator).squeeze(-1)


def straight_through(gradient: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    """Gradient for the distributions behind sampled tokens.

    The sampled one-hot z gave the embedding z E, so dL/dz = dL/de E^T; the straight-through estimator hands it on to u
    through a hardtanh, that is, clipped to [-1, 1].

    Args:
        gradient: dL/de of the slots' embeddings (..., k, d).
        embeddings: of the tokens in play (V, d).

    Returns:
        Gradient (..., k, V) float32.
    """
    return (gradient.float() @ embeddings.float().T).clamp(-1, 1)
