"""Images of probes: DDIM's own without a change, and with one those of each request alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from tiny import tiny_pipeline, tiny_xl

from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.images import GenerationRequest, SamplerChange
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.tensor_text import pack, unpack

REQUEST = GenerationRequest("a church", 1, 5.0, sampler=SamplerChange())
STEPS = 10


def pixels(victim: DiffusionModel, *requests: GenerationRequest) -> Any:
    return np.stack([np.asarray(each.image, np.int16) for each in victim.generate(requests)])


@pytest.mark.parametrize("pipeline", [tiny_pipeline, tiny_xl])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_up_to_eta_1_it_is_ddim(pipeline: Callable[..., Any], prediction_type: str, eta: float) -> None:
    pipe = pipeline(0, prediction_type=prediction_type)
    drawn = pixels(DiffusionModel(pipe, Sampling(STEPS)), replace(REQUEST, sampler=SamplerChange(eta)))
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing="leading")
    generator = torch.Generator().manual_seed(REQUEST.seed)
    own = pipe(["a church"], guidance_scale=5.0, num_inference_steps=STEPS, eta=eta, generator=[generator]).images
    assert np.abs(drawn[0] - np.asarray(own[0], np.int16)).max() <= 1


def test_each_request_is_drawn_as_alone() -> None:
    victim = DiffusionModel(tiny_pipeline(1), Sampling(STEPS))
    starts = [pack(torch.randn(victim.latent_shape, generator=torch.Generator().manual_seed(n))) for n in range(3)]
    changes = [None, *(SamplerChange(skipped=0.2, start=start) for start in starts)]
    changes += [SamplerChange(skipped=0.5, start=starts[0]), SamplerChange(1.85, 1.04), SamplerChange(1.0)]
    requests = [replace(REQUEST, seed=seed, sampler=change) for seed, change in enumerate(changes)]
    together = pixels(victim, *requests)
    assert (together == np.concatenate([pixels(victim, request) for request in requests])).all()
    assert len({image.tobytes() for image in together}) == len(requests)
    assert (together[0] == pixels(victim, replace(requests[0], sampler=None))).all(), "the scheduler is back"


def test_the_less_is_left_to_do_the_more_of_the_start_is_left() -> None:
    victim = DiffusionModel(tiny_pipeline(1), Sampling(50))
    start = torch.randn(victim.latent_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        decoded = victim._pipe.vae.decode(start[None] / victim._pipe.vae.config.scaling_factor).sample
    image = ((decoded[0] / 2 + 0.5).clamp(0, 1) * 255).permute(1, 2, 0).numpy()
    away = [
        np.abs(pixels(victim, replace(REQUEST, sampler=SamplerChange(skipped=s, start=pack(start))))[0] - image).mean()
        for s in (0.1, 0.5, 0.98)
    ]
    assert away == sorted(away, reverse=True)
    assert away[-1] < 3


def test_latents_are_kept_exactly() -> None:
    latents = torch.randn(4, 3, 2)
    assert torch.equal(unpack([pack(latents)]), latents.reshape(1, -1))
