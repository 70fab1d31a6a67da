"""Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv 2403.03206): flow matching, read by two CLIP encoders and T5."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from ...core.concept import Sampling
from .base import Conditioning
from .flow_matching import FlowMatching, check_flow
from .latent_images import LatentImages
from .typed_text import TypedText, text_limit


class StableDiffusion3(FlowMatching, TypedText, LatentImages):
    """A ``StableDiffusion3Pipeline`` as attacks need it (``Family``).

    Args:
        pipe: the pipeline.
        sampling: how evaluation images are drawn.

    Raises:
        ModelError: see ``check_flow``.
    """

    encoders = (
        ("tokenizer", "text_encoder"),
        ("tokenizer_2", "text_encoder_2"),
        ("tokenizer_3", "text_encoder_3"),
    )

    def __init__(self, pipe: Any, sampling: Sampling) -> None:
        check_flow(pipe.scheduler, sampling)
        self._pipe = pipe

    @property
    def _network(self) -> Any:
        return self._pipe.transformer

    @cached_property
    def _limit(self) -> int:
        return text_limit(type(self._pipe).__call__, self._pipe.tokenizer_3)

    def text_lengths(self) -> tuple[int, ...]:
        """See ``TypedText``."""
        clip = int(self._pipe.tokenizer_max_length)
        return clip, clip, self._limit

    def encode_texts(self, texts: Sequence[str]) -> Conditioning:
        """See ``TypedText``; CLIP's and then T5's states (B, L1 + L2, d), and CLIP's pooled ones (B, p)."""
        states, _, pooled, _ = self._pipe.encode_prompt(
            list(texts), None, None, do_classifier_free_guidance=False, max_sequence_length=self._limit
        )
        return Conditioning({"encoder_hidden_states": states, "pooled_projections": pooled})

    def network_arguments(self, conditioning: Conditioning, latents: torch.Tensor) -> dict[str, Any]:
        """See ``Family``."""
        return {name: conditioning.tensor(name).to(self._network.dtype) for name in conditioning.tensors}

    def predict(self, x_t: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """See ``Family``."""
        x_t = x_t.to(self._network.dtype)
        arguments = self.network_arguments(conditioning, x_t)
        velocity: torch.Tensor = self._network(hidden_states=x_t, timestep=t.float(), **arguments).sample
        return velocity.float()

    def call_arguments(self, guidance: float, steps: int) -> dict[str, Any]:
        """See ``Family``."""
        return {"guidance_scale": guidance, "num_inference_steps": steps, "max_sequence_length": self._limit}

    def forwards_per_step(self, guidance: float | None = None) -> int:
        """See ``Family``; classifier-free guidance (scale above 1) adds a pass without the text."""
        return 1 if guidance is not None and guidance <= 1 else 2
