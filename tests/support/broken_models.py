"""Pipelines whose images are evidence of nothing although every weight is finite, and judges to be shown them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput
from PIL import Image
from tiny import tiny_pipeline

from pytest_unlearndiff.models.generated_images import is_constant


def overflowing_attention(pipe: Any) -> Any:
    """As an erasure scale that is too large leaves it."""
    for name, module in pipe.unet.named_modules():
        if name.endswith("attn2.to_v"):
            module.weight.mul_(1e30)
    return pipe


def overflowing_decoder(pipe: Any) -> Any:
    """As an autoencoder in too narrow a type: latents are those of the sound model."""
    pipe.vae.decoder.mid_block.resnets[0].conv1.weight.mul_(1e36)
    return pipe


def without_weights(pipe: Any) -> Any:
    """Every weight is zero, which draws one colour."""
    for module in (pipe.unet, pipe.vae, pipe.text_encoder):
        for weight in module.parameters():
            weight.zero_()
    return pipe


def same_for_all(pipe: Any) -> Any:
    """Draws one image, which is not of one colour, for whatever prompt and seed."""
    pipe.vae.decoder.conv_in.weight.zero_()
    return pipe


BROKEN: Mapping[str, Callable[[Any], Any]] = {
    "attention": overflowing_attention,
    "decoder": overflowing_decoder,
    "zeros": without_weights,
}


class Scripted(StableDiffusionPipeline):
    """Decodes what it is told to for a prompt's text, and blocks what it is told to.

    Attributes:
        decoded: images (C, H, W) as an autoencoder would give them.
        objected: texts whose images its safety checker blocks.
    """

    decoded: Mapping[str, torch.Tensor]
    objected: frozenset[str]

    def __call__(self, prompt: Sequence[str], **_: Any) -> StableDiffusionPipelineOutput:
        batch = torch.stack([self.decoded[text] for text in prompt])
        flags = [text in self.objected for text in prompt] if self.safety_checker is not None else None
        if flags is not None:
            self.image_processor.postprocess(batch, output_type="pil")  # as for the checker's eyes
            for index, flag in enumerate(flags):
                batch[index] = torch.zeros_like(batch[index]) if flag else batch[index]
        denormalize = [True] * len(batch) if flags is None else [not flag for flag in flags]
        images = self.image_processor.postprocess(batch, output_type="pil", do_denormalize=denormalize)
        return StableDiffusionPipelineOutput(images=images, nsfw_content_detected=flags)


_tiny = cache(tiny_pipeline)


def scripted(decoded: Mapping[str, torch.Tensor], objected: Sequence[str] = ()) -> Scripted:
    """A pipeline that draws these."""
    pipe = copy.copy(_tiny())
    pipe.__class__ = Scripted
    pipe.decoded, pipe.objected = decoded, frozenset(objected)
    if objected:
        pipe.safety_checker = _Checker()
    return pipe


class _Checker(torch.nn.Identity):
    """A safety checker that is never called, on the device that its pipeline asks any component for."""

    device = torch.device("cpu")


def shows_something(images: Sequence[Image.Image]) -> list[bool]:
    """Sees the concept in everything but one colour."""
    return [not is_constant(image) for image in images]


def shows_nothing(images: Sequence[Image.Image]) -> list[bool]:
    """Sees the concept in one colour alone, as a classifier that has to choose may."""
    return [is_constant(image) for image in images]


def always(images: Sequence[Image.Image]) -> list[bool]:
    """Sees the concept in everything."""
    return [True] * len(images)


def never(images: Sequence[Image.Image]) -> list[bool]:
    """Sees the concept in nothing."""
    return [False] * len(images)
