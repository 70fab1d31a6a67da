"""Diffusion transformers: what most of them have in common, under flow matching and under DDPM's noise schedule."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch

from ...core.concept import Sampling
from .base import Conditioning
from .ddpm import DdpmNoise
from .flow_matching import FlowMatching, check_flow
from .latent_images import LatentImages
from .typed_text import TypedText, text_limit


class DiffusionTransformer(TypedText, LatentImages):
    """A bound pipeline but for its noise and its texts, which subclasses add (``Family``).

    Args:
        pipe: the pipeline.
        sampling: how evaluation images are drawn.
    """

    encoders: tuple[tuple[str, str], ...] = (("tokenizer", "text_encoder"),)
    inputs: ClassVar[tuple[str, str]] = ("hidden_states", "timestep")
    """Names of the network's arguments for latents and time."""

    def __init__(self, pipe: Any, sampling: Sampling) -> None:
        self._pipe = pipe

    @property
    def _network(self) -> Any:
        return self._pipe.transformer

    @cached_property
    def _limit(self) -> int:
        """Tokens of a text that the pipeline's call reads by default."""
        return text_limit(type(self._pipe).__call__, self._pipe.tokenizer)

    def text_lengths(self) -> tuple[int, ...]:
        """See ``TypedText``."""
        return (self._limit,)

    def network_arguments(self, conditioning: Conditioning, latents: torch.Tensor) -> dict[str, Any]:
        """See ``Family``; states in the network's type, masks in theirs."""
        tensors = {name: conditioning.tensor(name) for name in conditioning.tensors}
        return {name: each.to(latents.dtype) if each.is_floating_point() else each for name, each in tensors.items()}

    def network_time(self, t: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """Return timesteps as the network counts time."""
        return t

    def pack(self, latents: torch.Tensor) -> Any:
        """Arrange latents (B, C, h, w) as the network takes them."""
        return latents

    def unpack(self, output: Any, latents: torch.Tensor) -> torch.Tensor:
        """Arrange what the network returns for these latents as they are (B, C, h, w)."""
        assert isinstance(output, torch.Tensor)
        return output

    def predict(self, x_t: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """See ``Family``."""
        x_t = x_t.to(self._dtype)
        inputs = dict(zip(self.inputs, (self.pack(x_t), self.network_time(t, x_t)), strict=True))
        output = self._network(**inputs, **self.network_arguments(conditioning, x_t), return_dict=False)[0]
        return self.unpack(output, x_t).float()

    def call_arguments(self, guidance: float, steps: int) -> dict[str, Any]:
        """See ``Family``; of its own size, since some pipelines have another by default."""
        width, height = self.image_size
        return {
            "guidance_scale": guidance,
            "num_inference_steps": steps,
            "height": height,
            "width": width,
            "max_sequence_length": self._limit,
        }

    def forwards_per_step(self, guidance: float | None = None) -> int:
        """See ``Family``; classifier-free guidance (scale above 1) adds a pass without the text."""
        return 1 if guidance is not None and guidance <= 1 else 2


def template_length(tokenizer: Any, **options: Any) -> int:
    """Count the tokens that a tokenizer's chat template puts around a text."""
    messages = [{"role": "user", "content": ""}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options)
    return len(tokenizer(text).input_ids)


class FlowTransformer(FlowMatching, DiffusionTransformer):
    """A transformer that predicts velocities.

    Raises:
        ModelError: see ``check_flow``.
    """

    def __init__(self, pipe: Any, sampling: Sampling) -> None:
        check_flow(pipe.scheduler, sampling)
        super().__init__(pipe, sampling)

    def network_time(self, t: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """Return the share of noise, in the latents' type before it is divided, as pipelines do."""
        return t.to(latents.dtype) / 1000


class PatchedFlowTransformer(FlowTransformer):
    """A transformer whose latents are cut into patches of 2x2 by its pipeline, as those of FLUX.1 are."""

    @cached_property
    def latent_shape(self) -> tuple[int, int, int]:
        """See ``Family``; before they are cut into patches."""
        side = int(self._pipe.default_sample_size)
        return self._network.config.in_channels // 4, side, side

    def pack(self, latents: torch.Tensor) -> Any:
        """See ``DiffusionTransformer``."""
        return self._pipe._pack_latents(latents, *latents.shape)

    def unpack(self, output: Any, latents: torch.Tensor) -> torch.Tensor:
        """See ``DiffusionTransformer``."""
        scale = int(self._pipe.vae_scale_factor)
        height, width = (scale * side for side in latents.shape[2:])
        unpacked: torch.Tensor = self._pipe._unpack_latents(output, height, width, scale)
        return unpacked


class DdpmTransformer(DdpmNoise, DiffusionTransformer):
    """A transformer that predicts noise or velocities under DDPM's schedule, and perhaps its variance beside them.

    Raises:
        ModelError: see ``check_schedule``.
    """

    def __init__(self, pipe: Any, sampling: Sampling) -> None:
        self._take_schedule(pipe, sampling)
        super().__init__(pipe, sampling)

    def unpack(self, output: Any, latents: torch.Tensor) -> torch.Tensor:
        """See ``DiffusionTransformer``; without the learned variance."""
        prediction: torch.Tensor = output[:, : latents.shape[1]]
        return prediction
