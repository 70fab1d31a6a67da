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
from ..weight_patches import DetectedFormat, OneOf, WeightPatch, Weights, check_tensor
from .compvis import vae_tensors
from .diffusers_names import FIRST, SECOND, THIRD, as_in_transformers, text_encoder_names
from .original_names import original_layers

_NETWORK = "transformer"
# The text encoders' own state dicts are those of transformers; T5 is FLUX's second and Stable Diffusion 3's third.
_PREFIXES = {
    "model.diffusion_model.": (_NETWORK,),
    "diffusion_model.": (_NETWORK,),
    "text_encoders.clip_l.transformer.": (FIRST,),
    "text_encoders.clip_g.transformer.": (SECOND,),
    "text_encoders.t5xxl.transformer.": (THIRD, SECOND),
    "first_stage_model.": ("vae",),
    "vae.": ("vae",),
}
_TITLES = {(FIRST,): "CLIP-L", (SECOND,): "CLIP-G", (THIRD, SECOND): "T5", ("vae",): "autoencoder"}
_UNUSED = ".logit_scale"
# RMSNorm's weights in FLUX's code.
_LEAVES = {"scale": "weight"}


def read_original(named: Tensors, contents: Contents) -> DetectedFormat:
    """Read tensors with these names (``FormatInfo``)."""
    parts: dict[tuple[str, ...], dict[str, torch.Tensor]] = {}
    for key, value in named.items():
        if key.endswith(_UNUSED):
            continue
        prefix = next((prefix for prefix in _PREFIXES if key.startswith(prefix)), "")
        part, name = parts.setdefault(_PREFIXES.get(prefix, (_NETWORK,)), {}), key.removeprefix(prefix)
        if name in part:
            raise ModelError(f"holds {name} twice, with and without a prefix")
        part[name] = value
    title = "transformer state dict with its publisher's names"
    if len(parts) > 1:
        beside = sorted(_TITLES[components] for components in parts if components in _TITLES)
        title = f"transformer, {' and '.join(beside)} in one file with its publisher's names"
    return DetectedFormat(title, tuple(_patch(components, tensors) for components, tensors in parts.items()))


def _patch(components: tuple[str, ...], tensors: Tensors) -> WeightPatch:
    if components == (_NETWORK,):
        return Weights(_NETWORK, tensors, _as_in_diffusers)
    if components == ("vae",):
        return Weights("vae", tensors, vae_tensors, complete=True)
    flat, _ = text_encoder_names(tensors)
    choices = {name: Weights(name, flat, _text_tensors, complete=True) for name in components}
    return OneOf({name: (weights,) for name, weights in choices.items()})


def _text_tensors(encoder: Any, tensors: Tensors) -> Tensors:
    """As ``as_in_transformers``; files keep the projection of CLIP also for FLUX, which does not use it."""
    projection = "text_projection.weight"
    unused = projection not in encoder.state_dict()
    return as_in_transformers(encoder, {k: v for k, v in tensors.items() if not (unused and k == projection)})


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
