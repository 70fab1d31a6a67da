"""Names and shapes of tensors by which checkpoints of one base are told from those of another."""

from __future__ import annotations

from ...core.model_info import ShapeRule

# Full matrices and, of a low-rank update, those that read the same input.
_READS = r"(\.weight|[\w.]*(lora_down|lora_A|lora\.down)[\w.]*)$"
# Layers that read text encodings, and tables of token embeddings: both are as wide as the text states.
_TEXT = rf"attn2[._]to_k{_READS}|(^|\.)token_embedding\.weight$"
TEXT_TABLE = r"(^|\.)token_embedding\.weight$"
# Attention of diffusion transformers, which is as wide as their latent states, by diffusers' and publishers' names.
_JOINT_ATTENTION = (
    r"(^|[._])(transformer_blocks[._]\d+[._]attn[._](to_[qkv]|add_[qkv]_proj)"
    r"|(double_blocks[._]\d+[._](img|txt)_attn|joint_blocks[._]\d+[._](x|context)_block[._]attn)[._]qkv"
    rf"|single_blocks[._]\d+[._]linear1){_READS}"
)
LAYER_ATTENTION = rf"(^|[._])layers[._]\d+[._]attention[._]to_[qkv]{_READS}"
_CONTEXT = r"(^|\.)(context_embedder|txt_in)\.weight$"
# A whole transformer of Stable Diffusion 3 or FLUX.1, and what some of them have in it.
WHOLE = r"timestep_embedder\.linear_1\.weight$|(^|\.)(time_in\.in_layer|t_embedder\.mlp\.0)\.weight$"
GUIDANCE = r"guidance_embedder[._]|(^|[._])guidance_in[._]"
QUERY_NORM = (
    r"attn2?\.(norm_q|ln_q)\.|joint_blocks[._]\d+[._]x_block[._]attn2|transformer_blocks[._]\d+[._]attn2[._]to_q"
)
OTHER_FLOW = r"distilled_guidance_layer|joint_transformer_blocks|stream_modulation|txt_norm\."
TRANSFORMER = (
    r"^(transformer\.|text_encoder_3\.|text_encoders\.|(single_|joint_)?transformer_blocks\.|lora_transformer_)"
    r"|(joint|double)_blocks[._]\d"
)


def text_states(width: int) -> ShapeRule:
    """Return the rule of networks that read text states of this width."""
    return ShapeRule(_TEXT, width, "text states")


def latent_states(width: int) -> tuple[ShapeRule, ...]:
    """Return the rules of diffusion transformers whose latent states are of this width."""
    return (ShapeRule(_JOINT_ATTENTION, width, "latent states"), ShapeRule(_CONTEXT, width, "latent states", 0))
