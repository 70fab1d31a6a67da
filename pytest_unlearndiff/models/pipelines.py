"""The kinds of pipelines that can be attacked, and the networks each is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from ..core.errors import ModelError
from ..core.untrusted import shown

Pipeline = StableDiffusionPipeline | StableDiffusionXLPipeline

PROTOCOL = (
    "only pipelines with a UNet and one or two CLIP text encoders (Stable Diffusion 1.x and 2.x, Stable Diffusion XL) "
    "can be attacked so far"
)

_AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny")


@dataclass(frozen=True)
class Kind:
    """One kind of pipeline.

    Attributes:
        name: for people.
        pipeline: the class that draws with it.
        others: names of further classes whose folders it loads.
        networks: the classes that each component may have.
        without: how its class is loaded with nothing beside these and a safety checker.
        unchecked: and without a safety checker.
    """

    name: str
    pipeline: Any
    others: tuple[str, ...]
    networks: Mapping[str, tuple[str, ...]]
    without: Mapping[str, Any]
    unchecked: Mapping[str, Any]


KINDS = (
    Kind(
        "Stable Diffusion",
        StableDiffusionPipeline,
        ("StableDiffusionPipelineSafe",),
        {"unet": ("UNet2DConditionModel",), "text_encoder": ("CLIPTextModel",), "vae": _AUTOENCODERS},
        {"image_encoder": None},
        {"feature_extractor": None, "safety_checker": None, "requires_safety_checker": False},
    ),
    Kind(
        "Stable Diffusion XL",
        StableDiffusionXLPipeline,
        (),
        {
            "unet": ("UNet2DConditionModel",),
            "text_encoder": ("CLIPTextModel",),
            "vae": _AUTOENCODERS,
            "text_encoder_2": ("CLIPTextModelWithProjection",),
        },
        # A package that happens to be installed must not change images.
        {"image_encoder": None, "feature_extractor": None, "add_watermarker": False},
        {},
    ),
)


def kind_named(name: Any) -> Kind | None:
    """The kind whose folders name this class of pipeline."""
    return next((kind for kind in KINDS if name in (kind.pipeline.__name__, *kind.others)), None)


def kind_of(pipe: Any) -> Kind:
    """The kind of a pipeline.

    Raises:
        ModelError: it is of none, or its UNet wants more than text, latents and a timestep.
    """
    kind = next((kind for kind in KINDS if isinstance(pipe, kind.pipeline)), None)
    if kind is None:
        raise ModelError(f"the pipeline is a {type(pipe).__name__}; {PROTOCOL}")
    for component, known in kind.networks.items():
        # Not the class alone: what compiles or wraps a network keeps its configuration.
        if getattr(pipe, component, None) is None:
            raise ModelError(f"the {type(pipe).__name__} has no {component} ({' or '.join(known)}); {PROTOCOL}")
    _check_unet(pipe.unet.config, two_encoders="text_encoder_2" in kind.networks)
    return kind


def _check_unet(config: Any, *, two_encoders: bool) -> None:
    """Refuse UNets that ask for what only some pipelines give.

    Raises:
        ModelError: names the setting.
    """
    wanted = {
        "addition_embed_type": "text_time" if two_encoders else None,
        "time_cond_proj_dim": None,
        "class_embed_type": None,
        "num_class_embeds": None,
        "encoder_hid_dim_type": None,
    }
    for name, value in wanted.items():
        if (found := config.get(name)) != value:
            raise ModelError(f"its unet has {name}={shown(found)} where {value!r} is known; {PROTOCOL}")


def networks(pipe: Any) -> tuple[str, ...]:
    """Names of a pipeline's networks."""
    return tuple(kind_of(pipe).networks)
