"""Images as probes have them drawn: by the pipeline's own call, with a sampler that is given noise or a start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from diffusers import DDIMScheduler
from diffusers.utils.torch_utils import randn_tensor

from ..core.images import GenerationRequest, SamplerChange
from .families.ddpm import noise_settings
from .libraries import library_warnings_ignored
from .tensor_text import unpack

Generators = torch.Generator | list[torch.Generator] | None


class ProbeScheduler(DDIMScheduler):  # type: ignore[misc]
    """DDIM (Song et al. 2021, eq. 12 and 16) with more noise than it takes away, or with fewer steps at the beginning.

    In Lu et al. 2025 (arXiv 2505.17013) and their program, eta goes beyond 1, the noise has a factor of its own, and
    where noise leaves no room for the predicted one, its coefficient is that of the absolute value under the root.
    """

    change = SamplerChange()
    timesteps: torch.Tensor

    def set_timesteps(self, num_inference_steps: int, device: Any = None, **options: Any) -> None:
        """Set timesteps as DDIM does, without those that are left out."""
        super().set_timesteps(num_inference_steps, device, **options)
        self.timesteps = self.timesteps[round(self.change.skipped * num_inference_steps) :]

    def step(
        self,
        model_output: torch.Tensor,
        timestep: Any,
        sample: torch.Tensor,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> tuple[torch.Tensor]:
        """Return the next latents (B, C, h, w); each row's noise is of its own generator."""
        before = int(timestep) - self.config.num_train_timesteps // self.num_inference_steps
        here = float(self.alphas_cumprod[int(timestep)])
        there = float(self.alphas_cumprod[before] if before >= 0 else self.final_alpha_cumprod)
        x, output = sample.float(), model_output.float()
        match self.config.prediction_type:
            case "v_prediction":
                image, noise = here**0.5 * x - (1 - here) ** 0.5 * output, here**0.5 * output + (1 - here) ** 0.5 * x
            case "sample":
                image, noise = output, (x - here**0.5 * output) / (1 - here) ** 0.5
            case _:
                image, noise = (x - (1 - here) ** 0.5 * output) / here**0.5, output
        variance = self.change.eta**2 * (1 - there) / (1 - here) * (1 - here / there)
        latents = there**0.5 * image + abs(1 - there - variance) ** 0.5 * noise
        if variance:
            fresh = randn_tensor(x.shape, generator=generator, device=x.device, dtype=x.dtype)
            latents += self.change.noise_scale * variance**0.5 * fresh
        return (latents.to(sample.dtype),)


def alike(change: SamplerChange | None) -> SamplerChange | None:
    """Return what has to be equal for images to be drawn by one call: all but where they start."""
    return None if change is None else replace(change, start="" if change.start is not None else None)


@contextmanager
def probed(
    pipe: Any, requests: Sequence[GenerationRequest], steps: int, latent_shape: tuple[int, ...]
) -> Iterator[dict[str, Any]]:
    """Have a pipeline draw as requests that are ``alike`` say; yields arguments of its call.

    Args:
        pipe: the pipeline, whose scheduler is exchanged.
        requests: at least one.
        steps: denoising steps, those that are left out among them.
        latent_shape: (C, h, w) of the latents that some requests start from.
    """
    change = requests[0].sampler
    if change is None:
        yield {}
        return
    own = pipe.scheduler
    with library_warnings_ignored():
        scheduler = ProbeScheduler.from_config(noise_settings(own) | _DDIM)
    scheduler.change = change
    pipe.scheduler = scheduler
    try:
        yield (
            {}
            if change.start is None
            else {"latents": _noised(scheduler, requests, steps, latent_shape).to(pipe.unet.dtype)}
        )
    finally:
        pipe.scheduler = own


# Of Stable Diffusion's own scheduler, and DDIM's on its schedule.
_DDIM = {"timestep_spacing": "leading", "clip_sample": False, "set_alpha_to_one": False}


def _noised(
    scheduler: ProbeScheduler, requests: Sequence[GenerationRequest], steps: int, latent_shape: tuple[int, ...]
) -> torch.Tensor:
    """Return the images' latents (B, C, h, w), noised with what un-attacked images begin with."""
    scheduler.set_timesteps(steps)
    starts = [each.sampler.start for each in requests if each.sampler and each.sampler.start]
    images = unpack(starts).reshape(-1, *latent_shape)
    noise = [torch.randn(images.shape[1:], generator=torch.Generator("cpu").manual_seed(r.seed)) for r in requests]
    noised: torch.Tensor = scheduler.add_noise(images, torch.stack(noise), scheduler.timesteps[:1])
    return noised
