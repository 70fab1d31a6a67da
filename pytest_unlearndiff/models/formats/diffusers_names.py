"""State dicts with the names that diffusers and transformers use: of a network, of text encoders, or both.

Full ones (old ESD, SalUn, RECE, STEREO), partial ones (ESD, UCE, SPEED, also of diffusion transformers), nested ones
(ESD's ``FineTunedModel``, the ``delta.bin`` of Concept Ablation), and AdvUnlearn's wrapped text encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...core.errors import ModelError
from ..tensor_files import Contents, Tensors
from ..weight_patches import DetectedFormat, WeightPatch, Weights
from . import NETWORK_NAMES

_PROJECTION = "text_projection."
_TEXT = ("embeddings.", "encoder.layers.", "final_layer_norm.", _PROJECTION)
SECOND = "text_encoder_2"
# AdvUnlearn's wrapper keeps the parts of its encoder a second time, under these names.
_ALIASES = {"embedding.": "embeddings.", "encoder.": "encoder.", "final_layer_norm.": "final_layer_norm."}


def read_diffusers(named: Tensors, contents: Contents) -> DetectedFormat | None:
    """Read tensors with these names (``FormatInfo``)."""
    networks, rest = _networks(named)
    second = {key.removeprefix(f"{SECOND}."): value for key, value in rest.items() if key.startswith(f"{SECOND}.")}
    text, wrapped = text_encoder_names({key: v for key, v in rest.items() if not key.startswith(f"{SECOND}.")})
    second, _ = text_encoder_names(second)
    if not second and any(key.startswith(_PROJECTION) for key in text):
        text, second = {}, text
    if not all(key.startswith(_TEXT) for key in (*text, *second)):
        return None
    patches: list[WeightPatch] = [Weights(network, tensors) for network, tensors in networks.items()]
    if text:
        patches.append(text_encoder(text))
    if second:
        patches.append(text_encoder(second, SECOND))
    titles = {"UNet" if name == "unet" else name: tensors for name, tensors in networks.items()}
    title = _title({**titles, "text encoder": text, "text encoder 2": second}, wrapped, contents)
    return DetectedFormat(title, tuple(patches))


def _networks(named: Tensors) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Sort tensors by their network, without its prefix, and return those of none beside."""
    networks: dict[str, dict[str, torch.Tensor]] = {}
    rest: dict[str, torch.Tensor] = {}
    for key, value in named.items():
        network = next((name for name in NETWORK_NAMES if key.startswith((f"{name}.", *NETWORK_NAMES[name]))), None)
        if network is None:
            rest[key] = value
            continue
        tensors, name = networks.setdefault(network, {}), key.removeprefix(f"{network}.")
        if name in tensors:
            raise ModelError(f"holds tensors twice, with and without the prefix {network}.")
        tensors[name] = value
    return networks, rest


def _title(parts: Mapping[str, Tensors], wrapped: bool, contents: Contents) -> str:
    if wrapped:
        return "text encoder state dict in AdvUnlearn's wrapper"
    components = " and ".join(name for name, part in parts.items() if part)
    if contents.flat:
        return f"{components} state dict"
    if set(contents.tree) & {*NETWORK_NAMES, "text_encoder", SECOND}:
        return f"{components} in a dict by component (delta.bin)"
    return f"{components} state dict nested by module"


def text_encoder(tensors: Tensors, component: str = "text_encoder") -> Weights:
    """Patch a whole text encoder; these are published complete, so one with a gap has lost tensors."""
    return Weights(component, tensors, _as_in, complete=True)


def text_encoder_names(tensors: Tensors) -> tuple[dict[str, torch.Tensor], bool]:
    """Rename tensors as transformers >= 5.6 does, without position ids; and tell whether they came from a wrapper.

    Raises:
        ModelError: a wrapper's second copy of a tensor is another.
    """
    inside = {key: value for key, value in tensors.items() if key.startswith("text_encoder.")}
    beside = {key: value for key, value in tensors.items() if key not in inside}
    flat = _flat({key.removeprefix("text_encoder."): value for key, value in (inside or beside).items()})
    if inside:
        _check_aliases(flat, beside)
    return flat, bool(inside and beside)


def _flat(tensors: Tensors) -> dict[str, torch.Tensor]:
    flat: dict[str, torch.Tensor] = {}
    for key, value in tensors.items():
        name = key.removeprefix("text_model.")
        if name in flat:
            raise ModelError(f"holds tensors twice, with and without the prefix text_model., such as {name}")
        if not name.endswith("position_ids"):
            flat[name] = value
    return flat


def _check_aliases(known: Tensors, aliases: Tensors) -> None:
    for key, value in aliases.items():
        alias = next((alias for alias in _ALIASES if key.startswith(alias)), None)
        name = _ALIASES[alias] + key.removeprefix(alias) if alias else key
        if name.endswith("position_ids"):
            continue
        if name not in known:
            raise ModelError(f"holds {key} beside a text encoder, where it has no place")
        if not torch.equal(known[name], value):
            raise ModelError(f"holds {key} twice with other numbers; which one is meant cannot be told")


def _as_in(module: Any, tensors: Tensors) -> Tensors:
    """Rename tensors as this version of transformers does."""
    if not any(key.startswith("text_model.") for key in module.state_dict()):
        return tensors
    return {key if key.startswith(_PROJECTION) else f"text_model.{key}": value for key, value in tensors.items()}
