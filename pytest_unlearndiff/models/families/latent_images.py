"""Latents of images, as autoencoders of diffusers make them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from PIL import Image


class LatentImages(ABC):
    """A mixin: the part of ``Family`` that encodes images, by ``AutoencoderKL`` or ``AutoencoderTiny``."""

    _pipe: Any

    @property
    @abstractmethod
    def _network(self) -> Any:
        """The network that is asked for latents' shape."""

    @cached_property
    def _dtype(self) -> torch.dtype:
        """Type of the network's weights, asked for once: diffusers looks at all of them."""
        dtype: torch.dtype = self._network.dtype
        return dtype

    @cached_property
    def latent_shape(self) -> tuple[int, int, int]:
        """See ``Family``."""
        config = self._network.config
        side = config.sample_size
        height, width = (side, side) if isinstance(side, int) else side
        return config.in_channels, height, width

    @property
    def image_size(self) -> tuple[int, int]:
        """See ``Family``."""
        _, height, width = self.latent_shape
        scale = int(self._pipe.vae_scale_factor)
        return width * scale, height * scale

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """See ``Family``."""
        encoded, config = self._encode_unscaled(images), self._pipe.vae.config
        shift, scale = float(config.get("shift_factor") or 0), float(config.get("scaling_factor", 1))
        if (mean := config.get("latents_mean")) is None or (deviation := config.get("latents_std")) is None:
            return ((encoded - shift) * scale).float()
        center, spread = (encoded.new_tensor(values).view(1, -1, 1, 1) for values in (mean, deviation))
        return ((encoded - center) * scale / spread).float()

    def _pixels(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Return images (B, 3, H, W) as the autoencoder takes them."""
        pixels: torch.Tensor = self._pipe.image_processor.preprocess(list(images))
        return pixels.to(self._pipe._execution_device, self._pipe.vae.dtype)

    def _encode_unscaled(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Return the autoencoder's latents (B, C, h, w), or the means of their distributions."""
        vae = self._pipe.vae
        # Stable Diffusion XL's overflows in half precision; its pipeline draws with it in single precision then.
        upcast = vae.dtype == torch.float16 and bool(vae.config.get("force_upcast"))
        try:
            if upcast:
                vae.float()
            encoded = vae.encode(self._pixels(images))
        finally:
            if upcast:
                vae.half()
        # AutoencoderTiny returns latents where AutoencoderKL returns a distribution of them.
        mean: torch.Tensor = encoded.latents if "latents" in encoded else encoded.latent_dist.mean
        return mean
