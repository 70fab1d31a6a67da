"""State dicts of diffusion transformers with the names of the code that they were published with.

Black Forest Labs' ``flux1-dev.safetensors``, Stability AI's ``sd3.5_medium.safetensors``, and what trainers save of
them, whole or in part, with or without ``model.diffusion_model.``; all-in-one files have text encoders and the
autoencoder beside.
"""

from __future__ import annotations

from typing import Any

import torch

from ...core.errors import ModelError
from ..tensor_files import Contents, Tensors
from ..weight_patches import DetectedFormat, WeightPatch, Weights, check_tensor
from .original_names import original_layers

_PREFIXES = ("model.diffusion_model.", "diffusion_model.")
# RMSNorm's weights in FLUX's code.
_LEAVES = {"scale": "weight"}


def read_original(named: Tensors, contents: Contents) -> DetectedFormat:
    """Read tensors with these names (``FormatInfo``)."""
    network: dict[str, torch.Tensor] = {}
    for key, value in named.items():
        name = next((key.removeprefix(prefix) for prefix in _PREFIXES if key.startswith(prefix)), key)
        if name in network:
            raise ModelError(f"holds {name} twice, with and without a prefix")
        network[name] = value
    patches: list[WeightPatch] = [Weights("transformer", network, _as_in_diffusers)]
    return DetectedFormat("transformer state dict with its publisher's names", tuple(patches))


def _as_in_diffusers(transformer: Any, tensors: Tensors) -> Tensors:
    """Rename tensors as diffusers does; those without a name keep theirs, to be refused by it."""
    known = transformer.state_dict()
    layers, renamed = original_layers(known), dict[str, torch.Tensor]()
    for key, value in tensors.items():
        layer, _, leaf = key.rpartition(".")
        leaf = _LEAVES.get(leaf, leaf)
        if layer in layers and all(f"{name}.{leaf}" in known for name in layers[layer].names):
            check_tensor(key, value)
            counts = {name: len(known[f"{name}.{leaf}"]) for name in layers[layer].names}
            parts = {f"{name}.{leaf}": rows for name, rows in layers[layer].split(key, value, counts).items()}
        else:
            parts = {f"pos_embed.{key}" if key == "pos_embed" else key: value}
        if twice := renamed.keys() & parts:
            raise ModelError(f"holds {min(twice)} twice, under two names")
        renamed |= parts
    return renamed
