"""Stable Diffusion 1.x and 2.x: one CLIP text encoder, whose last hidden states condition the UNet."""

from __future__ import annotations

from functools import cached_property

import torch

from ..vocabulary import Vocabulary
from .base import Conditioning
from .latent_diffusion import LatentDiffusion, encode_with, token_embeddings


class StableDiffusion(LatentDiffusion):
    """A ``StableDiffusionPipeline`` as attacks need it (``Family``)."""

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """See ``Family``."""
        return Vocabulary(self._pipe.tokenizer, token_embeddings(self._pipe.text_encoder))

    def encode(self, ids: torch.Tensor, embeddings: torch.Tensor) -> Conditioning:
        """See ``Family``; hidden states (B, L, d)."""
        return Conditioning({"encoder_hidden_states": encode_with(self._pipe.text_encoder, ids, embeddings)[0]})
