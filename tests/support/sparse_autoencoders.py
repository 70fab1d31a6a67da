"""Sparse autoencoders of random weights, as their two published methods save them."""

from __future__ import annotations

import torch

LATENTS = 12


def sae_tensors(width: int) -> dict[str, torch.Tensor]:
    """Return SAeUron's tensors; latents 0 to 2 are biased to be among the largest of nearly every state."""
    draw = torch.Generator().manual_seed(0)
    bias = torch.zeros(LATENTS)
    bias[:3] = 4.0
    return {
        "encoder.weight": torch.randn(LATENTS, width, generator=draw) / width**0.5,
        "encoder.bias": bias,
        "W_dec": torch.randn(LATENTS, width, generator=draw) / width**0.5,
        "b_dec": torch.randn(width, generator=draw) / 10,
    }


def steerers_tensors(width: int) -> dict[str, torch.Tensor]:
    """Return the same autoencoder as Concept Steerers save it."""
    tensors = sae_tensors(width)
    return {
        "pre_bias": tensors["b_dec"],
        "latent_bias": tensors["encoder.bias"],
        "stats_last_nonzero": torch.zeros(LATENTS, dtype=torch.int64),
        "encoder.weight": tensors["encoder.weight"],
        "decoder.weight": tensors["W_dec"].T.contiguous(),
    }
