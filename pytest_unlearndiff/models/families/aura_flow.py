"""AuraFlow (fal 2024): flow matching on latents, read by UMT5, whose states of padding are zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .base import Conditioning
from .transformer import FlowTransformer


class AuraFlow(FlowTransformer):
    """An ``AuraFlowPipeline`` as attacks need it (``Family``)."""

    def encode_texts(self, texts: Sequence[str]) -> Conditioning:
        """See ``TypedText``; states (B, L, d)."""
        states, *_ = self._pipe.encode_prompt(
            list(texts), do_classifier_free_guidance=False, max_sequence_length=self._limit
        )
        return Conditioning({"encoder_hidden_states": states})

    def network_time(self, t: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """See ``DiffusionTransformer``; divided before it is rounded to the latents' type."""
        return (t / 1000).to(latents.dtype)
