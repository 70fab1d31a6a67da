"""Z-Image (Cai et al. 2025, arXiv 2511.22699): flow matching with time the other way round, read by Qwen3."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from .base import Conditioning
from .transformer import FlowTransformer, template_length

_SIDE = 128  # of latents at the pipeline's default size of 1024 pixels


class ZImage(FlowTransformer):
    """A ``ZImagePipeline`` as attacks need it (``Family``).

    Its network counts time from noise to image, predicts the negative of a velocity, and is given lists, since every
    text has a length of its own.
    """

    inputs = ("x", "t")

    @cached_property
    def latent_shape(self) -> tuple[int, int, int]:
        """See ``Family``."""
        side = int(getattr(self._pipe, "default_sample_size", _SIDE))
        return self._network.config.in_channels, side, side

    def text_lengths(self) -> tuple[int, ...]:
        """See ``TypedText``."""
        return (self._limit - template_length(self._pipe.tokenizer),)

    def encode_texts(self, texts: Sequence[str]) -> Conditioning:
        """See ``TypedText``; states (L, d) of each text in its template."""
        states, _ = self._pipe.encode_prompt(
            list(texts), do_classifier_free_guidance=False, max_sequence_length=self._limit
        )
        return Conditioning({"states": tuple(states)})

    def network_arguments(self, conditioning: Conditioning, latents: torch.Tensor) -> dict[str, Any]:
        """See ``Family``."""
        return {"cap_feats": [row.to(latents.dtype) for row in conditioning.tensors["states"]]}

    def network_time(self, t: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """See ``DiffusionTransformer``."""
        return (1000 - t.float()) / 1000

    def pack(self, latents: torch.Tensor) -> Any:
        """See ``DiffusionTransformer``."""
        return list(latents.unsqueeze(2))

    def unpack(self, output: Any, latents: torch.Tensor) -> torch.Tensor:
        """See ``DiffusionTransformer``."""
        return -torch.stack([each.float() for each in output])[:, :, 0]

    def forwards_per_step(self, guidance: float | None = None) -> int:
        """See ``Family``; guidance is added to the text's prediction: 0 is none, and 1 what is 2 elsewhere."""
        return 1 if guidance is not None and guidance <= 0 else 2
