"""Pipelines of Stable Diffusion 1.4's and XL's shape with random weights, built in memory: for time, never for a rate.

Nothing is fetched: the tokenizer has CLIP's size and kind, and words of one, two or three letters.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase, digits
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.models.device import to_device, weights_type
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.models.pipeline_folders import freeze
from pytest_unlearndiff.models.target_images import Targets

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))

from tiny import tiny_pipeline, tiny_xl

_MERGES = 49152 - 256 - 2


def sd14() -> Any:
    """Build a pipeline of Stable Diffusion 1.4's shape."""
    tokens = tokenizer()
    return StableDiffusionPipeline(
        vae=_autoencoder(512),
        text_encoder=CLIPTextModel(_text_config(tokens, 768, 12, 12)),
        tokenizer=tokens,
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
        scheduler=_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl() -> Any:
    """Build a pipeline of Stable Diffusion XL's shape."""
    first, second = tokenizer(), tokenizer(pad_token="!")
    projected = _text_config(second, 1280, 32, 20, projection_dim=1280, hidden_act="gelu")
    return StableDiffusionXLPipeline(
        vae=_autoencoder(1024),
        text_encoder=CLIPTextModel(_text_config(first, 768, 12, 12)),
        text_encoder_2=CLIPTextModelWithProjection(projected),
        tokenizer=first,
        tokenizer_2=second,
        unet=UNet2DConditionModel(
            sample_size=128,
            cross_attention_dim=2048,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        ),
        scheduler=_scheduler(),
        add_watermarker=False,
    )


SHAPES: Mapping[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "sd14": (sd14, tiny_pipeline),
    "sdxl": (sdxl, tiny_xl),
}
"""Each at its full size, and tiny for tests of the benchmarks."""


def build(shape: str, precision: str, device: str, *, tiny: bool = False) -> Any:
    """Build a pipeline as the plugin would have loaded it.

    Args:
        shape: one of ``SHAPES``.
        precision: one of ``core.device.PRECISIONS``.
        device: where it goes; its weights are drawn there, which is quick.
        tiny: whether to build the tiny one.
    """
    torch.manual_seed(0)
    with torch.device(device):
        pipe = SHAPES[shape][tiny]()
    return freeze(to_device(pipe.to(dtype=weights_type(precision)), device))


def tokenizer(**more: Any) -> Any:
    """Build a byte-pair tokenizer of CLIP's 49,408 tokens, of which 18,000 are words of up to three letters."""
    letters = ascii_lowercase + digits
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = range(256, 256 + 256 - len(printable))  # bytes that cannot be printed have letters from here on
    single = [chr(code) for code in [*printable, *others]]
    two = [(a, b) for a in letters for b in letters]
    two_at_end = [(a, f"{b}</w>") for a in letters for b in letters]
    three = [(a + b, f"{c}</w>") for a, b in two for c in letters]
    merges = [*two, *three[: _MERGES - len(two) - len(two_at_end)], *two_at_end]
    tokens = [*single, *(letter + "</w>" for letter in single), *map("".join, merges)]
    vocabulary = {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77, **more)


def _text_config(tokens: Any, width: int, layers: int, heads: int, **more: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
        **more,
    )


def _autoencoder(side: int) -> AutoencoderKL:
    widths = (128, 256, 512, 512)
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=side,
        scaling_factor=0.18215,
    )


def _scheduler() -> PNDMScheduler:
    with torch.device("cpu"):  # schedulers keep their numbers there
        return PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)


def prompts(count: int) -> list[Prompt]:
    """Return different short prompts."""
    return [Prompt(f"a cab on a bed {i}", i, 7.5, i) for i in range(count)]


class RandomTargets(Targets):
    """Latents of no image, so that a search can be timed without drawing."""

    def latents(self, prompts: Sequence[Prompt], victim: DiffusionModel) -> torch.Tensor:
        """Return standard normal latents (B, C, h, w), each prompt's own."""
        seeds = [torch.Generator().manual_seed(prompt.case) for prompt in prompts]
        return torch.stack([torch.randn(victim.latent_shape, generator=g) for g in seeds]).to(victim.device)
