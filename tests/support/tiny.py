"""Stable Diffusion pipelines with random weights, built in a moment: for mechanics, never for a rate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.models.generated_images import GeneratedImage

EMOJI = Path(__file__).resolve().parents[2] / "examples" / "emoji"

PROMPTS = [
    Prompt("a church in noto style on a red background", 1, 5.0, 0),
    Prompt("an emoji of a church", 2, 5.0, 1),
    Prompt("church", 3, 7.5, 2),
    Prompt(" ".join(["church"] * 40), 4, 5.0, 3),
]


def tiny_pipeline(seed: int = 0, *, prediction_type: str = "epsilon") -> StableDiffusionPipeline:
    """UNet of two levels, text encoder of two layers, the emoji world's tokenizer, 32x32 images."""
    torch.manual_seed(seed)
    tokenizer = CLIPTokenizer.from_pretrained(EMOJI / "model" / "tokenizer")
    unet = _unet(cross_attention_dim=32)
    text_encoder = CLIPTextModel(_text_config(tokenizer, 32))
    pipe = StableDiffusionPipeline(
        vae=_autoencoder(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=_scheduler(prediction_type),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return frozen(pipe)


def tiny_xl(seed: int = 0, *, prediction_type: str = "epsilon") -> StableDiffusionXLPipeline:
    """As ``tiny_pipeline``, with two text encoders of other widths and depths, and the second's own padding."""
    torch.manual_seed(seed)
    tokenizer = CLIPTokenizer.from_pretrained(EMOJI / "model" / "tokenizer")
    second = CLIPTokenizer.from_pretrained(EMOJI / "model" / "tokenizer", pad_token="!")
    unet = _unet(
        transformer_layers_per_block=(1, 2),
        cross_attention_dim=56,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 20,
    )
    pipe = StableDiffusionXLPipeline(
        vae=_autoencoder(),
        text_encoder=CLIPTextModel(_text_config(tokenizer, 32)),
        text_encoder_2=CLIPTextModelWithProjection(
            _text_config(tokenizer, 24, num_hidden_layers=3, projection_dim=20, hidden_act="gelu")
        ),
        tokenizer=tokenizer,
        tokenizer_2=second,
        unet=unet,
        scheduler=_scheduler(prediction_type),
        add_watermarker=False,
    )
    return frozen(pipe)


def _unet(**more: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        norm_num_groups=8,
        **more,
    )


def _text_config(tokenizer: CLIPTokenizer, width: int, **more: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **{"num_hidden_layers": 2, **more},
    )


def _autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
        scaling_factor=0.5,
    )


def _scheduler(prediction_type: str) -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )


def shown(generated: Sequence[GeneratedImage]) -> list[Image.Image]:
    """Images that a victim drew, as a judge would see them."""
    return [each.image for each in generated]


def frozen(pipe: Any) -> Any:
    for module in pipe.components.values():
        if isinstance(module, torch.nn.Module):
            module.eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    return pipe
