"""Pipelines of diffusion transformers with random weights, built in a moment: for mechanics, never for a rate.

All have 100 to 500 thousand parameters and draw images of 32x32 pixels, but HunyuanDiT's of 64x64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import diffusers
import tiny_tokenizers as tokenizers
import torch
import transformers
from tiny import frozen

from pytest_unlearndiff.models.libraries import library_warnings_ignored

FLOW = diffusers.FlowMatchEulerDiscreteScheduler
LEVELS = (8, 16, 16, 16)


def autoencoder(levels: int = 3, **more: Any) -> diffusers.AutoencoderKL:
    """Latents of four channels, half as wide at each level but the first."""
    return diffusers.AutoencoderKL(
        block_out_channels=LEVELS[:levels],
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        norm_num_groups=4,
        sample_size=32,
        **{"latent_channels": 4, "scaling_factor": 0.7, **more},
    )


def t5(tokenizer: Any, width: int = 32) -> transformers.T5EncoderModel:
    """An encoder of two layers."""
    return transformers.T5EncoderModel(transformers.T5Config(**_t5_settings(tokenizer, width)))


def _t5_settings(tokenizer: Any, width: int = 32) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "d_model": width,
        "d_kv": 16,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 2,
        "feed_forward_proj": "gated-gelu",
    }


def _decoder_settings(tokenizer: Any, layers: int, width: int = 32) -> dict[str, Any]:
    """Settings that all decoders that read text have in common."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "max_position_embeddings": 1024,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


_HEADS = {"num_attention_heads": 2, "attention_head_dim": 16}


def _clip(tokenizer: Any, width: int, **more: Any) -> transformers.CLIPTextConfig:
    return transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_attention_heads=2,
        num_hidden_layers=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **more,
    )


def _stable_diffusion_3(*, with_t5: bool = True) -> Any:
    one, two, three = tokenizers.clip(), tokenizers.clip(pad_token="!"), tokenizers.t5()
    with_projection = transformers.CLIPTextModelWithProjection
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            joint_attention_dim=64,
            caption_projection_dim=32,
            pooled_projection_dim=56,
            pos_embed_max_size=8,
            qk_norm="rms_norm",
            dual_attention_layers=(0,),  # as Stable Diffusion 3.5 medium
            **_HEADS,
        ),
        scheduler=FLOW(shift=3.0),
        vae=autoencoder(shift_factor=0.06, scaling_factor=1.5),
        text_encoder=with_projection(_clip(one, 32, projection_dim=32)),
        text_encoder_2=with_projection(_clip(two, 24, projection_dim=24, hidden_act="gelu")),
        text_encoder_3=t5(three, 64) if with_t5 else None,
        tokenizer=one,
        tokenizer_2=two,
        tokenizer_3=three if with_t5 else None,
    )


def _flux(*, guided: bool = True) -> Any:
    one, two = tokenizers.clip(), tokenizers.t5()
    pipe = diffusers.FluxPipeline(
        transformer=diffusers.FluxTransformer2DModel(
            in_channels=16,
            num_layers=2,
            num_single_layers=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            guidance_embeds=guided,
            axes_dims_rope=(4, 4, 8),
            **_HEADS,
        ),
        scheduler=FLOW(shift=3.0, use_dynamic_shifting=True),
        vae=autoencoder(shift_factor=0.1159, scaling_factor=0.3611),
        text_encoder=transformers.CLIPTextModel(_clip(one, 32)),
        text_encoder_2=t5(two),
        tokenizer=one,
        tokenizer_2=two,
    )
    pipe.default_sample_size = 8
    return pipe


def _pixart_sigma() -> Any:
    tokenizer = tokenizers.t5()
    transformer = diffusers.PixArtTransformer2DModel(
        **_HEADS,
        sample_size=8,
        num_layers=2,
        patch_size=2,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=32,
        caption_channels=32,
        use_additional_conditions=False,
    )
    return diffusers.PixArtSigmaPipeline(
        tokenizer, t5(tokenizer), autoencoder(), transformer, diffusers.DPMSolverMultistepScheduler()
    )


def _qwen_image() -> Any:
    tokenizer, channels = tokenizers.qwen(), 4
    text = {
        **_decoder_settings(tokenizer, 2),
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 2, 4], "rope_theta": 1e6},
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    marks = dict.fromkeys(("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"), 0)
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **marks)
    pipe = diffusers.QwenImagePipeline(
        FLOW(shift=1.0, use_dynamic_shifting=True),
        diffusers.AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=channels,
            dim_mult=[1, 2, 2],
            num_res_blocks=1,
            temperal_downsample=[False, True],
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[1.5, 0.5, 2.0, 1.0],
        ),
        transformers.Qwen2_5_VLForConditionalGeneration(config),
        tokenizer,
        diffusers.QwenImageTransformer2DModel(
            **_HEADS,
            patch_size=2,
            in_channels=4 * channels,
            out_channels=channels,
            num_layers=2,
            joint_attention_dim=32,
            axes_dims_rope=(4, 4, 8),
        ),
    )
    # The beginning of the template is cut off after so many tokens of the real tokenizer.
    pipe.prompt_template_encode_start_idx = len(tokenizer(pipe.prompt_template_encode.split("{}")[0]).input_ids)
    pipe.default_sample_size = 8
    return pipe


def _sana() -> Any:
    tokenizer = tokenizers.gemma()
    settings = _decoder_settings(tokenizer, 1)
    gemma = transformers.Gemma2Config(
        **settings, num_key_value_heads=1, head_dim=8, sliding_window=64, query_pre_attn_scalar=16
    )
    vae = diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock",) * 3,
        decoder_block_types=("ResBlock",) * 3,
        encoder_block_out_channels=(8, 8, 16),
        decoder_block_out_channels=(8, 8, 16),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), (5,)),
        decoder_qkv_multiscales=((), (), (5,)),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        scaling_factor=0.41407,
    )
    transformer = diffusers.SanaTransformer2DModel(
        **_HEADS,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=16,
        cross_attention_dim=32,
        caption_channels=32,
    )
    # As published: whole timesteps of a solver for DDPM's schedule that is told to take flow's.
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return diffusers.SanaPipeline(tokenizer, transformers.Gemma2Model(gemma), vae, transformer, scheduler)


def _chroma() -> Any:
    tokenizer = tokenizers.t5()
    transformer = diffusers.ChromaTransformer2DModel(
        **_HEADS,
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 4, 8),
        approximator_num_channels=8,
        approximator_hidden_dim=32,
        approximator_layers=1,
    )
    vae = autoencoder(scaling_factor=0.3611, shift_factor=0.1159)
    pipe = diffusers.ChromaPipeline(FLOW(shift=3.0), vae, t5(tokenizer), tokenizer, transformer)
    pipe.default_sample_size = 8
    return pipe


def _z_image() -> Any:
    tokenizer = tokenizers.qwen()
    text_encoder = transformers.Qwen3Model(
        transformers.Qwen3Config(**_decoder_settings(tokenizer, 3), num_key_value_heads=1, head_dim=16)
    )
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=32,
        axes_dims=[4, 4, 8],
        axes_lens=[1024, 32, 32],
    )
    vae = autoencoder(scaling_factor=0.3611, shift_factor=0.1159)
    pipe = diffusers.ZImagePipeline(FLOW(shift=3.0), vae, text_encoder, tokenizer, transformer)
    pipe.default_sample_size = 8
    return pipe


def _flux2_klein() -> Any:
    tokenizer, levels = tokenizers.qwen(), 3
    text_encoder = transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(**_decoder_settings(tokenizer, 28, width=16), num_key_value_heads=1, head_dim=8)
    )
    vae = diffusers.AutoencoderKLFlux2(
        block_out_channels=LEVELS[:levels],
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    vae.bn.running_mean.uniform_(-1, 1)
    vae.bn.running_var.uniform_(0.5, 2)
    transformer = diffusers.Flux2Transformer2DModel(
        **_HEADS,
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        joint_attention_dim=48,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    pipe = diffusers.Flux2KleinPipeline(FLOW(use_dynamic_shifting=True), vae, text_encoder, tokenizer, transformer)
    pipe.default_sample_size = 8
    return pipe


def _aura_flow() -> Any:
    tokenizer = tokenizers.t5()
    text_encoder = transformers.UMT5EncoderModel(transformers.UMT5Config(**_t5_settings(tokenizer)))
    transformer = diffusers.AuraFlowTransformer2DModel(
        **_HEADS,
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=2,
        joint_attention_dim=32,
        caption_projection_dim=32,
        out_channels=4,
        pos_embed_max_size=64,
    )
    attention = transformer.joint_transformer_blocks[0].attn
    for layer in (attention.add_v_proj, attention.to_out[0]):
        layer.weight.mul_(10)  # else texts change the last digits only
    return diffusers.AuraFlowPipeline(tokenizer, text_encoder, autoencoder(), transformer, FLOW(shift=1.73))


def _hunyuan_dit() -> Any:
    first, second = tokenizers.bert(), tokenizers.t5(256)
    bert = transformers.BertConfig(
        vocab_size=len(first),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        pad_token_id=first.pad_token_id,
    )
    transformer = diffusers.HunyuanDiT2DModel(
        **_HEADS,
        sample_size=8,
        num_layers=2,
        patch_size=2,
        in_channels=4,
        hidden_size=32,
        cross_attention_dim=32,
        cross_attention_dim_t5=32,
        pooled_projection_dim=32,
        text_len=77,
        text_len_t5=256,
        activation_fn="gelu-approximate",
    )
    scheduler = diffusers.DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.03, prediction_type="v_prediction"
    )
    return diffusers.HunyuanDiTPipeline(
        vae=autoencoder(4),
        text_encoder=transformers.BertModel(bert),
        tokenizer=first,
        text_encoder_2=t5(second),
        tokenizer_2=second,
        transformer=transformer,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


BUILDERS: Mapping[str, Callable[[], Any]] = {
    "stable-diffusion-3": _stable_diffusion_3,
    "stable-diffusion-3-without-t5": partial(_stable_diffusion_3, with_t5=False),
    "flux": _flux,
    "flux-schnell": partial(_flux, guided=False),
    "pixart-sigma": _pixart_sigma,
    "qwen-image": _qwen_image,
    "sana": _sana,
    "chroma": _chroma,
    "z-image": _z_image,
    "flux2-klein": _flux2_klein,
    "aura-flow": _aura_flow,
    "hunyuan-dit": _hunyuan_dit,
}


@cache
def tiny_transformer(family: str, seed: int = 1) -> Any:
    """Return the tiny pipeline of a family, the same one each time: it is frozen, and tests do not change it."""
    torch.manual_seed(seed)
    with torch.no_grad(), library_warnings_ignored():
        pipe = BUILDERS[family]()
        for module in pipe.components.values():
            for parameter in module.parameters() if isinstance(module, torch.nn.Module) else ():
                # Output layers begin at zero, where every gradient is zero too.
                if parameter.dim() > 1 and not parameter.any():
                    torch.nn.init.normal_(parameter, std=0.2)
    return frozen(pipe)
