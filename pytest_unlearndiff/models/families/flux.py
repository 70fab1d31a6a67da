"""FLUX.1 (Black Forest Labs 2024): flow matching on latents in patches, read by T5 and, pooled, by CLIP.

The network of FLUX.1 dev was distilled with its guidance, whose scale it is told; that of schnell was distilled to few
steps without guidance. Each computes one pass per step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from inspect import signature
from typing import Any

import torch

from .base import Conditioning
from .transformer import PatchedFlowTransformer
from .typed_text import text_limit


class Flux(PatchedFlowTransformer):
    """A ``FluxPipeline`` as attacks need it (``Family``)."""

    # T5 leads, since CLIP, which knows no capitals, gives the network one vector only.
    encoders = (("tokenizer_2", "text_encoder_2"), ("tokenizer", "text_encoder"))

    @cached_property
    def _limit(self) -> int:
        return text_limit(type(self._pipe).__call__, self._pipe.tokenizer_2)

    @cached_property
    def _scale(self) -> float:
        """Guidance scale that the network is told, the pipeline's own; prompts' are of networks with two passes."""
        return float(signature(type(self._pipe).__call__).parameters["guidance_scale"].default)

    def text_lengths(self) -> tuple[int, ...]:
        """See ``TypedText``."""
        return self._limit, int(self._pipe.tokenizer_max_length)

    def encode_texts(self, texts: Sequence[str]) -> Conditioning:
        """See ``TypedText``; T5's states (B, L, d), and CLIP's pooled ones (B, p)."""
        states, pooled, _ = self._pipe.encode_prompt(list(texts), max_sequence_length=self._limit)
        return Conditioning({"encoder_hidden_states": states, "pooled_projections": pooled})

    def network_arguments(self, conditioning: Conditioning, latents: torch.Tensor) -> dict[str, Any]:
        """See ``Family``; positions of text and patches, and the guidance scale where the network takes one."""
        arguments = super().network_arguments(conditioning, latents)
        states, guided = arguments["encoder_hidden_states"], self._network.config.guidance_embeds
        count, (height, width) = len(latents), (side // 2 for side in latents.shape[2:])
        return arguments | {
            "txt_ids": states.new_zeros(states.shape[1], 3),
            "img_ids": self._pipe._prepare_latent_image_ids(count, height, width, latents.device, latents.dtype),
            "guidance": torch.full((count,), self._scale, device=latents.device) if guided else None,
        }

    def call_arguments(self, guidance: float, steps: int) -> dict[str, Any]:
        """See ``Family``; the guidance scale is the network's, whatever prompts say."""
        return super().call_arguments(self._scale, steps)

    def forwards_per_step(self, guidance: float | None = None) -> int:
        """See ``Family``; guidance is part of the network."""
        return 1
