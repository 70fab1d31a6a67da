"""Losses of the searches: the victim's denoising error of a target image, alone or against other prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..core.outcome import count_forwards
from ..models.device import error_batch
from ..models.diffusion_model import DiffusionModel
from ..models.families.base import Conditioning
from ..models.families.vocabulary import FilledPrompt, Slots


@dataclass(frozen=True)
class LossQuery:
    """One denoising error to measure.

    Attributes:
        slots: the prompt with room for the tokens.
        tokens: of the victim's vocabulary, which fill the slots.
        x0: latents (C, h, w) of the target image.
        noise: standard normal, same shape.
        t: timestep in [0, ``DiffusionModel.timesteps``).
        target: what the network should predict (C, h, w), where that is not the noise; for all queries of a call or
            none.
        embeddings: free embeddings (k, d) float32 in the slots, in place of the tokens'; likewise.
    """

    slots: Slots
    tokens: list[int]
    x0: torch.Tensor
    noise: torch.Tensor
    t: int
    target: torch.Tensor | None = None
    embeddings: torch.Tensor | None = None

    @property
    def prompt(self) -> FilledPrompt:
        """The prompt with the tokens."""
        return FilledPrompt(self.slots, tuple(self.tokens))


@torch.no_grad()
def denoising_losses(queries: Sequence[LossQuery], model: DiffusionModel) -> torch.Tensor:
    """Return denoising errors (N,) float32 on the CPU; one forward pass each."""
    encoder, losses = _Encoder([query.prompt for query in queries], model), []
    for count, part in model.batches(queries, error_batch()):
        conditioning = encoder.rows([query.prompt for query in part], count)
        losses.append(_errors(part, conditioning, model)[:count])
    # One copy for all: a GPU would stand still at each.
    return torch.cat(losses).cpu() if losses else torch.empty(0)


class _Encoder:
    """Encodes prompts on first use, each once, in batches as full as the network's; forgets them after their last use.

    A text is measured at several timesteps, and a text encoder has a third of a UNet's operations to launch.

    Args:
        prompts: one per use, in their order.
        model: the victim.
    """

    def __init__(self, prompts: Sequence[FilledPrompt], model: DiffusionModel) -> None:
        self._model, self._uses = model, Counter(prompts)
        self._batches = model.batches(list(self._uses), error_batch())
        self._rows: dict[FilledPrompt, Conditioning] = {}

    def rows(self, prompts: Sequence[FilledPrompt], count: int) -> Conditioning:
        """Return one row per prompt, of which only the first ``count`` are uses, and the others copies."""
        while any(prompt not in self._rows for prompt in prompts):
            size, part = next(self._batches)
            encoded = self._model.encode(part)
            self._rows |= {prompt: encoded[row : row + 1] for row, prompt in enumerate(part[:size])}
        conditioning = Conditioning.join([self._rows[prompt] for prompt in prompts])
        self._uses.subtract(prompts[:count])
        for prompt in set(prompts):
            if not self._uses[prompt]:
                del self._rows[prompt]
        return conditioning


def gradients(queries: Sequence[LossQuery], model: DiffusionModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Return denoising errors (N,) and their gradients (N, k, d) by the slots' embeddings.

    Each counts as two forward passes.
    """
    losses, slopes, scale = [], [], model.gradient_scale(queries[0].x0.numel())
    for count, part in model.batches(queries):
        loss, embeddings = _measure(part, model)
        (slope,) = torch.autograd.grad(loss.sum() * scale, embeddings)
        count_forwards(len(part))
        losses.append(loss.detach()[:count])
        slopes.append(slope[:count] / scale)
    return torch.cat(losses), torch.cat(slopes)


def _measure(queries: Sequence[LossQuery], model: DiffusionModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Return errors (B,) of one batch, and the slots' embeddings (B, k, d) they depend on."""
    free = [query.embeddings for query in queries if query.embeddings is not None]
    slots = (torch.stack(free) if free else _looked_up(queries, model)).detach().requires_grad_(True)
    return _errors(queries, model.encode([query.prompt for query in queries], slots), model), slots


def _looked_up(queries: Sequence[LossQuery], model: DiffusionModel) -> torch.Tensor:
    """Return the embeddings (B, k, d) float32 of the tokens in the slots."""
    embeddings = model.vocabulary.embeddings
    chosen = torch.tensor([query.tokens for query in queries], dtype=torch.int64, device=embeddings.device)
    return embeddings[chosen].float()


def _errors(queries: Sequence[LossQuery], conditioning: Conditioning, model: DiffusionModel) -> torch.Tensor:
    """Return errors (B,) of one batch, whose prompts are encoded."""
    x0 = torch.stack([query.x0 for query in queries])
    noise = torch.stack([query.noise for query in queries]).to(x0.device)
    t = torch.tensor([query.t for query in queries], device=x0.device)
    targets = [query.target for query in queries if query.target is not None]
    target = torch.stack(targets) if targets else None
    return model.denoising_error(x0, noise, t, conditioning, target)


@dataclass(frozen=True, eq=False)
class ClassifierLoss:
    """Loss that is low where a prompt denoises better than others, each at the same timesteps and noise.

    A diffusion classifier gives prompt c the probability exp(-e_c) / sum_j exp(-e_j), where e is the squared norm of
    the error (paper, section 4; Li et al. 2023, arXiv 2303.16203). UnlearnDiffAtk drops the other prompts by a bound
    and lowers e_c alone. Here they stay: the loss at one timestep is -log p = log(1 + sum_j exp(e_c - e_j)), which says
    little more where the adversarial prompt already wins, so that the other timesteps decide.

    Attributes:
        others: errors (J, M) of J reference prompts at each of M entries of a noise bank, as means over the latent.
        size: numbers in a latent, which make a norm of a mean.
    """

    others: torch.Tensor
    size: int

    @classmethod
    def against(cls, texts: Sequence[str], bank: Sequence[LossQuery], model: DiffusionModel) -> ClassifierLoss:
        """Measure these prompts, with no token inserted, at the timesteps and noise of ``bank``."""
        plain = [model.vocabulary.unattacked(text) for text in texts]
        queries = [LossQuery(slots, [], entry.x0, entry.noise, entry.t) for slots in plain for entry in bank]
        return cls(denoising_losses(queries, model).reshape(len(texts), len(bank)), bank[0].x0.numel())

    def loss(self, errors: torch.Tensor, entries: Sequence[int]) -> torch.Tensor:
        """Return -log p (N, E) of prompts with these errors (N, E) at these entries of the bank."""
        gaps = self.size * (errors.unsqueeze(1) - self.others[:, list(entries)])
        return torch.cat([torch.zeros_like(gaps[:, :1]), gaps], 1).logsumexp(1)

    def weights(self, errors: torch.Tensor, entries: Sequence[int]) -> torch.Tensor:
        """Return the derivative (N, E) of ``loss`` by the errors: ``size`` times the others' probability."""
        return self.size * (1 - (-self.loss(errors, entries)).exp())
