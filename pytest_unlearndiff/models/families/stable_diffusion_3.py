"""Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv 2403.03206): flow matching, read by two CLIP encoders and T5."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch

from .base import Conditioning
from .transformer import FlowTransformer
from .typed_text import text_limit


class StableDiffusion3(FlowTransformer):
    """A ``StableDiffusion3Pipeline`` as attacks need it (``Family``)."""

    encoders = (
        ("tokenizer", "text_encoder"),
        ("tokenizer_2", "text_encoder_2"),
        ("tokenizer_3", "text_encoder_3"),
    )

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

    def network_time(self, t: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """See ``DiffusionTransformer``; timesteps, not shares."""
        return t.float()
