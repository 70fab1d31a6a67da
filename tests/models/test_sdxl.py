"""Stable Diffusion XL: what is attacked is what its pipeline computes, and one set of tokens reaches both encoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
)
from tiny import shown, tiny_xl
from transformers import CLIPTextConfig

from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.errors import ModelError
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.core.model_options import defense
from pytest_unlearndiff.models.defenses.safe_latent_diffusion import STRENGTHS
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.target_images import Targets

DRAWINGS = [
    GenerationRequest("a church", 1, 5.0),
    GenerationRequest("a tree!", 2, 7.5),
    GenerationRequest("a fish on red", 3, 5.0),
]
SHORT = Sampling(steps=2)


@pytest.fixture(scope="module")
def victim() -> DiffusionModel:
    return DiffusionModel(tiny_xl(1), SHORT)


@pytest.fixture(scope="module")
def targets() -> Targets:
    return Targets(DiffusionModel(tiny_xl(0), SHORT))


def test_gradients_are_finite_differences_through_both_encoders() -> None:
    pipe = tiny_xl(1).to(torch.float64)
    victim = DiffusionModel(pipe, SHORT)
    words, family = victim.vocabulary, victim._family
    ids = torch.tensor([words.padded(words.ids("a church! on red"))])
    latents = torch.randn(1, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def answer(slot: torch.Tensor) -> torch.Tensor:
        embeddings = torch.cat([words.embeddings[ids][:, :2], slot, words.embeddings[ids][:, 3:]], 1)
        conditions = family.network_arguments(family.encode_ids(ids, embeddings), latents)
        found: torch.Tensor = pipe.unet(latents, torch.tensor([490]), **conditions).sample
        return found.square().sum()

    slot = words.embeddings[ids][:, 2:3].clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(answer(slot), slot)
    assert (slope[..., :32].abs() > 0).all()
    assert (slope[..., 32:].abs() > 0).all()
    assert torch.autograd.gradcheck(answer, (slot,))


def test_empty_negative_prompt_is_zeros_if_configured() -> None:
    given: list[torch.Tensor] = []
    for zeros in (True, False):
        pipe = tiny_xl()
        pipe.register_to_config(force_zeros_for_empty_prompt=zeros)
        keep = pipe.unet.register_forward_pre_hook(
            lambda _, __, named: given.append(named["encoder_hidden_states"]), with_kwargs=True
        )
        DiffusionModel(pipe, Sampling(steps=1)).generate(DRAWINGS[:1])
        keep.remove()
    forced, own = given
    assert not forced[:4].any()
    empty = DiffusionModel(tiny_xl(), SHORT).encode_prompts([""]).tensors["encoder_hidden_states"]
    torch.testing.assert_close(own[:1], empty, atol=1e-6, rtol=0)
    assert torch.equal(forced[4:], own[4:])


def test_typeable_tokens_come_back_from_both_tokenizers(victim: DiffusionModel) -> None:
    pipe, words = tiny_xl(), victim.vocabulary
    both = (pipe.tokenizer, pipe.tokenizer_2)
    assert 0 < len(words.typeable) < len(words.embeddings)
    for token in words.typeable.tolist():
        text = words.text([token])
        assert [each(text, add_special_tokens=False).input_ids for each in both] == [[token], [token]]
    assert pipe.tokenizer.convert_tokens_to_ids("!</w>") not in words.typeable


def test_safe_latent_diffusion_is_the_loop_written_out() -> None:
    pipe, steps = tiny_xl(1), 3
    config = defense("safe-latent-diffusion", strength="max", concept="church", warmup="steps")
    (drawn,) = shown(DiffusionModel(pipe, Sampling(steps, "own"), (config,)).generate(DRAWINGS[:1]))
    assert abs(np.asarray(drawn).astype(int) - np.asarray(_safe_by_hand(pipe, steps))).max() <= 1


@torch.no_grad()
def _safe_by_hand(pipe: Any, steps: int) -> Any:
    text, free, pooled, pooled_free = pipe.encode_prompt("a church", do_classifier_free_guidance=True)
    concept, _, pooled_concept, _ = pipe.encode_prompt("church", do_classifier_free_guidance=False)
    settings, sizes = STRENGTHS["max"], torch.tensor([[32.0, 32, 0, 0, 32, 32]])
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(steps)
    momentum: Any = 0.0
    for t in scheduler.timesteps:
        e_u, e_p, e_c = (
            pipe.unet(
                latents,
                t,
                encoder_hidden_states=states,
                added_cond_kwargs={"text_embeds": vector, "time_ids": sizes},
            ).sample
            for states, vector in ((free, pooled_free), (text, pooled), (concept, pooled_concept))
        )
        mu = torch.where(e_p - e_c >= settings.threshold, 0.0, ((e_p - e_c).abs() * settings.scale).clamp(max=1.0))
        gamma = mu * (e_c - e_u) + settings.momentum * momentum
        momentum = settings.beta * momentum + (1 - settings.beta) * gamma
        latents = scheduler.step(e_u + 5.0 * (e_p - e_u - gamma), t, latents).prev_sample
    return pipe.image_processor.postprocess(pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample)[0]


def test_force_upcast_encodes_in_single_precision() -> None:
    pipe, single = tiny_xl(), tiny_xl()
    pipe.vae.half().register_to_config(force_upcast=True)
    single.vae.half().float()
    images = shown(DiffusionModel(single, SHORT).generate(DRAWINGS))
    assert torch.equal(
        DiffusionModel(pipe, SHORT).encode_images(images), DiffusionModel(single, SHORT).encode_images(images)
    )
    assert pipe.vae.dtype == torch.float16


def test_latents_are_shifted_and_scaled_by_channel() -> None:
    """As the autoencoder's configuration says."""
    pipe = tiny_xl()
    images = shown(DiffusionModel(pipe, SHORT).generate(DRAWINGS))
    plain = DiffusionModel(pipe, SHORT).encode_images(images)
    mean, deviation = [0.1, -0.2, 0.3, 0.0], [1.0, 2.0, 0.5, 4.0]
    pipe.vae.register_to_config(latents_mean=mean, latents_std=deviation)
    moved = DiffusionModel(pipe, SHORT).encode_images(images)
    scale = pipe.vae.config.scaling_factor
    columns = (torch.tensor(each).view(1, 4, 1, 1) for each in (deviation, mean))
    spread, middle = columns
    torch.testing.assert_close(moved * spread / scale + middle, plain / scale)


def wider_vocabulary(pipe: Any) -> None:
    pipe.tokenizer_2.add_tokens(["<new>"])


def shorter_text(pipe: Any) -> None:
    pipe.tokenizer_2.model_max_length = 16


def other_condition(pipe: Any) -> None:
    pipe.unet.register_to_config(addition_embed_type="image")


def distilled_guidance(pipe: Any) -> None:
    pipe.unet.register_to_config(time_cond_proj_dim=8)


def flow(pipe: Any) -> None:
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()


def other_prediction(pipe: Any) -> None:
    pipe.scheduler.register_to_config(prediction_type="flow_prediction")


def ends_in_noise(pipe: Any) -> None:
    pipe.scheduler.register_to_config(rescale_betas_zero_snr=True)


def one_encoder(pipe: Any) -> None:
    pipe.text_encoder = None


REFUSED: dict[str, Callable[[Any], None]] = {
    "other vocabularies": wider_vocabulary,
    "32 and 16 positions": shorter_text,
    "addition_embed_type='image'": other_condition,
    "time_cond_proj_dim=8": distilled_guidance,
    "FlowMatchEulerDiscreteScheduler": flow,
    "flow_prediction": other_prediction,
    r"rescale_betas_zero_snr.*scheduler: own": ends_in_noise,
    "no text_encoder": one_encoder,
}


@pytest.mark.parametrize("reason", REFUSED)
def test_unknown_configurations_are_refused(reason: str) -> None:
    pipe = tiny_xl()
    REFUSED[reason](pipe)
    with pytest.raises(ModelError, match=reason):
        DiffusionModel(pipe, SHORT)


def test_refiner_is_refused() -> None:
    parts = {name: part for name, part in tiny_xl().components.items() if name not in ("image_encoder",)}
    parts.pop("feature_extractor")
    with pytest.raises(ModelError, match="is a StableDiffusionXLImg2ImgPipeline, which begins with an image"):
        DiffusionModel(StableDiffusionXLImg2ImgPipeline(**parts, add_watermarker=False), SHORT)


def test_tiny_encoders_differ() -> None:
    """These tests would not see a mistake if both encoders were alike."""
    one, two = (encoder.config for encoder in (tiny_xl().text_encoder, tiny_xl().text_encoder_2))
    assert isinstance(one, CLIPTextConfig)
    assert one.hidden_size != two.hidden_size != two.projection_dim
