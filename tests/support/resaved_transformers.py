"""Save an unlearned Stable Diffusion 3 or FLUX.1 as unlearning repositories, publishers and trainers do."""

from __future__ import annotations

import re
from typing import Any

import torch
from resaved import Format, Pairs, Tensors, nested, pickled, safetensors

from pytest_unlearndiff.models.formats.original_names import original_layers

FAMILIES = ("stable-diffusion-3", "flux")
# The layers that ESD's scripts for FLUX and Stable Diffusion 3.5 train.
ESD = r"\.attn2?\.(?!norm)"
ESD_STRICT = r"\.attn\.to_[kv]\."
UCE = r"^(context_embedder|time_text_embed\.text_embedder\.linear_1)\.weight$"
PREFIX = "model.diffusion_model."


def transformer(pipe: Any, part: str = "", prefix: str = "") -> Tensors:
    """Tensors of the transformer whose names have a pattern, each name with a prefix."""
    tensors = pipe.transformer.state_dict().items()
    return {f"{prefix}{key}": value.clone() for key, value in tensors if re.search(part, key)}


def original(pipe: Any, part: str = "", prefix: str = PREFIX) -> Tensors:
    """The transformer with its publisher's names: several layers in one, shift before scale."""
    tensors, named = transformer(pipe, part), Tensors()
    for name, layers in original_layers(pipe.transformer.state_dict()).items():
        for leaf in ("weight", "bias"):
            rows = [tensors[f"{layer}.{leaf}"] for layer in layers.names if f"{layer}.{leaf}" in tensors]
            if "processor" in name or len(rows) != len(layers.names):
                continue
            whole = torch.cat(rows)
            if layers.swapped:
                whole = torch.cat(whole.chunk(2)[::-1])
            spelt = "scale" if re.search(r"\.(query|key)_norm$", name) else leaf
            named[f"{prefix}{name}.{spelt}"] = whole
    if "pos_embed.pos_embed" in tensors:
        named[f"{prefix}pos_embed"] = tensors["pos_embed.pos_embed"]
    return named


def low_rank(pipe: Any, part: str, rank: int = 2, seed: int = 3) -> Pairs:
    """Small random changes, up and down, for every linear layer of the transformer whose name has a pattern."""
    generator, pairs = torch.Generator().manual_seed(seed), Pairs()
    for name, layer in pipe.transformer.named_modules():
        if isinstance(layer, torch.nn.Linear) and re.search(part, name):
            rows, columns = layer.weight.shape
            up = torch.randn((rows, rank), generator=generator) * 0.1
            pairs[name] = up, torch.randn((rank, columns), generator=generator) * 0.1
    return pairs


FORMATS: dict[str, Format] = {
    "transformer safetensors": Format(safetensors(transformer), ("transformer",)),
    "transformer pt": Format(pickled(lambda pipe: {"state_dict": transformer(pipe)}), ("transformer",)),
    "transformer with prefix": Format(
        safetensors(lambda pipe: transformer(pipe, prefix="transformer.")), ("transformer",)
    ),
    "esd-x": Format(
        safetensors(lambda pipe: transformer(pipe, ESD), family="flux", component="transformer"), ("transformer",), ESD
    ),
    "esd-x with prefix": Format(pickled(lambda pipe: transformer(pipe, ESD, "transformer.")), ("transformer",), ESD),
    "esd-x-strict": Format(safetensors(lambda pipe: transformer(pipe, ESD_STRICT)), ("transformer",), ESD_STRICT),
    "esd nested": Format(pickled(lambda pipe: nested(transformer(pipe, ESD), "transformer.")), ("transformer",), ESD),
    "uce": Format(safetensors(lambda pipe: transformer(pipe, UCE)), ("transformer",), UCE),
    "by component": Format(pickled(lambda pipe: {"transformer": transformer(pipe)}), ("transformer",)),
    "publisher's names": Format(safetensors(original), ("transformer",)),
    "publisher's names without prefix": Format(pickled(lambda pipe: original(pipe, prefix="")), ("transformer",)),
    "part with publisher's names": Format(
        safetensors(lambda pipe: original(pipe, f"^transformer_blocks.*{ESD}")),
        ("transformer",),
        f"^transformer_blocks.*{ESD}",
    ),
}
