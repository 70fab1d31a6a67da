"""TraSCE inside a pipeline's own call (Jain et al. 2024, arXiv 2412.07658): predictions and latents led off a concept.

With predictions ``e_u`` of the empty text, ``e_p`` of the text and ``e_n`` of the concept at latents ``x_t``, it guides
by ``e_u + s_g (e_p - e_n)``, so it is enough to return ``e_u + e_p - e_n`` in place of ``e_p`` to classifier-free
guidance. Before the sampler's step it moves latents against the gradient of ``-scale exp(-||e_p - e_n|| / sigma)``:
where a text is predicted nearly as the concept is, still nearer, so that what guidance adds vanishes. The gradient is
written out, since the exponential of a distance is soon zero in half precision.

This follows the authors' program (anubhav1997/TraSCE), where ``scale`` is the product of two options. The paper's own
equations could not be read when this was written, so they are not numbered here, and whether they have the norm squared
is not known. Two things are ours: the norm is of each image by itself, where the program draws one at a time; and a
sampler that scales latents for its network has them moved in that scale, which is the program's for its DDIM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch

from . import DefendedModel
from .concept_guidance import ConceptGuidance, Guide


class Trasce(ConceptGuidance):
    """Guides images away from a concept (``Defense``); attacks search on the weights alone, as it needs guidance.

    A backward pass through the network comes with every step, unless ``scale`` is 0; only forward passes are counted.

    Args:
        concept: what images are guided away from.
        scale: strength of the moves, as text; 0 leaves the guidance alone.
        sigma: how near the predictions must be for latents to be moved, as text; above 0.
    """

    def __init__(self, concept: str, scale: str, sigma: str) -> None:
        super().__init__(concept)
        self._scale = float(scale)
        self._sigma = float(sigma)

    @contextmanager
    def _guide(self, model: DefendedModel) -> Iterator[Guide]:
        steering = Steering(self._scale, self._sigma)
        with _steps_from(model.scheduler, steering.moved):
            yield steering


class Steering(Guide):
    """State that is carried from the network's call to the sampler's step.

    Args:
        scale: strength of the moves.
        sigma: width of the loss; above 0.
    """

    def __init__(self, scale: float, sigma: float) -> None:
        self._scale = scale
        self._sigma = sigma
        self._inputs = torch.empty(0)
        self._moves = torch.empty(0)

    def inputs(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``Guide``: gradients reach the latents, in a pipeline's call, which has none."""
        self._inputs = latents.detach().requires_grad_(self._scale != 0)
        torch.set_grad_enabled(self._scale != 0)
        return self._inputs

    def outputs(self, predictions: torch.Tensor, timestep: Any) -> torch.Tensor:
        """See ``Guide``."""
        free, text, concept = predictions.chunk(3)
        self._moves = torch.zeros_like(text)
        if self._scale:
            distance = (text.float() - concept.float()).flatten(1).norm(dim=1)
            (gradient,) = torch.autograd.grad(distance.sum(), self._inputs)
            strength = self._scale / self._sigma * torch.exp(-distance.detach() / self._sigma)
            self._moves = -strength.view(-1, 1, 1, 1) * gradient.float().reshape(3, *text.shape).sum(0)
            torch.set_grad_enabled(False)
        return torch.cat([free, free + text - concept]).detach()

    def moved(self, latents: torch.Tensor) -> torch.Tensor:
        """Move a sampler's latents (B, C, h, w), of which the network was given a multiple."""
        given = self._inputs.detach()[: len(latents)].float()
        factor = latents.float().flatten(1).norm(dim=1) / given.flatten(1).norm(dim=1)
        moved: torch.Tensor = latents + factor.view(-1, 1, 1, 1) * self._moves
        return moved.to(latents.dtype)


@contextmanager
def _steps_from(scheduler: Any, moved: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Have a scheduler step from other latents; pipelines read its signature, which stays."""
    own = scheduler.step

    @wraps(own)
    def step(output: Any, timestep: Any, sample: torch.Tensor, *rest: Any, **named: Any) -> Any:
        return own(output, timestep, moved(sample), *rest, **named)

    scheduler.step = step
    try:
        yield
    finally:
        del scheduler.step
