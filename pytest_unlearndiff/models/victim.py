"""The victim as an attack sees it: encode with replaced token embeddings, denoising error, generate."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import torch
from diffusers import DDPMScheduler, LMSDiscreteScheduler, StableDiffusionPipeline
from PIL import Image

from ..core.concept import Sampling
from ..core.drawing import Drawing
from ..core.guidance import UNGUIDED, Guidance
from .batches import in_batches
from .guided import guided_away
from .quiet import library_warnings_ignored
from .vocabulary import Vocabulary


class Victim:
    """A frozen Stable Diffusion pipeline under attack.

    Args:
        pipe: the pipeline; it is not modified.
        sampling: how evaluation pictures are drawn.
        guidance: what they are guided away from; the denoising error is the weights' own.
    """

    def __init__(self, pipe: StableDiffusionPipeline, sampling: Sampling, guidance: Guidance = UNGUIDED) -> None:
        self._pipe = copy.copy(pipe)
        self._pipe.safety_checker = None
        with library_warnings_ignored():
            if sampling.scheduler == "lms":
                self._pipe.scheduler = LMSDiscreteScheduler.from_config(pipe.scheduler.config)
            # Euler's and LMS's add_noise scale by sigma; the loss wants the variance-preserving x_t of DDPM.
            self._noise: Any = DDPMScheduler.from_config(pipe.scheduler.config)
        self._sampling = sampling
        self._guidance = guidance

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self._pipe.unet.device)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokens of the victim's text encoder."""
        return Vocabulary(self._pipe.tokenizer, self._pipe.text_encoder.get_input_embeddings().weight.detach())

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
            Text states (B, L, d); gradients reach ``embeddings``.
        """
        encoder = self._pipe.text_encoder
        # No version of CLIPTextModel takes inputs_embeds, but every one looks its tokens up in this module.
        hook = encoder.get_input_embeddings().register_forward_hook(lambda *_: embeddings.to(encoder.dtype))
        try:
            states: torch.Tensor = encoder(ids)[0]
        finally:
            hook.remove()
        return states

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
    def states(self, texts: Sequence[str]) -> torch.Tensor:
        """Text states (N, L, d) of texts, too long ones cut as the tokenizer would."""
        words = self.vocabulary
        rows = []
        for text in texts:
            ids = [words.bos, *words.ids(text)[: words.length - 2], words.eos]
            rows.append(ids + [words.pad] * (words.length - len(ids)))
        found = []
        for count, part in in_batches(rows):
            batch = torch.tensor(part, device=self.device)
            found.append(self.encode(batch, words.embeddings[batch])[:count])
        return torch.cat(found)

    def noised(self, x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Noised latents x_t and what the UNet should predict there.

        Args:
            x0: latents (B, C, h, w).
            noise: standard normal, same shape.
            t: timesteps (B,) int64 in [0, ``timesteps``).
        """
        target = (
            self._noise.get_velocity(x0, noise, t) if self._noise.config.prediction_type == "v_prediction" else noise
        )
        return self._noise.add_noise(x0, noise, t), target

    def predicted(self, x_t: torch.Tensor, t: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """The UNet's prediction (B, C, h, w) float32, without guidance.

        Args:
            x_t: noised latents (B, C, h, w).
            t: timesteps (B,) int64.
            states: text states (B, L, d).
        """
        dtype = self._pipe.unet.dtype
        sample: torch.Tensor = self._pipe.unet(x_t.to(dtype), t, encoder_hidden_states=states.to(dtype)).sample
        return sample.float()

    def denoising_error(
        self,
        x0: torch.Tensor,
        noise: torch.Tensor,
        t: torch.Tensor,
        states: torch.Tensor,
        wanted: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Per-sample denoising error, ||eps - eps_theta(x_t | c)||^2 averaged over the latent (paper, eq. 5).

        Each sample has its own mean, so that summing over a batch mixes no gradients.

        Args:
            x0: latents (B, C, h, w) of the target images.
            noise: standard normal, same shape.
            t: timesteps (B,) int64.
            states: text states (B, L, d).
            wanted: what the UNet should predict instead (B, C, h, w).

        Returns:
            Errors (B,) float32.
        """
        x_t, target = self.noised(x0, noise, t)
        target = target if wanted is None else wanted
        return (self.predicted(x_t, t, states) - target.float()).square().mean((1, 2, 3))

    @property
    def picture_size(self) -> tuple[int, int]:
        """Width and height of the pictures it draws, in pixels."""
        _, height, width = self.latent_shape
        scale = int(self._pipe.vae_scale_factor)
        return width * scale, height * scale

    @torch.no_grad()
    def generate(self, drawings: Sequence[Drawing]) -> list[Image.Image]:
        """Draw pictures by the pipeline's own call on text, each from its own generator."""
        pictures: dict[int, Image.Image] = {}
        groups: dict[float, list[int]] = defaultdict(list)
        for index, drawing in enumerate(drawings):
            groups[drawing.guidance].append(index)
        for guidance, indices in groups.items():
            for count, part in in_batches(indices):
                drawn = self._draw([drawings[i] for i in part], guidance)
                pictures.update(zip(part[:count], drawn[:count], strict=True))
        return [pictures[i] for i in range(len(drawings))]

    def _draw(self, drawings: Sequence[Drawing], guidance: float) -> list[Image.Image]:
        """One call of the pipeline."""
        negative = self._guidance.negative_prompt
        with library_warnings_ignored(), self._guided(guidance):
            output = self._pipe(
                prompt=[drawing.text for drawing in drawings],
                negative_prompt=None if negative is None else [negative] * len(drawings),
                generator=[torch.Generator("cpu").manual_seed(drawing.seed) for drawing in drawings],
                guidance_scale=guidance,
                num_inference_steps=self._sampling.steps,
            )
        return list(output.images)

    def _guided(self, scale: float) -> AbstractContextManager[None]:
        """Safe latent diffusion, which there is none of without classifier-free guidance (scale above 1)."""
        if self._guidance.safe is None or scale <= 1:
            return nullcontext()
        states, _ = self._pipe.encode_prompt(self._guidance.concept, self.device, 1, False)
        return guided_away(self._pipe.unet, self._guidance, states)

    @property
    def picture_forwards(self) -> int:
        """UNet forward passes that one picture costs: two a step, for classifier-free guidance, or three to avoid."""
        return (2 if self._guidance.safe is None else 3) * self._sampling.steps

    @torch.no_grad()
    def latents(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Scaled mean latents (B, C, h, w) of pictures, as float32 on the victim's device."""
        vae = self._pipe.vae
        encoded = torch.cat([self._encode(part)[:count] for count, part in in_batches(images)])
        shift, scale = float(vae.config.get("shift_factor") or 0), float(vae.config.scaling_factor)
        return ((encoded - shift) * scale).float()

    def _encode(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Mean latents of one batch, not yet scaled."""
        vae = self._pipe.vae
        pixels = self._pipe.image_processor.preprocess(list(images)).to(vae.device, vae.dtype)
        encoded = vae.encode(pixels)
        # AutoencoderTiny gives latents where AutoencoderKL gives a distribution of them.
        mean: torch.Tensor = encoded.latents if "latents" in encoded else encoded.latent_dist.mean
        return mean
