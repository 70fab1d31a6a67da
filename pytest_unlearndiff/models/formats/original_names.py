"""Names of a diffusion transformer's layers in the code that it was published with, for Stable Diffusion 3 and FLUX.

Written as a map of names that takes all numbers from the base, as ``compvis_names`` is: diffusers' converters have
FLUX.1's own numbers of blocks and widths in them, want every tensor to be there, and drop low-rank updates that they
do not know with a log message. The layouts are those of ``mmdit.py`` in Stability-AI/sd3.5 and ``model.py`` in
black-forest-labs/flux; tests hold the map against diffusers' converters.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch

from ...core.errors import ModelError


@dataclass(frozen=True)
class Layers:
    """Layers of diffusers that one layer of a file is.

    Attributes:
        names: in the order of their rows in the file's layer.
        swapped: whether the two halves of the rows, shift and scale, are the other way round.
    """

    names: tuple[str, ...]
    swapped: bool = False

    def split(self, name: str, rows: torch.Tensor, counts: Mapping[str, int]) -> dict[str, torch.Tensor]:
        """Split what a file has for the layer, by diffusers' names.

        Args:
            name: of the file, for errors.
            rows: (n, ...), where n has to be the sum of the layers' rows.
            counts: rows of each layer.

        Raises:
            ModelError: there are more rows or fewer.
        """
        sizes = [counts[layer] for layer in self.names]
        if len(self.names) > 1 and (rows.dim() == 0 or len(rows) != sum(sizes)):
            raise ModelError(
                f"{name} is {list(rows.shape)}, in the base {len(sizes)} layers of {sum(sizes)} rows; is this its base?"
            )
        if self.swapped and rows.dim() and len(rows) % 2 == 0:
            rows = torch.cat(rows.chunk(2)[::-1])
        return dict(zip(self.names, torch.split(rows, sizes) if len(sizes) > 1 else (rows,), strict=True))


_TIME, _POOLED, _GUIDANCE = (f"time_text_embed.{name}_embedder" for name in ("timestep", "text", "guidance"))
_IMAGE_QKV, _TEXT_QKV = ("to_q", "to_k", "to_v"), ("add_q_proj", "add_k_proj", "add_v_proj")
_SWAPPED = {"final_layer.adaLN_modulation.1"}
_FINAL = {"final_layer.linear": "proj_out", "final_layer.adaLN_modulation.1": "norm_out.linear"}
_FLUX = {
    "time_in.in_layer": f"{_TIME}.linear_1",
    "time_in.out_layer": f"{_TIME}.linear_2",
    "vector_in.in_layer": f"{_POOLED}.linear_1",
    "vector_in.out_layer": f"{_POOLED}.linear_2",
    "guidance_in.in_layer": f"{_GUIDANCE}.linear_1",
    "guidance_in.out_layer": f"{_GUIDANCE}.linear_2",
    "txt_in": "context_embedder",
    "img_in": "x_embedder",
    **_FINAL,
}
_SD3 = {
    "t_embedder.mlp.0": f"{_TIME}.linear_1",
    "t_embedder.mlp.2": f"{_TIME}.linear_2",
    "y_embedder.mlp.0": f"{_POOLED}.linear_1",
    "y_embedder.mlp.2": f"{_POOLED}.linear_2",
    "context_embedder": "context_embedder",
    "x_embedder.proj": "pos_embed.proj",
    **_FINAL,
}
_FLUX_DOUBLE = {
    **{
        f"{stream}_attn.qkv": tuple(f"attn.{part}" for part in parts)
        for stream, parts in (("img", _IMAGE_QKV), ("txt", _TEXT_QKV))
    },
    "img_mod.lin": ("norm1.linear",),
    "txt_mod.lin": ("norm1_context.linear",),
    "img_attn.norm.query_norm": ("attn.norm_q",),
    "img_attn.norm.key_norm": ("attn.norm_k",),
    "txt_attn.norm.query_norm": ("attn.norm_added_q",),
    "txt_attn.norm.key_norm": ("attn.norm_added_k",),
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.proj": ("attn.to_add_out",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
}
_FLUX_SINGLE = {
    "linear1": (*(f"attn.{part}" for part in _IMAGE_QKV), "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation.lin": ("norm.linear",),
    "norm.query_norm": ("attn.norm_q",),
    "norm.key_norm": ("attn.norm_k",),
}
_SD3_JOINT = {
    "x_block.attn.qkv": tuple(f"attn.{part}" for part in _IMAGE_QKV),
    "x_block.attn2.qkv": tuple(f"attn2.{part}" for part in _IMAGE_QKV),
    "context_block.attn.qkv": tuple(f"attn.{part}" for part in _TEXT_QKV),
    "x_block.attn.ln_q": ("attn.norm_q",),
    "x_block.attn.ln_k": ("attn.norm_k",),
    "x_block.attn2.ln_q": ("attn2.norm_q",),
    "x_block.attn2.ln_k": ("attn2.norm_k",),
    "context_block.attn.ln_q": ("attn.norm_added_q",),
    "context_block.attn.ln_k": ("attn.norm_added_k",),
    "x_block.attn.proj": ("attn.to_out.0",),
    "x_block.attn2.proj": ("attn2.to_out.0",),
    "context_block.attn.proj": ("attn.to_add_out",),
    "x_block.adaLN_modulation.1": ("norm1.linear",),
    "context_block.adaLN_modulation.1": ("norm1_context.linear",),
    "x_block.mlp.fc1": ("ff.net.0.proj",),
    "x_block.mlp.fc2": ("ff.net.2",),
    "context_block.mlp.fc1": ("ff_context.net.0.proj",),
    "context_block.mlp.fc2": ("ff_context.net.2",),
}
# XLabs' trainer names its low-rank updates of attention after the processor that adds them.
_FLUX_DOUBLE |= {
    "processor.qkv_lora1": _FLUX_DOUBLE["img_attn.qkv"],
    "processor.qkv_lora2": _FLUX_DOUBLE["txt_attn.qkv"],
    "processor.proj_lora1": _FLUX_DOUBLE["img_attn.proj"],
    "processor.proj_lora2": _FLUX_DOUBLE["txt_attn.proj"],
}
_FLUX_SINGLE |= {"processor.qkv_lora": _FLUX_SINGLE["linear1"][:3], "processor.proj_lora": _FLUX_SINGLE["linear2"]}
# By a layer that tells the two publishers apart: the layers outside blocks, and the blocks. Of other families only the
# layers that are named alike are returned.
_PUBLISHERS = {
    "x_embedder": (
        _FLUX,
        (
            ("double_blocks", "transformer_blocks", _FLUX_DOUBLE),
            ("single_blocks", "single_transformer_blocks", _FLUX_SINGLE),
        ),
    ),
    "pos_embed.proj": (_SD3, (("joint_blocks", "transformer_blocks", _SD3_JOINT),)),
}


def original_layers(keys: Collection[str]) -> dict[str, Layers]:
    """Return the layers of a diffusers transformer by their original names.

    Args:
        keys: names of its tensors, as diffusers has them.
    """
    known = {key.rpartition(".")[0] for key in keys}
    return {name: layers for name, layers in _all_layers(known) if known.issuperset(layers.names)}


def _all_layers(known: Collection[str]) -> Iterator[tuple[str, Layers]]:
    for outside, blocks in (names for layer, names in _PUBLISHERS.items() if layer in known):
        for name, layer in outside.items():
            yield name, Layers((layer,), swapped=name in _SWAPPED)
        for original, block, parts in blocks:
            count = _blocks(known, block)
            for i in range(count):
                for part, names in parts.items():
                    # Stable Diffusion 3's last block ends its text stream, with another norm.
                    swapped = part == "context_block.adaLN_modulation.1" and i == count - 1
                    yield f"{original}.{i}.{part}", Layers(tuple(f"{block}.{i}.{name}" for name in names), swapped)


def _blocks(known: Collection[str], name: str) -> int:
    return 1 + max((int(match[1]) for key in known if (match := re.match(rf"{name}\.(\d+)\.", key))), default=-1)
