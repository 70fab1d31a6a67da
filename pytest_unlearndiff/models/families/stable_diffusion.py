"""Stable Diffusion 1.x and 2.x, and what XL has in common with them: a UNet on latents, under DDPM's noise schedule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from inspect import signature
from typing import Any

import torch
from diffusers import DDPMScheduler, LMSDiscreteScheduler
from PIL import Image

from ...core.concept import Sampling
from ...core.errors import ModelError
from ..libraries import library_warnings_ignored
from .base import Conditioning
from .vocabulary import ClipVocabulary, FilledPrompt

_PREDICTIONS = (None, "epsilon", "v_prediction", "sample")
_NOISE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type")
_TOLD = 5  # differences that are told: who sees more has another kind of scheduler
_SIGMAS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")


class LatentDiffusion(ABC):
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
        self._noise: Any = ddpm(pipe.scheduler)
        if sampling.scheduler == "lms":
            pipe.scheduler = lms(pipe.scheduler, sampling.spacing)
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

    @property
    @abstractmethod
    def vocabulary(self) -> ClipVocabulary:
        """See ``Family``."""

    @abstractmethod
    def encode_ids(self, ids: torch.Tensor, embeddings: torch.Tensor) -> Conditioning:
        """Encode token embeddings, which need not be those of their tokens.

        Args:
            ids: token ids (B, L) int64, which decide masks and pooling.
            embeddings: token embeddings (B, L, d), which replace the encoders' own look-up.

        Returns:
            B rows; gradients reach ``embeddings``.
        """

    def encode(self, prompts: Sequence[FilledPrompt], slot_embeddings: torch.Tensor | None) -> Conditioning:
        """See ``Family``."""
        vocabulary = self.vocabulary
        device = vocabulary.embeddings.device
        ids = torch.tensor([vocabulary.padded(prompt.pieces) for prompt in prompts], device=device)
        embeddings = vocabulary.embeddings[ids].float()
        if slot_embeddings is not None:
            # Behind the token that begins every text.
            places = torch.tensor([p.slots.positions for p in prompts], dtype=torch.int64, device=device) + 1
            embeddings = embeddings.scatter(1, places.unsqueeze(-1).expand_as(slot_embeddings), slot_embeddings)
        return self.encode_ids(ids, embeddings)

    def network_arguments(self, conditioning: Conditioning, latents: torch.Tensor) -> dict[str, Any]:
        """See ``Family``."""
        dtype = self._pipe.unet.dtype
        return {"encoder_hidden_states": conditioning.tensor("encoder_hidden_states").to(dtype)}

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


class StableDiffusion(LatentDiffusion):
    """A ``StableDiffusionPipeline`` as attacks need it (``Family``)."""

    @cached_property
    def vocabulary(self) -> ClipVocabulary:
        """See ``Family``."""
        return ClipVocabulary(self._pipe.tokenizer, token_embeddings(self._pipe.text_encoder))

    def encode_ids(self, ids: torch.Tensor, embeddings: torch.Tensor) -> Conditioning:
        """See ``LatentDiffusion``; hidden states (B, L, d)."""
        return Conditioning({"encoder_hidden_states": encode_with(self._pipe.text_encoder, ids, embeddings)[0]})


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


def lms(scheduler: Any, spacing: str) -> Any:
    """LMS on the noise schedule of a pipeline's scheduler.

    What a scheduler's config leaves to its class counts as if it were written there: saving a pipeline writes it down
    (Stable Diffusion 1.4 then says ``leading``, where LMS would have taken ``linspace``), and the same weights have to
    draw the same images before and after.

    Args:
        scheduler: the pipeline's.
        spacing: one of ``core.concept.SPACINGS``; ``own`` takes over how the pipeline's spaces timesteps and sigmas.
    """
    named = _named(scheduler, *_NOISE, "steps_offset")
    if spacing == "own":
        named |= _named(scheduler, "timestep_spacing", *_SIGMAS)
    else:
        named["timestep_spacing"] = spacing
    with library_warnings_ignored():
        return LMSDiscreteScheduler.from_config(named)


def ddpm(scheduler: Any) -> Any:
    """DDPM on the same noise schedule.

    Euler's and LMS's ``add_noise`` scale by sigma; the loss wants the variance-preserving x_t of DDPM.
    """
    with library_warnings_ignored():
        return DDPMScheduler.from_config(_named(scheduler, *_NOISE, "rescale_betas_zero_snr"))


def _named(scheduler: Any, *names: str) -> dict[str, Any]:
    """These settings of a scheduler, as far as it has them."""
    return {name: scheduler.config[name] for name in names if name in scheduler.config}


def scheduler_differences(mine: Any, base: Any, sampling: Sampling) -> list[str]:
    """List the settings in which a victim's scheduler differs from its base's, of those that can change outcomes.

    Args:
        mine: the victim's scheduler.
        base: the base's.
        sampling: how images are drawn.

    Returns:
        Such as ``prediction_type ('v_prediction', the base's 'epsilon')``.
    """
    here, there = _deciding(mine, sampling), _deciding(base, sampling)
    if here.get("class") != there.get("class"):  # which have settings that the other does not know
        here, there = ({name: value for name, value in here.items() if name in there}, there)
    names = [name for name in here if _plain(here[name]) != _plain(there.get(name))]
    more = [f"and {len(names) - _TOLD} more"] if len(names) > _TOLD else []
    return [f"{name} ({_short(here[name])}, the base's {_short(there.get(name))})" for name in names[:_TOLD]] + more


def _deciding(scheduler: Any, sampling: Sampling) -> Mapping[str, Any]:
    """Return the settings of a scheduler that decide images and denoising errors."""
    if sampling.scheduler == "own":
        # Not what else stands in a config, which a class that does not know it ignores.
        return {"class": type(scheduler).__name__, **_named(scheduler, *signature(type(scheduler)).parameters)}
    drawing = lms(scheduler, sampling.spacing)
    offset = () if drawing.config.timestep_spacing != "leading" else ("steps_offset",)
    return _named(drawing, *_NOISE, "timestep_spacing", *_SIGMAS, *offset)


def _plain(value: Any) -> Any:
    """Return a setting in comparable form; betas may be an array."""
    return value.tolist() if hasattr(value, "tolist") else value


def _short(value: object) -> str:
    text = repr(_plain(value))
    return text if len(text) <= 40 else f"{text[:37]}..."
