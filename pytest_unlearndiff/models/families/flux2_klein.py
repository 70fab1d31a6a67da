"""FLUX.2 klein (Black Forest Labs 2026): flow matching on normalised patches of latents, read by Qwen3."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from PIL import Image

from .base import Conditioning
from .transformer import FlowTransformer, template_length


class Flux2Klein(FlowTransformer):
    """A ``Flux2KleinPipeline`` as attacks need it (``Family``).

    Noise is added to the autoencoder's latents in patches of 2x2, normalised by its statistics of them.
    """

    @cached_property
    def latent_shape(self) -> tuple[int, int, int]:
        """See ``Family``."""
        side = int(self._pipe.default_sample_size) // 2
        return self._network.config.in_channels, side, side

    @property
    def image_size(self) -> tuple[int, int]:
        """See ``Family``."""
        width, height = super().image_size
        return 2 * width, 2 * height

    def text_lengths(self) -> tuple[int, ...]:
        """See ``TypedText``."""
        return (self._limit - template_length(self._pipe.tokenizer, enable_thinking=False),)

    def encode_texts(self, texts: Sequence[str]) -> Conditioning:
        """See ``TypedText``; states (B, L, 3 d) of three layers."""
        states, _ = self._pipe.encode_prompt(list(texts), max_sequence_length=self._limit)
        return Conditioning({"encoder_hidden_states": states})

    def network_arguments(self, conditioning: Conditioning, latents: torch.Tensor) -> dict[str, Any]:
        """See ``Family``."""
        states = conditioning.tensor("encoder_hidden_states").to(latents.dtype)
        text, patches = self._pipe._prepare_text_ids(states), self._pipe._prepare_latent_ids(latents)
        return {
            "encoder_hidden_states": states,
            "txt_ids": text.to(latents.device),
            "img_ids": patches.to(latents.device),
        }

    def pack(self, latents: torch.Tensor) -> Any:
        """See ``DiffusionTransformer``."""
        return latents.flatten(2).transpose(1, 2)

    def unpack(self, output: Any, latents: torch.Tensor) -> torch.Tensor:
        """See ``DiffusionTransformer``."""
        unpacked: torch.Tensor = output.transpose(1, 2).reshape(latents.shape)
        return unpacked

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """See ``Family``."""
        encoded: torch.Tensor = self._pipe._encode_vae_image(self._pixels(images), None)
        return encoded.float()

    def forwards_per_step(self, guidance: float | None = None) -> int:
        """See ``Family``; the distilled version ignores guidance."""
        return 1 if self._pipe.config.is_distilled else super().forwards_per_step(guidance)
