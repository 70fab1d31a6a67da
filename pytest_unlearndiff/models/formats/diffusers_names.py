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
from ..weight_patches import DetectedFormat, OneOf, WeightPatch, Weights
from . import NETWORK_NAMES

_PROJECTION = "text_projection."
_CLIP = ("embeddings.", "encoder.layers.", "final_layer_norm.", _PROJECTION)
_T5 = ("shared.", "encoder.block.", "encoder.embed_tokens.", "encoder.final_layer_norm.")
FIRST, SECOND, THIRD = "text_encoder", "text_encoder_2", "text_encoder_3"
# AdvUnlearn's wrapper keeps the parts of its encoder a second time, under these names.
_ALIASES = {"embedding.": "embeddings.", "encoder.": "encoder.", "final_layer_norm.": "final_layer_norm."}


def read_diffusers(named: Tensors, contents: Contents) -> DetectedFormat | None:
    """Read tensors with these names (``FormatInfo``)."""
    networks, rest = _networks(named)
    later = {name: _without_prefix(rest, f"{name}.") for name in (SECOND, THIRD)}
    rest = {key: value for key, value in rest.items() if not key.startswith((f"{SECOND}.", f"{THIRD}."))}
    first, wrapped = text_encoder_names(rest)
    encoders = {FIRST: first, **{name: text_encoder_names(tensors)[0] for name, tensors in later.items()}}
    if not all(key.startswith((*_CLIP, *_T5)) for tensors in encoders.values() for key in tensors):
        return None
    patches: list[WeightPatch] = [Weights(network, tensors) for network, tensors in networks.items()]
    alone = not any(later.values())
    if first:
        inside = any(key.startswith(f"{FIRST}.") for key in rest)
        patches.append(text_encoder(first, *(_likely(first, inside=inside) if alone else (FIRST,))))
    patches += [text_encoder(encoders[name], name) for name in later if encoders[name]]
    titles = {"UNet" if name == "unet" else name: tensors for name, tensors in networks.items()}
    titles |= {name.replace("_", " "): tensors for name, tensors in encoders.items()}
    return DetectedFormat(_title(titles, wrapped, contents), tuple(patches))


def _without_prefix(tensors: Tensors, prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _likely(tensors: Tensors, *, inside: bool) -> tuple[str, ...]:
    """Return the components that a pipeline's only text encoder in a file may be, the likeliest first.

    Args:
        tensors: as ``text_encoder_names`` names them.
        inside: whether they are in a module called ``text_encoder``.
    """
    if inside:
        return (FIRST, SECOND) if any(key.startswith(_PROJECTION) for key in tensors) else (FIRST,)
    if any(key.startswith(_T5[:2]) for key in tensors):
        return THIRD, SECOND, FIRST
    return (SECOND, FIRST) if any(key.startswith(_PROJECTION) for key in tensors) else (FIRST,)


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
    if set(contents.tree) & {*NETWORK_NAMES, FIRST, SECOND, THIRD}:
        return f"{components} in a dict by component (delta.bin)"
    return f"{components} state dict nested by module"


def text_encoder(tensors: Tensors, *components: str) -> WeightPatch:
    """Patch a whole text encoder; these are published complete, so one with a gap has lost tensors.

    Args:
        tensors: as ``text_encoder_names`` names them.
        components: those that it may be, the likeliest first; none for the only one.
    """
    patches = {name: Weights(name, tensors, as_in_transformers, complete=True) for name in components or (FIRST,)}
    return (
        OneOf({name: (patch,) for name, patch in patches.items()}) if len(patches) > 1 else next(iter(patches.values()))
    )


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


def as_in_transformers(module: Any, tensors: Tensors) -> Tensors:
    """Rename tensors as this version of transformers does, and add those that are another one's under a second name."""
    expected = module.state_dict()
    if any(key.startswith("text_model.") for key in expected):
        tensors = {key if key.startswith(_PROJECTION) else f"text_model.{key}": value for key, value in tensors.items()}
    # T5's token embeddings have two names, of which files hold one.
    tied = {expected[key].data_ptr(): value for key, value in tensors.items() if key in expected}
    again = {key: tied[at] for key, value in expected.items() if (at := value.data_ptr()) in tied and at}
    return {**again, **tensors}
