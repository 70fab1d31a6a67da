"""Save an unlearned Stable Diffusion XL as unlearning repositories and trainers publish theirs."""

from __future__ import annotations

import re

import torch
from diffusers import StableDiffusionXLPipeline
from resaved import (
    ATTN2,
    KV,
    Format,
    Tensors,
    compvis,
    latent_diffusion,
    nested,
    pickled,
    safetensors,
    text,
    unet,
)

from pytest_unlearndiff.models.formats.compvis_names import open_clip_name

# What ESD trains of this family: no layer with "emb" in its name, and none outside the blocks.
BLOCKS = r"^(?!.*emb)(?!.*\.attn2\.).*block.*(conv\d|conv|proj_in|proj_out|\.proj|\.net\.2|to_[qkv]|to_out)[\w.]*$"
TEXTS = ("text_encoder", "text_encoder_2")


def second(pipe: StableDiffusionXLPipeline, prefix: str = "") -> Tensors:
    """Tensors of the second text encoder, each name with a prefix."""
    return {f"{prefix}{key}": value.clone() for key, value in pipe.text_encoder_2.state_dict().items()}


def open_clip(pipe: StableDiffusionXLPipeline) -> Tensors:
    """The second text encoder with OpenCLIP's names: three in one, the projection from the other side."""
    found: Tensors = {}
    thirds: dict[str, dict[int, torch.Tensor]] = {}
    for key, value in second(pipe).items():
        name, third = open_clip_name(key.removeprefix("text_model."))
        if key == "text_projection.weight":
            found["text_projection"] = value.T.contiguous()
        elif third is None:
            found[name] = value
        else:
            thirds.setdefault(name, {})[third] = value
    joined = {name: torch.cat([parts[i] for i in range(3)]) for name, parts in thirds.items()}
    return found | joined | {"logit_scale": torch.tensor(4.6)}


def single_file(pipe: StableDiffusionXLPipeline) -> Tensors:
    """The whole pipeline with the names of Stability AI's generative-models."""
    whole = {
        re.sub("^cond_stage_model", "conditioner.embedders.0", key): value
        for key, value in latent_diffusion(pipe).items()
        if key.startswith(("model.", "first_stage_model.", "cond_stage_model."))
    }
    ids = {"conditioner.embedders.0.transformer.text_model.embeddings.position_ids": torch.arange(32)}
    theirs = {f"conditioner.embedders.1.model.{key}": value for key, value in open_clip(pipe).items()}
    return whole | ids | theirs | {"denoiser.sigmas": torch.ones(1000)}


FORMATS: dict[str, Format] = {
    "pipeline folder": Format(lambda pipe, path: pipe.save_pretrained(path), ("unet", *TEXTS, "vae")),
    "pipeline folder in a variant": Format(
        lambda pipe, path: pipe.save_pretrained(path, variant="fp16"), ("unet", *TEXTS, "vae")
    ),
    "unet folder": Format(lambda pipe, path: pipe.unet.save_pretrained(path)),
    "text encoder folder": Format(lambda pipe, path: pipe.text_encoder.save_pretrained(path), ("text_encoder",)),
    "second text encoder folder": Format(
        lambda pipe, path: pipe.text_encoder_2.save_pretrained(path), ("text_encoder_2",)
    ),
    "unet safetensors": Format(safetensors(unet)),
    "unet pt": Format(pickled(lambda pipe: {"state_dict": unet(pipe)})),
    "esd-x": Format(safetensors(lambda pipe: unet(pipe, ATTN2), family="sdxl", component="unet"), part=ATTN2),
    "esd-x-strict, uce": Format(safetensors(lambda pipe: unet(pipe, KV)), part=KV),
    "esd-u": Format(safetensors(lambda pipe: unet(pipe, BLOCKS)), part=BLOCKS),
    "esd nested": Format(pickled(lambda pipe: nested(unet(pipe, ATTN2), "unet.")), part=ATTN2),
    "by component": Format(
        pickled(lambda pipe: {"unet": unet(pipe), "text_encoder": text(pipe), "text_encoder_2": second(pipe)}),
        ("unet", *TEXTS),
    ),
    "by prefix": Format(
        safetensors(lambda pipe: text(pipe, "text_encoder.text_model.") | second(pipe, "text_encoder_2.")), TEXTS
    ),
    "text encoder": Format(safetensors(text), ("text_encoder",)),
    "second text encoder": Format(safetensors(second), ("text_encoder_2",)),
    "compvis unet": Format(safetensors(compvis)),
    "compvis unet without prefix": Format(pickled(lambda pipe: compvis(pipe, prefix=""))),
    "compvis partial": Format(safetensors(lambda pipe: compvis(pipe, KV)), part=KV),
    "single file": Format(safetensors(single_file), ("unet", *TEXTS, "vae")),
}
