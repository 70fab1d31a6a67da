"""The loss of every search here: the victim's denoising error of a target image, with tokens in a prompt's slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..core.forward_passes import count_forwards
from ..models.batches import in_batches
from ..models.diffusion_model import DiffusionModel
from .slots import Slots


@dataclass(frozen=True)
class LossQuery:
    """One denoising error to measure.

    Attributes:
        slots: the prompt with room for the tokens.
        tokens: ids that fill the slots.
        x0: latents (C, h, w) of the target image.
        noise: standard normal, same shape.
        t: timestep in [0, ``DiffusionModel.timesteps``).
        wanted: what the UNet should predict (C, h, w), where that is not the noise; for all probes of a call or none.
    """

    slots: Slots
    tokens: list[int]
    x0: torch.Tensor
    noise: torch.Tensor
    t: int
    wanted: torch.Tensor | None = None


@torch.no_grad()
def errors(probes: Sequence[LossQuery], victim: DiffusionModel) -> torch.Tensor:
    """Denoising errors (N,) float32 on the CPU; one UNet forward pass each."""
    return torch.cat([torch.empty(0), *(_measure(part, victim)[0][:count].cpu() for count, part in in_batches(probes))])


def gradients(probes: Sequence[LossQuery], victim: DiffusionModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Denoising errors (N,) and their gradients (N, k, d) by the slots' embeddings; two forward passes' work each."""
    found, slopes = [], []
    for count, part in in_batches(probes):
        error, embeddings = _measure(part, victim)
        (slope,) = torch.autograd.grad(error.sum() * victim.gradient_scale, embeddings)
        count_forwards(len(part))
        found.append(error.detach()[:count])
        slopes.append(slope[:count] / victim.gradient_scale)
    return torch.cat(found), torch.cat(slopes)


def _measure(probes: Sequence[LossQuery], victim: DiffusionModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Errors (B,) of one batch, and the slots' embeddings (B, k, d) they depend on."""
    vocabulary, device = victim.vocabulary, victim.device
    ids = torch.stack([probe.slots.padded(probe.tokens, vocabulary) for probe in probes]).to(device)
    where = torch.stack([probe.slots.indices for probe in probes]).to(device)
    chosen = torch.tensor([probe.tokens for probe in probes], dtype=torch.int64, device=device)
    slots = vocabulary.embeddings[chosen].float().requires_grad_(torch.is_grad_enabled())
    embeddings = vocabulary.embeddings[ids].float().scatter(1, where.unsqueeze(-1).expand_as(slots), slots)
    x0 = torch.stack([probe.x0 for probe in probes])
    noise = torch.stack([probe.noise for probe in probes]).to(device)
    t = torch.tensor([probe.t for probe in probes], device=device)
    given = [probe.wanted for probe in probes if probe.wanted is not None]
    wanted = torch.stack(given) if given else None
    return victim.denoising_error(x0, noise, t, victim.encode(ids, embeddings), wanted), slots
