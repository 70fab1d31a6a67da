"""Qwen-Image (Wu et al. 2025, arXiv 2508.02324): flow matching on patches, read by a vision-language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from .base import Conditioning
from .transformer import PatchedFlowTransformer


class QwenImage(PatchedFlowTransformer):
    """A ``QwenImagePipeline`` as attacks need it (``Family``), one text at a time."""

    def encode_texts(self, texts: Sequence[str]) -> Conditioning:
        """See ``TypedText``; states (L, d) of each text and of the template's end."""
        states, mask = self._pipe.encode_prompt(list(texts), max_sequence_length=self._limit)
        lengths = [states.shape[1]] * len(texts) if mask is None else mask.sum(1).tolist()
        return Conditioning({"states": tuple(row[:length] for row, length in zip(states, lengths, strict=True))})

    def network_arguments(self, conditioning: Conditioning, latents: torch.Tensor) -> dict[str, Any]:
        """See ``Family``; of one text, so that nothing is padded and nothing masked."""
        (states,) = conditioning.tensors["states"]
        height, width = (side // 2 for side in latents.shape[2:])
        return {
            "encoder_hidden_states": states[None].to(latents.dtype),
            "encoder_hidden_states_mask": None,
            "img_shapes": [[(1, height, width)]],
        }

    def unpack(self, output: Any, latents: torch.Tensor) -> torch.Tensor:
        """See ``DiffusionTransformer``; of the only frame."""
        return super().unpack(output, latents)[:, :, 0]

    def _encode_unscaled(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """See ``LatentImages``; its autoencoder is one of videos."""
        mean: torch.Tensor = self._pipe.vae.encode(self._pixels(images).unsqueeze(2)).latent_dist.mean[:, :, 0]
        return mean

    def call_arguments(self, guidance: float, steps: int) -> dict[str, Any]:
        """See ``Family``; guidance needs a negative prompt, for which its authors take a space."""
        arguments = super().call_arguments(guidance, steps)
        return arguments | {"true_cfg_scale": arguments.pop("guidance_scale"), "negative_prompt": " "}
