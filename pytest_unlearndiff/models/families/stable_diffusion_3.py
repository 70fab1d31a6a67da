"""Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv 2403.03206): flow matching, read by two CLIP encoders and T5."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from ...core.concept import Sampling
from .base import Conditioning
from .transformer import FlowTransformer
from .typed_text import text_limit


class StableDiffusion3(FlowTransformer):
    """A ``StableDiffusion3Pipeline`` as attacks need it (``Family``), with T5 or without.

    Args:
        pipe: the pipeline, whose call puts zeros where T5's states would be if it has none.
        sampling: how evaluation images are drawn.
    """

    encoders: tuple[tuple[str, str], ...] = (
        ("tokenizer", "text_encoder"),
        ("tokenizer_2", "text_encoder_2"),
        ("tokenizer_3", "text_encoder_3"),
    )

    def __init__(self, pipe: Any, sampling: Sampling) -> None:
        super().__init__(pipe, sampling)
        if pipe.text_encoder_3 is None:
            self.encoders = self.encoders[:2]

    @cached_property
    def _limit(self) -> int:
        tokenizers = [getattr(self._pipe, tokenizer) for tokenizer, _ in self.encoders[2:]]
        return text_limit(type(self._pipe).__call__, *tokenizers)

    def text_lengths(self) -> tuple[int, ...]:
        """See ``TypedText``."""
        clip = int(self._pipe.tokenizer_max_length)
        return (clip, clip, self._limit)[: len(self.encoders)]

    def encode_texts(self, texts: Sequence[str]) -> Conditioning:
        """See ``TypedText``; CLIP's and then T5's states (B, L1 + L2, d), and CLIP's pooled ones (B, p)."""
        states, _, pooled, _ = self._pipe.encode_prompt(
            list(texts), None, None, do_classifier_free_guidance=False, max_sequence_length=self._limit
        )
        return Conditioning({"encoder_hidden_states": states, "pooled_projections": pooled})

    def network_time(self, t: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """See ``DiffusionTransformer``; timesteps, not shares."""
        return t.float()
