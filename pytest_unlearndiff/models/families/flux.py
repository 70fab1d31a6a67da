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

from ...core.concept import Sampling
from .base import Conditioning
from .flow_matching import FlowMatching, check_flow
from .latent_images import LatentImages
from .typed_text import TypedText, text_limit


class Flux(FlowMatching, TypedText, LatentImages):
    """A ``FluxPipeline`` as attacks need it (``Family``).

    Args:
        pipe: the pipeline.
        sampling: how evaluation images are drawn.

    Raises:
        ModelError: see ``check_flow``.
    """

    # T5 leads, since CLIP, which knows no capitals, gives the network one vector only.
    encoders = (("tokenizer_2", "text_encoder_2"), ("tokenizer", "text_encoder"))

    def __init__(self, pipe: Any, sampling: Sampling) -> None:
        check_flow(pipe.scheduler, sampling)
        self._pipe = pipe

    @property
    def _network(self) -> Any:
        return self._pipe.transformer

    @cached_property
    def latent_shape(self) -> tuple[int, int, int]:
        """See ``Family``; before they are cut into patches."""
        side = int(self._pipe.default_sample_size)
        return self._network.config.in_channels // 4, side, side

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
        network, device = self._network, latents.device
        states = conditioning.tensor("encoder_hidden_states").to(network.dtype)
        count, _, height, width = latents.shape
        patches = self._pipe._prepare_latent_image_ids(count, height // 2, width // 2, device, states.dtype)
        guidance = torch.full((count,), self._scale, device=device) if network.config.guidance_embeds else None
        return {
            "encoder_hidden_states": states,
            "pooled_projections": conditioning.tensor("pooled_projections").to(network.dtype),
            "txt_ids": states.new_zeros(states.shape[1], 3),
            "img_ids": patches,
            "guidance": guidance,
        }

    def predict(self, x_t: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """See ``Family``."""
        x_t = x_t.to(self._network.dtype)
        arguments = self.network_arguments(conditioning, x_t)
        # In the network's type before it is divided, as the pipeline does.
        u = t.to(x_t.dtype) / 1000
        packed = self._pipe._pack_latents(x_t, *x_t.shape)
        velocity = self._network(hidden_states=packed, timestep=u, **arguments).sample
        scale = int(self._pipe.vae_scale_factor)
        height, width = (scale * side for side in x_t.shape[-2:])
        unpacked: torch.Tensor = self._pipe._unpack_latents(velocity, height, width, scale)
        return unpacked.float()

    def call_arguments(self, guidance: float, steps: int) -> dict[str, Any]:
        """See ``Family``; the guidance scale is the network's, whatever prompts say."""
        return {"guidance_scale": self._scale, "num_inference_steps": steps, "max_sequence_length": self._limit}

    def forwards_per_step(self, guidance: float | None = None) -> int:
        """See ``Family``; guidance is part of the network."""
        return 1
