"""Unlearning at inference time: images are those of the authors' own pipeline, and reports and keys say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LMSDiscreteScheduler, StableDiffusionPipelineSafe
from PIL import Image
from tiny import shown, tiny_pipeline, tiny_xl

from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.core.model_options import DefenseConfig, defense, describe_defenses, parse_defense
from pytest_unlearndiff.core.registry import registry
from pytest_unlearndiff.models.defenses.safe_latent_diffusion import STRENGTHS, Momentum
from pytest_unlearndiff.models.diffusion_model import DiffusionModel

STEPS = 12
DRAWINGS = [GenerationRequest("a church", 1, 7.5), GenerationRequest("a truck in noto style", 2, 7.5)]


def sld(strength: str, warmup: str = "steps") -> tuple[DefenseConfig, ...]:
    return (defense("safe-latent-diffusion", strength=strength, concept="church", warmup=warmup),)


def images(defenses: Sequence[DefenseConfig], *, steps: int = STEPS) -> list[Image.Image]:
    return shown(DiffusionModel(tiny_pipeline(1), Sampling(steps=steps), defenses).generate(DRAWINGS))


def same(left: list[Image.Image], right: list[Image.Image]) -> bool:
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(left, right, strict=True))


def near(left: Image.Image, right: Image.Image) -> bool:
    """Up to rounding: batches of another size sum in another order."""
    return int(np.abs(np.asarray(left).astype(int) - np.asarray(right).astype(int)).max()) <= 1


def safe_pipeline() -> StableDiffusionPipelineSafe:
    """The authors' pipeline, as diffusers keeps it, around the same networks."""
    pipe = tiny_pipeline(1)
    parts = {name: getattr(pipe, name) for name in ("vae", "text_encoder", "tokenizer", "unet")}
    safe = StableDiffusionPipelineSafe(
        **parts,
        scheduler=LMSDiscreteScheduler.from_config(pipe.scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    safe.set_progress_bar_config(disable=True)
    safe.safety_concept = "church"
    return safe


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("strength", STRENGTHS)
def test_safe_latent_diffusion_draws_as_the_authors_pipeline(strength: str) -> None:
    settings, safe = STRENGTHS[strength], safe_pipeline()
    drawn = images(sld(strength))
    for drawing, image in zip(DRAWINGS, drawn, strict=True):
        wanted = safe(
            drawing.text,
            guidance_scale=drawing.guidance,
            num_inference_steps=STEPS,
            generator=torch.Generator("cpu").manual_seed(drawing.seed),
            sld_guidance_scale=settings.scale,
            sld_warmup_steps=settings.warmup,
            sld_threshold=settings.threshold,
            sld_momentum_scale=settings.momentum,
            sld_mom_beta=settings.beta,
        ).images[0]
        assert near(image, wanted)


def test_warm_up_in_steps_outlasts_a_short_image() -> None:
    weak = sld("weak")
    assert same(images(weak, steps=10), images((), steps=10))
    assert not same(images(sld("weak", "timesteps"), steps=10), images((), steps=10))


def test_warm_up_by_timestep_ends_guidance() -> None:
    output = (torch.stack([torch.zeros(4), torch.ones(4), torch.full((4,), 1.5)]),)
    for timestep, guided in ((999, True), (10, True), (9, False)):
        momentum = Momentum(STRENGTHS["medium"], by_timestep=True)
        (corrected,) = momentum.corrected(output, torch.tensor(timestep))
        assert bool((corrected[1] != 1).any()) is guided


@pytest.mark.parametrize("make", [tiny_pipeline, tiny_xl])
def test_negative_prompt_is_the_pipelines_own(make: Callable[[int], Any]) -> None:
    pipe, chosen = make(1), (defense("negative-prompt", prompt="church"),)
    drawn = shown(DiffusionModel(pipe, Sampling(2, "own"), chosen).generate(DRAWINGS))
    wanted = pipe(
        DRAWINGS[0].text,
        negative_prompt="church",
        guidance_scale=7.5,
        num_inference_steps=2,
        generator=torch.Generator("cpu").manual_seed(1),
    ).images[0]
    assert near(drawn[0], wanted)


def test_defenses_in_words() -> None:
    assert describe_defenses(()) == ""
    both = (defense("negative-prompt", prompt="blur"), *sld("medium"))
    assert describe_defenses(both) == (
        "negative prompt 'blur' and safe latent diffusion (medium, warm-up in steps) away from 'church'"
    )
    assert parse_defense("safe-latent-diffusion:strength=medium, concept=church,warmup=steps") == both[1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("unknown", "'unknown' is no defense; there are negative-prompt, safe-latent-diffusion"),
        ("negative-prompt", "needs prompt: negative-prompt:prompt=VALUE"),
        ("negative-prompt:prompt", "gives an option no value"),
        ("negative-prompt:prompt=x,more=1", "has no option 'more'"),
        ("safe-latent-diffusion:strength=huge,concept=x,warmup=steps", "strength='huge' is none of weak, medium"),
    ],
)
def test_malformed_defenses_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_defense(text)


def test_row_names_every_strength() -> None:
    assert registry().defenses["safe-latent-diffusion"].choices["strength"] == tuple(STRENGTHS)
