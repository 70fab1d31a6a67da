"""The victim as an attack sees it: encode with replaced token embeddings, denoising error, generate."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from PIL import Image

from ..core.concept import Sampling
from ..core.defenses import UNGUIDED, Guidance
from ..core.drawing import GenerationRequest
from ..core.errors import ModelError
from ..core.forward_passes import count_forwards
from . import noise_schedules as schedules
from . import precision as arithmetic
from .batches import in_batches
from .generated_images import FiniteCheck, GeneratedImage
from .pipelines import Pipeline
from .safe_latent_diffusion import safe_latent_diffusion
from .silence import library_warnings_ignored, silence_safety_checker, tracing_warnings_ignored
from .text_conditioning import concept_conditions, text_conditioning
from .vocabulary import Vocabulary


class DiffusionModel:
    """A frozen pipeline under attack.

    Text states are rows that can be chosen from, put together and compared, with the samples in front; what else they
    mean is the pipeline's kind's own (``texts``).

    Args:
        pipe: the pipeline; it is not modified.
        sampling: how evaluation images are drawn.
        guidance: what they are guided away from; the denoising error is the weights' own.
        safety_checker: whether they pass the pipeline's own, which blocks what it objects to; without it, it is taken
            out.
        compiled: whether to have torch compile the UNet.

    Raises:
        ModelError: pipelines of its kind cannot be attacked.
    """

    def __init__(
        self,
        pipe: Pipeline,
        sampling: Sampling,
        guidance: Guidance = UNGUIDED,
        *,
        safety_checker: bool = False,
        compiled: bool = False,
    ) -> None:
        self._pipe = copy.copy(pipe)
        if not safety_checker:
            self._pipe.safety_checker = None
        self._checked = safety_checker
        self._finite = FiniteCheck(self._pipe)
        self._texts = text_conditioning(self._pipe)
        self._quietly = tracing_warnings_ignored if compiled else nullcontext
        if compiled:
            self._pipe.unet = arithmetic.compile_network(pipe.unet)
        _check_schedule(pipe.scheduler, sampling)
        if sampling.scheduler == "lms":
            self._pipe.scheduler = schedules.lms(pipe.scheduler, sampling.spacing)
        self._noise: Any = schedules.ddpm(pipe.scheduler)
        self._sampling = sampling
        self._guidance = guidance

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self._pipe.unet.device)

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens of the victim's text encoders."""
        return self._texts.vocabulary

    @property
    def gradient_scale(self) -> float:
        """What to multiply a denoising error by before going backwards, and its gradients to divide by.

        A mean over a latent makes gradients of one over its size, and half precision ends at 6e-8. A power of two
        loses nothing.
        """
        if self._pipe.unet.dtype != torch.float16:
            return 1.0
        return 2.0 ** round(math.log2(math.prod(self.latent_shape)))

    @property
    def timesteps(self) -> int:
        """Training timesteps of the noise schedule."""
        return int(self._noise.config.num_train_timesteps)

    def encode(self, ids: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """Text states for token embeddings that need not belong to any token.

        Args:
            ids: token ids (B, L) int64, which decide masks and pooling.
            embeddings: token embeddings (B, L, d), which replace the encoder's own look-up.

        Returns:
            Text states (B, ...); gradients reach ``embeddings``.
        """
        return self._texts.encode(ids, embeddings)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latents that the UNet was made for."""
        config = self._pipe.unet.config
        side = config.sample_size
        height, width = (side, side) if isinstance(side, int) else side
        return config.in_channels, height, width

    def tokens(self, text: str) -> int:
        """Tokens of a text with the two at its ends, before it is cut."""
        return len(self.vocabulary.ids(text)) + 2

    @torch.no_grad()
    def encode_prompts(self, texts: Sequence[str]) -> torch.Tensor:
        """Text states (N, ...) of texts, too long ones cut as the tokenizer would."""
        words = self.vocabulary
        rows = [words.padded(text) for text in texts]
        found = []
        for count, part in in_batches(rows):
            batch = torch.tensor(part, device=self.device)
            found.append(self.encode(batch, words.embeddings[batch])[:count])
        return torch.cat(found)

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Noised latents x_t and what the UNet should predict there.

        Args:
            x0: latents (B, C, h, w).
            noise: standard normal, same shape.
            t: timesteps (B,) int64 in [0, ``timesteps``).
        """
        match self._noise.config.prediction_type:
            case "v_prediction":
                target = self._noise.get_velocity(x0, noise, t)
            case "sample":
                target = x0
            case _:
                target = noise
        return self._noise.add_noise(x0, noise, t), target

    def predict(self, x_t: torch.Tensor, t: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """The UNet's prediction (B, C, h, w) float32, without guidance.

        Args:
            x_t: noised latents (B, C, h, w).
            t: timesteps (B,) int64.
            states: text states (B, ...).
        """
        x_t = x_t.to(self._pipe.unet.dtype)
        count_forwards(len(x_t))
        with self._quietly():
            sample: torch.Tensor = self._pipe.unet(x_t, t, **self._texts.conditions(states, x_t)).sample
        return sample.float()

    def denoising_error(
        self,
        x0: torch.Tensor,
        noise: torch.Tensor,
        t: torch.Tensor,
        states: torch.Tensor,
        target: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Per-sample denoising error, ||eps - eps_theta(x_t | c)||^2 averaged over the latent (paper, eq. 5).

        Each sample has its own mean, so that summing over a batch mixes no gradients.

        Args:
            x0: latents (B, C, h, w) of the target images.
            noise: standard normal, same shape.
            t: timesteps (B,) int64.
            states: text states (B, ...).
            target: what the UNet should predict (B, C, h, w), if not the noise, velocity or sample of ``add_noise``.

        Returns:
            Errors (B,) float32.
        """
        x_t, default = self.add_noise(x0, noise, t)
        target = default if target is None else target
        return (self.predict(x_t, t, states) - target.float()).square().mean((1, 2, 3))

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height of the images it draws, in pixels."""
        _, height, width = self.latent_shape
        scale = int(self._pipe.vae_scale_factor)
        return width * scale, height * scale

    @torch.no_grad()
    def generate(self, drawings: Sequence[GenerationRequest]) -> list[GeneratedImage]:
        """Draw images by the pipeline's own call on text, each from its own generator.

        Raises:
            ModelError: the pipeline does not show whether what it decodes is finite.
        """
        images: dict[int, GeneratedImage] = {}
        groups: dict[float, list[int]] = defaultdict(list)
        for index, drawing in enumerate(drawings):
            groups[drawing.guidance].append(index)
        for guidance, indices in groups.items():
            for count, part in in_batches(indices):
                drawn = self._draw([drawings[i] for i in part], guidance)
                images.update(zip(part[:count], drawn[:count], strict=True))
        return [images[i] for i in range(len(drawings))]

    def _draw(self, drawings: Sequence[GenerationRequest], guidance: float) -> list[GeneratedImage]:
        """One call of the pipeline."""
        negative = self._guidance.negative_prompt
        self._finite.begin()
        guided, counted = self._guided(guidance), _counted(self._pipe.unet)
        with library_warnings_ignored(), silence_safety_checker(), self._quietly(), guided, counted:
            output = self._pipe(
                prompt=[drawing.text for drawing in drawings],
                negative_prompt=None if negative is None else [negative] * len(drawings),
                generator=[torch.Generator("cpu").manual_seed(drawing.seed) for drawing in drawings],
                guidance_scale=guidance,
                num_inference_steps=self._sampling.steps,
            )
        count = len(drawings)
        flags = getattr(output, "nsfw_content_detected", None) if self._checked else None
        return [
            GeneratedImage.of(image, finite=finite, blocked=bool(blocked))
            for image, finite, blocked in zip(
                output.images, self._finite.finite(count), [False] * count if flags is None else flags, strict=True
            )
        ]

    def _guided(self, scale: float) -> AbstractContextManager[None]:
        """Safe latent diffusion, which there is none of without classifier-free guidance (scale above 1)."""
        if self._guidance.safe is None or scale <= 1:
            return nullcontext()
        latents = torch.empty(1, *self.latent_shape, device=self.device)
        concept = concept_conditions(self._texts, self._guidance.concept, latents)
        return safe_latent_diffusion(self._pipe.unet, self._guidance, concept)

    @property
    def forwards_per_image(self) -> int:
        """UNet forward passes that one image costs: two a step, for classifier-free guidance, or three to avoid."""
        return (2 if self._guidance.safe is None else 3) * self._sampling.steps

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Scaled mean latents (B, C, h, w) of images, as float32 on the victim's device."""
        encoded = torch.cat([self._encode(part)[:count] for count, part in in_batches(images)])
        config = self._pipe.vae.config
        shift, scale = float(config.get("shift_factor") or 0), float(config.scaling_factor)
        if (mean := config.get("latents_mean")) is None or (deviation := config.get("latents_std")) is None:
            return ((encoded - shift) * scale).float()
        middle, spread = (encoded.new_tensor(each).view(1, -1, 1, 1) for each in (mean, deviation))
        return ((encoded - middle) * scale / spread).float()

    def _encode(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Mean latents of one batch, not yet scaled."""
        vae = self._pipe.vae
        # Stable Diffusion XL's overflows in half precision; its pipeline draws with it in single precision then.
        raised = vae.dtype == torch.float16 and bool(vae.config.get("force_upcast"))
        try:
            if raised:
                vae.float()
            pixels = self._pipe.image_processor.preprocess(list(images)).to(vae.device, vae.dtype)
            encoded = vae.encode(pixels)
        finally:
            if raised:
                vae.half()
        # AutoencoderTiny gives latents where AutoencoderKL gives a distribution of them.
        mean: torch.Tensor = encoded.latents if "latents" in encoded else encoded.latent_dist.mean
        return mean


@contextmanager
def _counted(unet: Any) -> Iterator[None]:
    """Count what a pipeline computes with its UNet, the passes of safe latent diffusion among it.

    Args:
        unet: the pipeline's; what changes its latents is there already, since hooks are called in their order.
    """
    hook = unet.register_forward_pre_hook(
        lambda _, given, named: count_forwards(len(given[0] if given else named["sample"])), with_kwargs=True
    )
    try:
        yield
    finally:
        hook.remove()


def _check_schedule(scheduler: Any, sampling: Sampling) -> None:
    """Refuse schedulers whose noise is not DDPM's, whose UNet predicts what is not known, or that LMS cannot follow.

    Raises:
        ModelError: names it.
    """
    known = (None, "epsilon", "v_prediction", "sample")
    if not hasattr(scheduler, "alphas_cumprod") or scheduler.config.get("prediction_type") not in known:
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
