"""CompVis' names of the tensors of a UNet, an autoencoder and a text encoder.

Written as a map of names, so that partial checkpoints keep every tensor: diffusers' converter counts the blocks it
finds and loses tensors of what has gaps. The layout is that of ``ldm/modules/diffusionmodules/openaimodel.py`` and
``model.py`` in CompVis/stable-diffusion.
"""

from __future__ import annotations

import re
from typing import Any

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_CLIP_OUTSIDE = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_BLOCK = re.compile(r"(down_blocks|up_blocks)\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def unet_names(unet: Any) -> dict[str, str]:
    """Return CompVis' name of every tensor of a diffusers UNet, by diffusers' name."""
    keys = list(unet.state_dict())
    with_attention = {
        match[2]
        for key in keys
        if (match := _BLOCK.match(key)) and key.startswith("up_blocks.") and match[3] == "attentions"
    }
    depths = {side: _resnets(keys, side) for side in ("down_blocks", "up_blocks")}
    return {key: _unet_name(key, depths, with_attention) for key in keys}


def _resnets(keys: list[str], side: str) -> list[int]:
    """Residual layers of each block."""
    counts: dict[int, int] = {}
    for key in keys:
        if (match := _BLOCK.match(key)) and match[1] == side and match[3] == "resnets":
            counts[int(match[2])] = max(counts.get(int(match[2]), 0), int(match[4]) + 1)
    return [counts[block] for block in sorted(counts)]


def _unet_name(key: str, depths: dict[str, list[int]], with_attention: set[str]) -> str:
    if match := _MIDDLE.match(key):
        part, index, rest = match.groups()
        return f"middle_block.1.{rest}" if part == "attentions" else f"middle_block.{2 * int(index)}.{_within(rest)}"
    if not (match := _BLOCK.match(key)):
        module, _, leaf = key.rpartition(".")
        return f"{_OUTSIDE.get(module, module)}.{leaf}"
    side, block, part, layer, rest = match.groups()
    before = depths[side][: int(block)]
    # Below each level one more module makes it smaller; above, the same module as the last layer makes it larger.
    first = 1 + sum(before) + len(before) if side == "down_blocks" else sum(before)
    number = first + int(layer)
    if part == "downsamplers":
        return f"input_blocks.{first + depths[side][int(block)]}.0.{rest.replace('conv.', 'op.')}"
    if part == "upsamplers":
        last = first + depths[side][int(block)] - 1
        return f"output_blocks.{last}.{2 if block in with_attention else 1}.{rest}"
    place = f"{'input_blocks' if side == 'down_blocks' else 'output_blocks'}.{number}"
    return f"{place}.1.{rest}" if part == "attentions" else f"{place}.0.{_within(rest)}"


def _within(rest: str) -> str:
    """Rename a part of a residual layer."""
    module, _, leaf = rest.rpartition(".")
    return f"{_RESNET.get(module, module)}.{leaf}"


def vae_names(vae: Any) -> dict[str, str]:
    """Return CompVis' name of every tensor of a diffusers autoencoder, by diffusers' name."""
    keys = list(vae.state_dict())
    levels = len({match[1] for key in keys if (match := re.match(r"decoder\.up_blocks\.(\d+)\.", key))})
    return {key: _vae_name(key, levels) for key in keys}


def _vae_name(key: str, levels: int) -> str:
    key = re.sub(r"^encoder\.down_blocks\.(\d+)\.", r"encoder.down.\1.", key)
    key = re.sub(r"^decoder\.up_blocks\.(\d+)\.", lambda match: f"decoder.up.{levels - 1 - int(match[1])}.", key)
    key = re.sub(r"mid_block\.resnets\.(\d+)\.", lambda match: f"mid.block_{int(match[1]) + 1}.", key)
    if match := re.match(r"(.+)\.mid_block\.attentions\.0\.(.+)\.(\w+)$", key):
        return f"{match[1]}.mid.attn_1.{_ATTENTION[match[2]]}.{match[3]}"
    for ours, theirs in (
        ("resnets.", "block."),
        ("downsamplers.0", "downsample"),
        ("upsamplers.0", "upsample"),
        ("conv_shortcut", "nin_shortcut"),
        ("conv_norm_out", "norm_out"),
    ):
        key = key.replace(ours, theirs)
    return key


def open_clip_name(key: str) -> tuple[str, int | None]:
    """Return OpenCLIP's name of a tensor of a CLIP text encoder, as Stable Diffusion 2.x and XL files have it.

    Returns:
        The name, and which third of that tensor it is, where it is stored with two others.
    """
    if key in _CLIP_OUTSIDE:
        return _CLIP_OUTSIDE[key], None
    match = re.match(r"encoder\.layers\.(\d+)\.(.+)\.(\w+)$", key)
    if match is None:
        return key, None
    layer, module, leaf = match.groups()
    place = f"transformer.resblocks.{layer}"
    if module.startswith("self_attn.") and module[-6:] in ("q_proj", "k_proj", "v_proj"):
        return f"{place}.attn.in_proj_{leaf}", "qkv".index(module[-6])
    return f"{place}.{_CLIP.get(module, module)}.{leaf}", None
