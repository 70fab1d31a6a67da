"""LoRA: low-rank changes to the weights of linear and convolutional layers (Hu et al. 2021, section 4).

Kohya's names (SPM, LECO), those of PEFT and diffusers (EraseAnything, EraseFlow and others) and, of diffusion
transformers, those of their publishers' code, whose layers may be several of diffusers' in one. Merged into the weights
here, so that every pair is accounted for and what is attacked is one set of weights.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...core.errors import ModelError
from ...core.untrusted import is_number, short_repr
from ..families.lookup import components_of
from ..tensor_files import Contents, Tensors
from ..weight_patches import DetectedFormat, WeightDiff, apply_weights, check_tensor, component_of
from .compvis_names import unet_names
from .original_names import Layers, original_layers

_ROLE = re.compile(
    r"(?P<layer>.+?)[._](?:lora[._])?"
    r"(?P<role>lora_down|lora_up|lora_A|lora_B|down|up|alpha|lora_linear_layer\.down|lora_linear_layer\.up)"
    r"(?:\.default)?(?:\.weight)?"
)
_ROLES = {"lora_down": "down", "lora_A": "down", "lora_up": "up", "lora_B": "up"}
_OTHER_KINDS = {
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "lora_mid": "Tucker-decomposed LoRA",
    "lora_gloce": "GLoCE, whose gates depend on the prompt",
    "oft_": "OFT",
    "lora_embedding": "LoRA of embeddings",
}
_PREFIXES = {
    "unet": ("lora_unet_",),
    "transformer": ("lora_transformer_", "lora_unet_"),
    "text_encoder": ("lora_te_", "lora_te1_"),
    "text_encoder_2": ("lora_te2_",),
    "text_encoder_3": ("lora_te3_",),
}
_COMPONENTS = tuple(_PREFIXES)
_FIRST_TEXT = "text_encoder"
# Options of PEFT that, but for bias="none", make something else than a plain LoRA.
_NOT_PLAIN = (
    *("use_dora", "use_rslora", "fan_in_fan_out", "lora_bias", "bias"),
    *("rank_pattern", "alpha_pattern", "modules_to_save"),
)
_MOST_ALPHA = 1_000_000


def read_lora(named: Tensors, contents: Contents) -> DetectedFormat:
    """Read tensors with these names (``FormatInfo``).

    Raises:
        ModelError: it is of a kind that is no plain LoRA, or a tensor belongs to no pair.
    """
    for mark, kind in _OTHER_KINDS.items():
        if key := next((key for key in named if mark in key), None):
            raise ModelError(f"is {kind} (it holds {key}); merge it into the network and save that instead")
    pairs, config = _pairs(named), contents.config
    if config is not None and (kind := config.get("peft_type", "LORA")) != "LORA":
        raise ModelError(f"is a PEFT adapter of type {short_repr(kind)}; only LORA is known")
    alphas = _alphas(_noted_config(contents.metadata) if config is None else config)
    title = f"LoRA with {'kohya' if any(key.startswith('lora_') for key in named) else 'PEFT'} names"
    notes = ("LoRA merged at strength 1; methods that scale it by prompt (SPM's transport) are tested in that form",)
    return DetectedFormat(title, (LoraPatch(pairs, alphas),), notes)


@dataclass(frozen=True)
class LoraWeights:
    """One layer's change: ``scale * up @ down``.

    Attributes:
        down: (rank, in) or (rank, in, h, w).
        up: (out, rank) or (out, rank, 1, 1).
        alpha: scale times rank; None where the file does not say.
    """

    down: torch.Tensor
    up: torch.Tensor
    alpha: float | None

    @property
    def rank(self) -> int:
        """Numbers between."""
        return int(self.down.shape[0])

    def delta(self, scale: float) -> torch.Tensor:
        """Return the change (out, in, ...) as float32."""
        down, up = self.down.float(), self.up.float()
        return scale * (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])


def _pairs(named: Tensors) -> dict[str, LoraWeights]:
    """Group tensors to pairs, by the layer's name in the file."""
    layers: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for key, value in named.items():
        match = _ROLE.fullmatch(key)
        if match is None:
            raise ModelError(f"{key} is part of no LoRA pair")
        role = match["role"].rpartition("layer.")[2]
        check_tensor(key, value)
        if layers[match["layer"]].setdefault(_ROLES.get(role, role), value) is not value:
            raise ModelError(f"holds two tensors for the {role} of {match['layer']}")
    return {layer: _pair(layer, parts) for layer, parts in layers.items()}


def _pair(layer: str, parts: Tensors) -> LoraWeights:
    if "down" not in parts or "up" not in parts:
        raise ModelError(f"holds only {', '.join(parts)} for {layer}; a LoRA pair has two tensors")
    down, up, alpha = parts["down"], parts["up"], parts.get("alpha")
    if down.dim() not in (2, 4) or up.dim() not in (2, 4) or up.flatten(1).shape[1] != down.shape[0] or not len(down):
        raise ModelError(f"{layer}: {list(up.shape)} and {list(down.shape)} are no LoRA pair")
    if alpha is not None and alpha.numel() != 1:
        raise ModelError(f"{layer}: alpha is {list(alpha.shape)}, not one number")
    for name, value in parts.items():
        if (name != "alpha" and not value.is_floating_point()) or not value.float().isfinite().all():
            raise ModelError(f"{layer}: its {name} holds NaN or infinity, or no real numbers")
    return LoraWeights(down, up, None if alpha is None else float(alpha))


def _noted_config(metadata: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the configuration that diffusers or PEFT noted in a file."""
    try:
        config = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ModelError("its lora_adapter_metadata is no JSON object")
    return config


def _alphas(config: Mapping[str, Any]) -> dict[str, float]:
    """Return alpha by the component whose name its options begin with; the empty name stands for all components."""
    configs: dict[str, dict[str, Any]] = defaultdict(dict)
    for key, value in config.items():
        component = next((name for name in _COMPONENTS if key.startswith(f"{name}.")), "")
        configs[component][key.removeprefix(f"{component}.") if component else key] = value
    return {component: _alpha(options) for component, options in configs.items()}


def _alpha(config: Mapping[str, Any]) -> float:
    """Return scale times rank of a PEFT configuration that asks for nothing but plain LoRA."""
    for option in _NOT_PLAIN:
        if (value := config.get(option)) and (option, value) != ("bias", "none"):
            used = f"{option}={short_repr(value)}"
            raise ModelError(f"its LoRA uses {used}; merge it into the network and save that instead")
    alpha = config.get("lora_alpha", config.get("r"))
    if not is_number(alpha, -_MOST_ALPHA, _MOST_ALPHA):
        raise ModelError(f"its LoRA configuration has lora_alpha={short_repr(alpha)}, which is no such number")
    return float(alpha)


@dataclass(frozen=True)
class LoraPatch:
    """Adds the changes to the layers' weights.

    Attributes:
        pairs: by the layer's name in the file.
        alphas: by component, for pairs that do not say theirs; without one the scale is 1.
    """

    pairs: Mapping[str, LoraWeights]
    alphas: Mapping[str, float]

    def apply(self, pipe: Any, *, partial: bool) -> list[WeightDiff]:
        """See ``WeightPatch``."""
        changes = []
        left = dict(self.pairs)
        for component in (name for name in components_of(pipe) if name != "vae"):
            layers = _layer_names(getattr(pipe, component), component)
            pairs = {name: (layers[name], left.pop(name)) for name in list(left) if name in layers}
            if pairs:
                changes.append(self._merge(pipe, component, pairs))
        if left:
            raise ModelError(
                f"{len(left)} of {len(self.pairs)} LoRA layers have no place in the base, such as {next(iter(left))}; "
                "is this the right base?"
            )
        return changes

    def _merge(self, pipe: Any, component: str, pairs: Mapping[str, tuple[Layers, LoraWeights]]) -> WeightDiff:
        weights, merged = component_of(pipe, component).state_dict(), dict[str, torch.Tensor]()
        for name, (layers, pair) in pairs.items():
            alpha = pair.alpha if pair.alpha is not None else self.alphas.get(component, self.alphas.get("", pair.rank))
            _check_pair(name, pair, [weights[f"{layer}.weight"] for layer in layers.names])
            rows = {layer: len(weights[f"{layer}.weight"]) for layer in layers.names}
            for layer, delta in layers.split(name, pair.delta(alpha / pair.rank), rows).items():
                key = f"{layer}.weight"
                if key in merged:
                    raise ModelError(f"{name} changes {layer}, which another pair changes too")
                weight = weights[key]
                change = delta.reshape(weight.shape).to(weight.device)
                merged[key] = (weight.float() + change).to(weight.dtype)
        if bad := next((key for key, value in merged.items() if not value.isfinite().all()), None):
            raise ModelError(f"{bad} becomes NaN or infinity")
        ranks = sorted({pair.rank for _, pair in pairs.values()})
        return apply_weights(pipe, component, merged, f"merged from LoRA of rank {', '.join(map(str, ranks))}")


def _check_pair(name: str, pair: LoraWeights, weights: Sequence[torch.Tensor]) -> None:
    """Refuse a pair whose change has another shape than the weights, one below the other, that it is for."""
    whole = (sum(map(len, weights)), *weights[0].shape[1:])
    if (pair.up.shape[0], *pair.down.shape[1:]) not in _shapes(whole):
        raise ModelError(
            f"{name}: LoRA of {list(pair.up.shape)} and {list(pair.down.shape)}, in the base the weight is "
            f"{list(whole)}; is this its base?"
        )


def _shapes(shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """List the shapes that a change to a weight of this shape may have: a 1x1 convolution is a linear layer."""
    if shape[2:] == (1, 1):
        return shape, shape[:2]
    return (shape, (*shape, 1, 1)) if len(shape) == 2 else (shape,)


def _layer_names(module: Any, component: str) -> dict[str, Layers]:
    """Return a component's layers, by all names that files have for them."""
    names: dict[str, Layers] = {}
    kohya = _PREFIXES.get(component, ())
    # Without the component's name, a text encoder's layer is the first one's.
    first = component == _FIRST_TEXT or not component.startswith(_FIRST_TEXT)
    dotted = (f"{component}.", *(("base_model.model.", "") if first else ()))
    if type(module).__name__.startswith("T5"):
        kohya = (*kohya, "lora_te3_")  # kohya counts FLUX's two encoders as Stable Diffusion 3's first and third
    theirs = unet_names(module) if component == "unet" else {}
    for layer, part in module.named_modules():
        if not isinstance(part, (torch.nn.Linear, torch.nn.Conv2d)):
            continue
        bare = layer.removeprefix("text_model.")
        spelt = (bare, f"text_model.{bare}") if component.startswith(_FIRST_TEXT) else (bare,)
        compvis = theirs.get(f"{layer}.weight", "").removesuffix(".weight")
        own = Layers((layer,))
        names |= {p + name.replace(".", "_"): own for p in kohya for name in (*spelt, compvis) if name}
        names |= {p + name: own for p in dotted for name in (*spelt, *map(_processor, spelt)) if name}
    if component == "transformer":
        for name, layers in original_layers(module.state_dict()).items():
            names |= {f"{prefix}{name.replace('.', '_')}": layers for prefix in kohya}
            names |= {f"{prefix}{name}": layers for prefix in ("", "diffusion_model.", "base_model.model.")}
    return names


def _processor(name: str) -> str:
    """Return the name that older diffusers gave a LoRA of an attention layer, without ``_lora`` at its end."""
    match = re.fullmatch(r"(.+\.attn[12])\.(to_q|to_k|to_v|to_out)(?:\.0)?", name)
    return f"{match[1]}.processor.{match[2]}" if match else ""
