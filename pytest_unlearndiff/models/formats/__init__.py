"""Checkpoint formats that unlearning repositories publish: one module each, and one row here, which needs no torch.

The first row that matches the tensors' names reads them; plugins' rows are asked before these. LoRA and Receler hide
among diffusers' names, so that they come first.
"""

from __future__ import annotations

from ...core.model_info import FormatInfo

ROWS = (
    FormatInfo(
        "lora",
        f"{__name__}.lora:read_lora",
        "1",
        any_name=r"lora_|.*(\.lora_|_lora\.|\.lora\.)",
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
        "compvis",
        f"{__name__}.compvis:read_compvis",
        "1",
        any_name=r"(model\.)?diffusion_model\.|(input_blocks|middle_block|output_blocks|time_embed|label_emb|out\.[02])\."
        r"|first_stage_model\.|cond_stage_model\.(transformer|model)\."
        r"|conditioner\.embedders\.(0\.transformer|1\.model)\.",
    ),
    FormatInfo(
        "diffusers",
        f"{__name__}.diffusers_names:read_diffusers",
        "1",
        any_name=r"(unet\.)?(down_blocks|mid_block|up_blocks|conv_in|conv_out|time_embedding|conv_norm_out|add_embedding)\."
        r"|(text_encoder(_2)?\.)?(text_model\.)?(embeddings|encoder\.layers|final_layer_norm|text_projection)\.",
    ),
)
