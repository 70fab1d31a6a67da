"""The common part of Stable Diffusion 1, 2 and XL: a UNet on an autoencoder's latents, under DDPM's noise schedule."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from PIL import Image

from ...core.concept import Sampling
from ...core.errors import ModelError
from .. import noise_schedules
from .base import Conditioning

_PREDICTIONS = (None, "epsilon", "v_prediction", "sample")


class LatentDiffusion:
    """A bound pipeline but for its text encoders, which subclasses add (``Family``).

    Args:
        pipe: the pipeline, whose scheduler may be replaced.
        sampling: how evaluation images are drawn.

    Raises:
        ModelError: its noise schedule is not DDPM's, its network predicts something else than noise, velocity or
            the sample, or its scheduler cannot be replaced as ``sampling`` asks.
    """

    def __init__(self, pipe: Any, sampling: Sampling) -> None:
        _check_schedule(pipe.scheduler, sampling)
        self._noise: Any = noise_schedules.ddpm(pipe.scheduler)
        if sampling.scheduler == "lms":
            pipe.scheduler = noise_schedules.lms(pipe.scheduler, sampling.spacing)
        self._pipe = pipe

    @cached_property
    def latent_shape(self) -> tuple[int, int, int]:
        """See ``Family``."""
        config = self._pipe.unet.config
        side = config.sample_size
        height, width = (side, side) if isinstance(side, int) else side
        return config.in_channels, height, width

    @property
    def image_size(self) -> tuple[int, int]:
        """See ``Family``."""
        _, height, width = self.latent_shape
        scale = int(self._pipe.vae_scale_factor)
        return width * scale, height * scale

    @property
    def timesteps(self) -> int:
        """See ``Family``."""
        return int(self._noise.config.num_train_timesteps)

    def timestep(self, share: float) -> int:
        """See ``Family``."""
        return round(share * self.timesteps)

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``Family``."""
        match self._noise.config.prediction_type:
            case "v_prediction":
                target = self._noise.get_velocity(x0, noise, t)
            case "sample":
                target = x0
            case _:
                target = noise
        return self._noise.add_noise(x0, noise, t), target

    def encode(self, ids: torch.Tensor, embeddings: torch.Tensor) -> Conditioning:
        """See ``Family``."""
        raise NotImplementedError

    def network_arguments(self, conditioning: Conditioning, latents: torch.Tensor) -> dict[str, Any]:
        """See ``Family``."""
        dtype = self._pipe.unet.dtype
        return {"encoder_hidden_states": conditioning.tensors["encoder_hidden_states"].to(dtype)}

    def predict(self, x_t: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """See ``Family``."""
        x_t = x_t.to(self._pipe.unet.dtype)
        sample: torch.Tensor = self._pipe.unet(x_t, t, **self.network_arguments(conditioning, x_t)).sample
        return sample.float()

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """See ``Family``."""
        encoded, config = self._encode_unscaled(images), self._pipe.vae.config
        shift, scale = float(config.get("shift_factor") or 0), float(config.scaling_factor)
        if (mean := config.get("latents_mean")) is None or (deviation := config.get("latents_std")) is None:
            return ((encoded - shift) * scale).float()
        center, spread = (encoded.new_tensor(values).view(1, -1, 1, 1) for values in (mean, deviation))
        return ((encoded - center) * scale / spread).float()

    def _encode_unscaled(self, images: Sequence[Image.Image]) -> torch.Tensor:
        vae = self._pipe.vae
        # Stable Diffusion XL's overflows in half precision; its pipeline draws with it in single precision then.
        upcast = vae.dtype == torch.float16 and bool(vae.config.get("force_upcast"))
        try:
            if upcast:
                vae.float()
            pixels = self._pipe.image_processor.preprocess(list(images)).to(vae.device, vae.dtype)
            encoded = vae.encode(pixels)
        finally:
            if upcast:
                vae.half()
        # AutoencoderTiny returns latents where AutoencoderKL returns a distribution of them.
        mean: torch.Tensor = encoded.latents if "latents" in encoded else encoded.latent_dist.mean
        return mean

    def call_arguments(self, guidance: float, steps: int) -> dict[str, Any]:
        """See ``Family``."""
        return {"guidance_scale": guidance, "num_inference_steps": steps}

    def forwards_per_step(self, guidance: float | None = None) -> int:
        """See ``Family``; classifier-free guidance (scale above 1) adds a pass without the text."""
        return 1 if guidance is not None and guidance <= 1 else 2


def token_embeddings(encoder: Any) -> torch.Tensor:
    """Return the token embeddings (V, d) of a text encoder."""
    weights: torch.Tensor = encoder.get_input_embeddings().weight.detach()
    return weights


def encode_with(encoder: Any, ids: torch.Tensor, embeddings: torch.Tensor, **options: Any) -> Any:
    """Run a text encoder on embeddings (B, L, d) in place of those of its ids (B, L)."""
    # No version of CLIPTextModel takes inputs_embeds, but every one looks its tokens up in this module.
    hook = encoder.get_input_embeddings().register_forward_hook(lambda *_: embeddings.to(encoder.dtype))
    try:
        return encoder(ids, **options)
    finally:
        hook.remove()


def _check_schedule(scheduler: Any, sampling: Sampling) -> None:
    if not hasattr(scheduler, "alphas_cumprod") or scheduler.config.get("prediction_type") not in _PREDICTIONS:
        raise ModelError(
            f"its scheduler is a {type(scheduler).__name__} with prediction_type="
            f"{scheduler.config.get('prediction_type')!r}; only DDPM's noise schedule and predictions of noise "
            "(epsilon), velocity (v_prediction) or the sample can be attacked"
        )
    if sampling.scheduler == "lms" and scheduler.config.get("rescale_betas_zero_snr"):
        raise ModelError(
            "its schedule ends in pure noise (rescale_betas_zero_snr), which LMS sampling does not have, so images "
            "would not be those that ship: give the concept 'sampling: {scheduler: own}'"
        )
