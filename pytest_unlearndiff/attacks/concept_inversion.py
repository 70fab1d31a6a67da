"""Concept inversion, CCE (Pham et al., ICLR 2024, arXiv 2308.01508): a learned embedding brings a concept back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch

from ..core.images import GenerationRequest
from ..models.families.vocabulary import Slots, embedded_prompt, placeholder
from ..models.tensor_text import pack
from .gradient import GradientAttack, GradientState
from .losses import LossQuery


class InversionAttack(GradientAttack):
    """Textual inversion on the victim, whose weights stay: v* = argmin_v E ||eps - eps_theta(x_t, t, c(v))||^2.

    The expectation is over timesteps and noise (Gal et al. 2022, arXiv 2208.01618, eq. 2, which the paper minimises on
    the erased model). Its authors learn one embedding per concept, from some 25 images, and draw it in place of the
    concept's word. Here each prompt has its own, learned from its one target image and read before the prompt as it
    stands, so that prompts stay independent of each other. Nobody can type an embedding: an attacker needs the weights.

    Args:
        config: the schedule.
        model: the victim.
        schedule: how much work, where not the configuration's.
    """

    @cached_property
    def _scale(self) -> torch.Tensor:
        """Root mean square (d,) of the vocabulary's embeddings; those of several text encoders differ."""
        return self._space.embeddings.square().mean(0).sqrt()

    def _slots(self, text: str) -> Slots:
        return embedded_prompt(text, self._model.vocabulary).slots

    def _initial(self, generator: torch.Generator) -> torch.Tensor:
        """Return the embedding (1, d) of a random token, in units of ``_scale``."""
        token = torch.randint(len(self._space.tokens), (1,), generator=generator)
        return self._space.embeddings[token.to(self._space.embeddings.device)] / self._scale

    def _timestep(self, state: GradientState) -> int | None:
        return None

    def _queries(self, states: Sequence[GradientState]) -> list[LossQuery]:
        """Return queries of the states' embeddings, each at a timestep of its own."""
        return [self._embedding_query(state) for state in states]

    def _embedding_query(self, state: GradientState) -> LossQuery:
        low, high = self._timesteps
        t = int(torch.randint(low, high, (), generator=state.generator))
        noise = torch.randn(state.x0.shape, generator=state.generator)
        embeddings = state.variable.detach() * self._scale
        return LossQuery(state.slots, self._tokens(state), state.x0, noise, t, embeddings=embeddings)

    def _gradient(self, slope: torch.Tensor) -> torch.Tensor:
        return slope * self._scale

    def _tokens(self, state: GradientState) -> list[int]:
        return [placeholder(state.prompt.text, self._model.vocabulary)]

    def _request(self, state: GradientState) -> GenerationRequest:
        prompt = state.prompt
        return GenerationRequest(prompt.text, prompt.seed, prompt.guidance, pack(state.variable[0] * self._scale))
