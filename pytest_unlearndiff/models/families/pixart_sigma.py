"""PixArt-Sigma (Chen et al. 2024, arXiv 2403.04692): a transformer that predicts noise and its variance, read by T5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .base import Conditioning
from .transformer import DdpmTransformer


class PixArtSigma(DdpmTransformer):
    """A ``PixArtSigmaPipeline`` as attacks need it (``Family``).

    Its pipeline reads lower-case letters only. It would also strip what looks like HTML, where two packages happen to
    be installed; here it never does.
    """

    lower_case = True

    def encode_texts(self, texts: Sequence[str]) -> Conditioning:
        """See ``TypedText``; states (B, L, d) and their mask (B, L)."""
        states, mask, *_ = self._pipe.encode_prompt(
            list(texts), do_classifier_free_guidance=False, max_sequence_length=self._limit
        )
        tensors = {"encoder_hidden_states": states, "encoder_attention_mask": mask}
        return Conditioning(tensors, {"encoder_attention_mask": "encoder_hidden_states"})

    def network_arguments(self, conditioning: Conditioning, latents: torch.Tensor) -> dict[str, Any]:
        """See ``Family``."""
        conditions = {"resolution": None, "aspect_ratio": None}
        return super().network_arguments(conditioning, latents) | {"added_cond_kwargs": conditions}

    def call_arguments(self, guidance: float, steps: int) -> dict[str, Any]:
        """See ``Family``; at its own size, binning of resolutions changes nothing."""
        return super().call_arguments(guidance, steps) | {"clean_caption": False, "use_resolution_binning": False}
