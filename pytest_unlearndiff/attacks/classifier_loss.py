"""The loss of a diffusion classifier that has to choose between an adversarial prompt and others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..models.diffusion_model import DiffusionModel
from .denoising_loss import LossQuery, errors
from .slots import Slots


@dataclass(frozen=True, eq=False)
class ClassifierLoss:
    """How much better than other prompts a prompt denoises, each at the same timesteps and noise.

    A diffusion classifier gives prompt c the probability exp(-e_c) / sum_j exp(-e_j), where e is the squared norm of
    the error (paper, section 4; Li et al. 2023, arXiv 2303.16203). UnlearnDiffAtk drops the other prompts by a bound
    and lowers e_c alone. Here they stay: the loss at one timestep is -log p = log(1 + sum_j exp(e_c - e_j)), which says
    little more where the adversarial prompt already wins, so that the other timesteps decide.

    Attributes:
        others: errors (J, M) of J reference prompts at each of M entries of a bank, as means over the latent.
        size: numbers in a latent, which make a norm of a mean.
    """

    others: torch.Tensor
    size: int

    @classmethod
    def against(cls, texts: Sequence[str], bank: Sequence[LossQuery], victim: DiffusionModel) -> ClassifierLoss:
        """Measure these prompts, with no token inserted, at the timesteps and noise of ``bank``."""
        vocabulary = victim.vocabulary
        plain = [Slots(tuple(vocabulary.ids(text)[: vocabulary.length - 2]), ()) for text in texts]
        probes = [LossQuery(slots, [], entry.x0, entry.noise, entry.t) for slots in plain for entry in bank]
        return cls(errors(probes, victim).reshape(len(texts), len(bank)), bank[0].x0.numel())

    def loss(self, found: torch.Tensor, entries: Sequence[int]) -> torch.Tensor:
        """-log p (N, E) of prompts with these errors (N, E) at these entries of the bank."""
        gaps = self.size * (found.unsqueeze(1) - self.others[:, list(entries)])
        return torch.cat([torch.zeros_like(gaps[:, :1]), gaps], 1).logsumexp(1)

    def weights(self, found: torch.Tensor, entries: Sequence[int]) -> torch.Tensor:
        """Derivative (N, E) of ``loss`` by the errors: ``size`` times the probability of the other prompts."""
        return self.size * (1 - (-self.loss(found, entries)).exp())
