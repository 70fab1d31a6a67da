"""Nothing is fixed to Stable Diffusion 1.4: other predictions, autoencoders, padding and precisions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny
from tiny import PROMPTS, shown, tiny_pipeline, tiny_xl

from pytest_unlearndiff.attacks.base import build_attack
from pytest_unlearndiff.attacks.schedules import (
    P4D,
    RING_A_BELL,
    UNLEARNDIFF,
    EmbeddingSchedule,
    GeneticSchedule,
    SimplexSchedule,
    TokenSwapSchedule,
)
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Sampling
from pytest_unlearndiff.core.images import GenerationRequest
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.loading import weights_digest
from pytest_unlearndiff.models.pipeline_folders import load_pipeline
from pytest_unlearndiff.models.target_images import Targets

SPECS = {
    "simplex": AttackConfig(schedule="paper"),
    "swaps": AttackConfig(),
    "classifier": AttackConfig(loss="classifier"),
    "p4d": AttackConfig("p4d"),
    "ring-a-bell": AttackConfig("ring-a-bell", word="church"),
}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(UNLEARNDIFF, "paper", SimplexSchedule((0.49,), steps=2))  # type: ignore[arg-type]
    monkeypatch.setitem(UNLEARNDIFF, "fast", TokenSwapSchedule((0.35, 0.65), rounds=1, screened=4, measured=2))  # type: ignore[arg-type]
    monkeypatch.setitem(P4D, "fast", EmbeddingSchedule((0.49,), steps=2))  # type: ignore[arg-type]
    monkeypatch.setitem(RING_A_BELL, "fast", GeneticSchedule(1, 2, population=8))  # type: ignore[arg-type]


def velocity(seed: int) -> Any:
    return tiny_pipeline(seed, prediction_type="v_prediction")


def small_autoencoder(seed: int) -> Any:
    pipe = tiny_pipeline(seed)
    pipe.vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    ).eval()
    return pipe


def exclamation_padding(seed: int) -> Any:
    """SD 2.x pads with "!", which is also a token of prompts."""
    pipe = tiny_pipeline(seed)
    pipe.tokenizer.pad_token = "!"
    return pipe


def half(seed: int) -> Any:
    return tiny_pipeline(seed).to(dtype=torch.bfloat16)


def velocity_xl(seed: int) -> Any:
    return tiny_xl(seed, prediction_type="v_prediction")


def sample(seed: int) -> Any:
    return tiny_pipeline(seed, prediction_type="sample")


def half_xl(seed: int) -> Any:
    return tiny_xl(seed).to(dtype=torch.bfloat16)


SHAPES: dict[str, Callable[[int], Any]] = {
    "velocity": velocity,
    "small autoencoder": small_autoencoder,
    "exclamation padding": exclamation_padding,
    "bfloat16": half,
    "sample": sample,
    "two encoders": velocity_xl,
    "two encoders, bfloat16": half_xl,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_attack_runs(shape: str) -> None:
    victim, base = (DiffusionModel(SHAPES[shape](seed), Sampling(steps=2)) for seed in (1, 0))
    for name, spec in SPECS.items():
        attack = build_attack(spec, victim)
        batch_size = attack.start(PROMPTS[1:2], Targets(base), 0)
        (drawing,) = attack.advance(batch_size)
        assert batch_size[0].error is None, name
        assert drawing is not None
        (image,) = shown(victim.generate([drawing]))
        assert image.size == (32, 32)


def test_search_is_in_single_precision() -> None:
    victim, base = (DiffusionModel(half(seed), Sampling(steps=2)) for seed in (1, 0))
    (state,) = build_attack(SPECS["simplex"], victim).start(PROMPTS[:1], Targets(base), 0)
    assert {state.variable.dtype, state.x0.dtype} == {torch.float32}


def test_folder_with_a_small_autoencoder_loads(tmp_path: Path) -> None:
    pipe = small_autoencoder(0)
    pipe.register_modules(vae=pipe.vae)
    pipe.save_pretrained(tmp_path / "pipe")
    assert weights_digest(load_pipeline(tmp_path / "pipe")) == weights_digest(pipe)


def test_latents_of_a_small_autoencoder_are_its_own() -> None:
    pipe = small_autoencoder(0)
    victim = DiffusionModel(pipe, Sampling(steps=2))
    images = shown(victim.generate([GenerationRequest("a church", 1, 5.0)]))
    pixels = pipe.image_processor.preprocess(images)
    with torch.no_grad():
        torch.testing.assert_close(victim.encode_images(images), pipe.vae.encode(pixels).latents, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("text", ["a church! on red", "church"])
def test_padding_is_the_tokenizers(text: str) -> None:
    vocabulary = DiffusionModel(exclamation_padding(0), Sampling(steps=2)).vocabulary
    assert vocabulary.pad != vocabulary.eos
    slots = vocabulary.slots(text, 2, "prefix")
    tokens = vocabulary.typeable[[5, 800]].tolist()
    typed = vocabulary.text(slots.filled(tokens))
    assert ("!" in typed) is ("!" in text)
    wanted = exclamation_padding(0).tokenizer(typed, padding="max_length", return_tensors="pt").input_ids[0]
    assert vocabulary.padded(slots.filled(tokens)) == wanted.tolist()
