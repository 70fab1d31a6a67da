"""The victim: what the attack differentiates is what the pipeline computes, and nothing global is touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, LMSDiscreteScheduler
from tiny import shown, tiny_pipeline, tiny_xl

from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.families.base import Conditioning
from pytest_unlearndiff.models.libraries import library_warnings_ignored

DRAWINGS = [
    GenerationRequest("a church", 1, 5.0),
    GenerationRequest("a tree!", 2, 7.5),
    GenerationRequest("a fish on red", 3, 5.0),
]


@pytest.fixture(scope="module")
def victim() -> DiffusionModel:
    return DiffusionModel(tiny_pipeline(), Sampling(steps=4))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_denoising_error_is_the_definition(prediction_type: str) -> None:
    pipe = tiny_pipeline(prediction_type=prediction_type)
    victim = DiffusionModel(pipe, Sampling(steps=4))
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(3, 4, 8, 8, generator=generator) for _ in range(2))
    t, states = torch.tensor([10, 490, 990]), torch.randn(3, 32, 32, generator=generator)
    alphas = DDIMScheduler.from_config(pipe.scheduler.config).alphas_cumprod[t].view(-1, 1, 1, 1)
    x_t = alphas.sqrt() * x0 + (1 - alphas).sqrt() * noise
    velocity = alphas.sqrt() * noise - (1 - alphas).sqrt() * x0
    wanted = {"epsilon": noise, "v_prediction": velocity, "sample": x0}[prediction_type]
    predicted = pipe.unet(x_t, t, encoder_hidden_states=states).sample
    expected = (predicted - wanted).square().mean((1, 2, 3))
    conditioning = Conditioning({"encoder_hidden_states": states})
    torch.testing.assert_close(victim.denoising_error(x0, noise, t, conditioning), expected)


@pytest.mark.parametrize("make", [tiny_pipeline, tiny_xl])
def test_images_are_the_pipelines_own(make: Callable[[], Any]) -> None:
    pipe = make()
    with library_warnings_ignored():
        pipe.scheduler = LMSDiscreteScheduler.from_config(pipe.scheduler.config)
        alone = [
            pipe(
                d.text,
                generator=torch.Generator().manual_seed(d.seed),
                guidance_scale=d.guidance,
                num_inference_steps=4,
            )
            for d in DRAWINGS
        ]
    for mine, theirs in zip(shown(DiffusionModel(make(), Sampling(steps=4)).generate(DRAWINGS)), alone, strict=True):
        difference = np.asarray(mine).astype(int) - np.asarray(theirs.images[0])
        assert abs(difference).max() <= 1


def test_pipeline_keeps_its_scheduler() -> None:
    pipe = tiny_pipeline()
    DiffusionModel(pipe, Sampling(steps=2)).generate(DRAWINGS[:1])
    assert isinstance(pipe.scheduler, DDIMScheduler)


def test_global_random_state_is_untouched(victim: DiffusionModel) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    victim.generate(DRAWINGS)
    assert torch.equal(torch.get_rng_state(), before)


def test_latents_are_scaled_means(victim: DiffusionModel) -> None:
    pipe = tiny_pipeline()
    images = shown(victim.generate(DRAWINGS))
    pixels = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1 for image in images])
    expected = pipe.vae.encode(pixels).latent_dist.mean * pipe.vae.config.scaling_factor
    torch.testing.assert_close(victim.encode_images(images), expected, atol=1e-5, rtol=1e-4)


def test_probe_measures_one_pass_of_a_full_batch(victim: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    predict = DiffusionModel.predict

    def counted(self: DiffusionModel, x_t: torch.Tensor, *others: Any) -> torch.Tensor:
        sizes.append(len(x_t))
        return predict(self, x_t, *others)

    monkeypatch.setattr(DiffusionModel, "predict", counted)
    probe = victim.probe()
    assert (probe.device, sizes) == ("cpu", [4, 4])
    assert 0 < probe.seconds < 60
    assert probe.memory > 2**26, "as much as torch alone takes"
