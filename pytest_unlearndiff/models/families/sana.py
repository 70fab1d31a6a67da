"""Sana (Xie et al. 2024, arXiv 2410.10629): flow matching on small latents, read by Gemma behind an instruction."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from PIL import Image

from .base import Conditioning
from .transformer import FlowTransformer


class Sana(FlowTransformer):
    """A ``SanaPipeline`` as attacks need it (``Family``); it reads lower-case letters only."""

    lower_case = True

    def text_lengths(self) -> tuple[int, ...]:
        """See ``TypedText``; two of the instruction's tokens are taken off what it adds."""
        return (self._limit - 1,)

    def encode_texts(self, texts: Sequence[str]) -> Conditioning:
        """See ``TypedText``; states (B, L, d) and their mask (B, L)."""
        # By default ``encode_prompt`` puts nothing before a text; the pipeline's call puts an instruction there.
        name = "complex_human_instruction"
        states, mask, *_ = self._pipe.encode_prompt(
            list(texts),
            do_classifier_free_guidance=False,
            max_sequence_length=self._limit,
            complex_human_instruction=signature(type(self._pipe).__call__).parameters[name].default,
        )
        tensors = {"encoder_hidden_states": states, "encoder_attention_mask": mask}
        return Conditioning(tensors, {"encoder_attention_mask": "encoder_hidden_states"})

    def network_time(self, t: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """See ``DiffusionTransformer``."""
        return t * float(self._network.config.timestep_scale)

    def _encode_unscaled(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """See ``LatentImages``; its autoencoder knows no distribution."""
        encoded: torch.Tensor = self._pipe.vae.encode(self._pixels(images)).latent
        return encoded

    def call_arguments(self, guidance: float, steps: int) -> dict[str, Any]:
        """See ``Family``; at its own size, binning of resolutions changes nothing."""
        return super().call_arguments(guidance, steps) | {"use_resolution_binning": False}
