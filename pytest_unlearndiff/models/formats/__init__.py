"""Checkpoint formats that unlearning repositories publish: one module each, and one row here, which needs no torch.

The first row that matches the tensors' names reads them; plugins' rows are asked before these. LoRA and Receler hide
among diffusers' names, so that they come first.
"""

from __future__ import annotations

import re

from ...core.model_info import FormatInfo

NETWORK_NAMES = {
    "unet": (
        *("down_blocks.", "mid_block.", "up_blocks.", "conv_in.", "conv_out."),
        *("time_embedding.", "conv_norm_out.", "add_embedding."),
    ),
    "transformer": (
        *("transformer_blocks.", "single_transformer_blocks.", "joint_transformer_blocks.", "context_embedder."),
        *("time_text_embed.", "x_embedder.", "pos_embed.", "norm_out.", "proj_out.", "patch_embed.", "adaln_single."),
        *("caption_projection.", "caption_norm.", "scale_shift_table", "time_embed.", "text_embedder."),
        *("time_extra_emb.", "blocks.", "register_tokens", "time_step_proj.", "distilled_guidance_layer."),
        *("txt_norm.", "txt_in.", "img_in.", "time_guidance_embed.", "double_stream_modulation"),
        *("single_stream_modulation", "layers.", "noise_refiner.", "context_refiner.", "cap_embedder.", "t_embedder."),
        *("all_x_embedder.", "all_final_layer.", "x_pad_token", "cap_pad_token", "text_embedding_padding"),
    ),
}
"""Beginnings of the names of a network's tensors in diffusers.

Transformers have their own in each family; a name that the base's has not is refused when it is put there.
"""

ROWS = (
    FormatInfo(
        "lora",
        f"{__name__}.lora:read_lora",
        "1",
        any_name=r"lora_|.*(\.lora_|_lora\d?\.|\.lora\.)",
        folder_config="adapter_config.json",
        folder_weights="adapter_model",
    ),
    FormatInfo(
        "receler",
        f"{__name__}.receler:read_receler",
        "1",
        any_name=r".+\.attn2\.adapter\.",
        every_name=r"((down|up)_blocks\.\d+|mid_block)\.attentions\.\d+\.(down|up)\.(weight|bias)$",
        folder_config="eraser_config.json",
        folder_weights="eraser_weights",
    ),
    FormatInfo(
        "original",
        f"{__name__}.original:read_original",
        "1",
        any_name=r"(model\.)?(diffusion_model\.)?(double_blocks|single_blocks|joint_blocks)\.\d",
    ),
    FormatInfo(
        "compvis",
        f"{__name__}.compvis:read_compvis",
        "1",
        any_name=r"(model\.)?diffusion_model\.|(input_blocks|middle_block|output_blocks|time_embed(?=\.\d)|label_emb|out\.[02])\."
        r"|first_stage_model\.|cond_stage_model\.(transformer|model)\."
        r"|conditioner\.embedders\.(0\.transformer|1\.model)\.",
    ),
    FormatInfo(
        "diffusers",
        f"{__name__}.diffusers_names:read_diffusers",
        "1",
        any_name="|".join(
            rf"({network}\.)?({'|'.join(map(re.escape, beginnings))})" for network, beginnings in NETWORK_NAMES.items()
        )
        + r"|(text_encoder(_[23])?\.)?(text_model\.)?"
        r"(embeddings|encoder\.(layers|block)|final_layer_norm|text_projection)\.",
    ),
)
