"""Chroma (Lodestone Rock 2025): FLUX.1's transformer without guidance or pooled text, read by T5 under a mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .base import Conditioning
from .transformer import PatchedFlowTransformer


class Chroma(PatchedFlowTransformer):
    """A ``ChromaPipeline`` as attacks need it (``Family``)."""

    def encode_texts(self, texts: Sequence[str]) -> Conditioning:
        """See ``TypedText``; states (B, L, d) and their mask (B, L)."""
        states, _, mask, *_ = self._pipe.encode_prompt(
            list(texts), do_classifier_free_guidance=False, max_sequence_length=self._limit
        )
        tensors = {"encoder_hidden_states": states, "attention_mask": mask}
        # Attention adds it to its scores (huggingface/diffusers issue 13619): padding counts less, but is read.
        return Conditioning(tensors, {"attention_mask": None})

    def network_arguments(self, conditioning: Conditioning, latents: torch.Tensor) -> dict[str, Any]:
        """See ``Family``; the mask goes on over the patches."""
        arguments = super().network_arguments(conditioning, latents)
        states, mask = arguments["encoder_hidden_states"], arguments["attention_mask"]
        count, (height, width) = len(latents), (side // 2 for side in latents.shape[2:])
        patches = self._pipe._prepare_latent_image_ids(count, height, width, latents.device, latents.dtype)
        return {
            "encoder_hidden_states": states,
            "attention_mask": self._pipe._prepare_attention_mask(count, height * width, latents.dtype, mask),
            "txt_ids": states.new_zeros(states.shape[1], 3),
            "img_ids": patches,
        }
