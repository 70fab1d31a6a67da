"""HunyuanDiT (Li et al. 2024, arXiv 2405.08748): a transformer that predicts velocities, read by Bert and T5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.embeddings import get_2d_rotary_pos_embed
from diffusers.pipelines.hunyuandit.pipeline_hunyuandit import get_resize_crop_region_for_grid

from .base import Conditioning
from .transformer import DdpmTransformer

_STATES = ("encoder_hidden_states", "encoder_hidden_states_t5")
_MASKS = ("text_embedding_mask", "text_embedding_mask_t5")
_LENGTHS = (77, 256)  # tokens that the pipeline's call has its encoders read
_TRAINED = (1024, 1024)  # size of training images that it tells the network
_GRID = 64  # side of the latents that positions are scaled to


class HunyuanDiT(DdpmTransformer):
    """A ``HunyuanDiTPipeline`` as attacks need it (``Family``)."""

    encoders = (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2"))

    def text_lengths(self) -> tuple[int, ...]:
        """See ``TypedText``."""
        return _LENGTHS

    def encode_texts(self, texts: Sequence[str]) -> Conditioning:
        """See ``TypedText``; states (B, L, d) and mask (B, L) of each encoder."""
        tensors = {}
        for index, length in enumerate(_LENGTHS):
            tensors[_STATES[index]], _, tensors[_MASKS[index]], _ = self._pipe.encode_prompt(
                list(texts),
                dtype=self._dtype,
                do_classifier_free_guidance=False,
                max_sequence_length=length,
                text_encoder_index=index,
            )
        # T5's states are also pooled, with those of padding.
        return Conditioning(tensors, dict(zip(_MASKS, (_STATES[0], None), strict=True)))

    def network_arguments(self, conditioning: Conditioning, latents: torch.Tensor) -> dict[str, Any]:
        """See ``Family``; sizes, the only style, and the patches' positions."""
        network, count, device = self._network, len(latents), latents.device
        patch = network.config.patch_size
        height, width = (side // patch for side in latents.shape[2:])
        region = get_resize_crop_region_for_grid((height, width), _GRID // patch)
        head = network.inner_dim // network.num_heads
        sizes = latents.new_tensor([[*_TRAINED, *reversed(self.image_size), 0, 0]])
        return super().network_arguments(conditioning, latents) | {
            "image_meta_size": sizes.repeat(count, 1),
            "style": torch.zeros(count, dtype=torch.int64, device=device),
            "image_rotary_emb": get_2d_rotary_pos_embed(head, region, (height, width), device=device, output_type="pt"),
        }

    def network_time(self, t: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """See ``DiffusionTransformer``."""
        return t.to(latents.dtype)

    def call_arguments(self, guidance: float, steps: int) -> dict[str, Any]:
        """See ``Family``; at its own size, binning of resolutions changes nothing."""
        width, height = self.image_size
        return {
            "guidance_scale": guidance,
            "num_inference_steps": steps,
            "height": height,
            "width": width,
            "use_resolution_binning": False,
        }
