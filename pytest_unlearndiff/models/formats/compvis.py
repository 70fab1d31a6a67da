"""State dicts with CompVis' names: of the UNet alone, whole or in part, or of the whole ``LatentDiffusion`` model.

Old ESD, SalUn, EraseDiff, ScissorHands (``compvis-*.pt``), Selective Amnesia and Concept Ablation (``.ckpt``), and the
single files that interfaces such as A1111's use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ...core.errors import ModelError
from ..tensor_files import Contents, Tensors
from ..weight_patches import DetectedFormat, WeightDiff, WeightPatch, Weights, check_tensor
from .compvis_names import open_clip_name, unet_names, vae_names
from .diffusers_names import SECOND, text_encoder, text_encoder_names

_UNET_PREFIXES = ("model.diffusion_model.", "diffusion_model.")
_BARE = ("input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "label_emb.", "out.0.", "out.2.")
_VAE, _TEXT, _OPEN_CLIP = "first_stage_model.", "cond_stage_model.transformer.", "cond_stage_model.model."
# Where files of Stable Diffusion XL have their two.
_TEXT_XL, _OPEN_CLIP_XL = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
_EMA = "model_ema."
# What LatentDiffusion registers beside its networks; the base's scheduler has the same numbers.
_SCHEDULE = re.compile(
    r"betas|alphas_cumprod(_prev)?|sqrt_\w*alphas_cumprod|sqrt_recipm1_alphas_cumprod|log_one_minus_alphas_cumprod|"
    r"posterior_\w+|lvlb_weights|logvar|scale_factor|denoiser\.sigmas"
)
# Empty tensors with which trainers mark a checkpoint.
_MARKS = {"v_pred": ("prediction_type", "v_prediction"), "ztsnr": ("rescale_betas_zero_snr", True)}


def read_compvis(named: Tensors, contents: Contents) -> DetectedFormat:
    """Read tensors with these names (``FormatInfo``)."""
    parts = _by_part(named)
    patches: list[WeightPatch] = []
    if unet := parts["unet"]:
        patches.append(Weights("unet", unet, _unet_tensors))
    if text := parts["text"]:
        patches.append(text_encoder(text_encoder_names(text)[0]))
    if clip := parts["open_clip"]:
        patches.append(Weights("text_encoder", clip, _from_open_clip, complete=True))
    if second := parts["second"]:
        patches.append(Weights(SECOND, second, _from_open_clip, complete=True))
    if vae := parts["vae"]:
        patches.append(Weights("vae", vae, vae_tensors, complete=True))
    if "alphas_cumprod" in named:
        patches.append(SameSchedule(named["alphas_cumprod"]))
    if marks := [mark for mark in _MARKS if mark in named]:
        patches.append(SameTraining({_MARKS[mark][0]: _MARKS[mark][1] for mark in marks}))
    whole = bool(vae) and bool(text or clip or second)
    title = "CompVis checkpoint of a whole pipeline" if whole else "state dict with CompVis' names"
    return DetectedFormat(title, tuple(patches), tuple(_notes(parts)))


def _by_part(named: Tensors) -> Mapping[str, dict[str, torch.Tensor]]:
    """Sort tensors by the network they belong to, without its prefix."""
    prefixes = {
        **dict.fromkeys(_UNET_PREFIXES, "unet"),
        _TEXT: "text",
        _TEXT_XL: "text",
        _OPEN_CLIP: "open_clip",
        _OPEN_CLIP_XL: "second",
        _VAE: "vae",
        _EMA: "ema",
    }
    parts: dict[str, dict[str, torch.Tensor]] = {part: {} for part in (*prefixes.values(), "schedule", "embed")}
    for key, value in named.items():
        prefix = next((prefix for prefix in prefixes if key.startswith(prefix)), None)
        if prefix is not None:
            part, name = prefixes[prefix], key.removeprefix(prefix)
        elif key.startswith(_BARE):
            part, name = "unet", key
        elif _SCHEDULE.fullmatch(key) or key in _MARKS:
            part, name = "schedule", key
        elif key == "embed":
            part, name = "embed", key
        else:
            raise ModelError(f"{key} belongs to no part of a CompVis checkpoint")
        if name in parts[part]:
            raise ModelError(f"holds {name} of the {part} twice, under two prefixes")
        parts[part][name] = value
    return parts


def _notes(parts: Mapping[str, Tensors]) -> list[str]:
    notes = []
    if parts["ema"]:
        notes.append(f"{len(parts['ema'])} averaged (model_ema) tensors left out: the weights themselves are loaded")
    if parts["embed"]:
        notes.append("embed left out: the rows of added tokens, which prompts do not name")
    return notes


def _back(names: Mapping[str, str], tensors: Tensors, prefix: str) -> Tensors:
    """Rename tensors to diffusers' names; those without one get back the prefix they had, to be refused by it."""
    ours = {theirs: name for name, theirs in names.items()}
    return {ours.get(key, f"{prefix}{key}"): value for key, value in tensors.items()}


def _unet_tensors(unet: Any, tensors: Tensors) -> Tensors:
    return _back(unet_names(unet), tensors, _UNET_PREFIXES[0])


def vae_tensors(vae: Any, tensors: Tensors) -> Tensors:
    """Rename an autoencoder's tensors to diffusers' names, as ``_back``; CompVis has attention as 1x1 convolutions."""
    own = {key: value for key, value in tensors.items() if not key.startswith("loss.")}
    expected, named = vae.state_dict(), _back(vae_names(vae), own, _VAE)
    return {
        key: value[..., 0, 0] if key in expected and value.dim() == 4 == expected[key].dim() + 2 else value
        for key, value in named.items()
    }


def _from_open_clip(encoder: Any, tensors: Tensors) -> Tensors:
    """Convert OpenCLIP's tensors to those of a CLIP text encoder; 2.x ignores projection and deeper layers."""
    prefix = "text_model." if any(key.startswith("text_model.") for key in encoder.state_dict()) else ""
    converted: dict[str, torch.Tensor] = {}
    used: set[str] = {"text_projection", "logit_scale", "attn_mask"}
    for key in encoder.state_dict():
        name, third = open_clip_name(key.removeprefix(prefix))
        used.add(name)
        if name in tensors:
            check_tensor(name, tensors[name])
            converted[key] = tensors[name] if third is None else _third(name, tensors[name], third)
    if "text_projection.weight" in encoder.state_dict() and "text_projection" in tensors:
        check_tensor("text_projection", tensors["text_projection"])
        # OpenCLIP multiplies from the other side.
        converted["text_projection.weight"] = tensors["text_projection"].T.contiguous()
    depth = encoder.config.num_hidden_layers
    past = f"transformer.resblocks.{depth}."
    return converted | {key: value for key, value in tensors.items() if key not in used and not key.startswith(past)}


def _third(name: str, tensor: torch.Tensor, third: int) -> torch.Tensor:
    if tensor.dim() == 0 or tensor.shape[0] % 3:
        raise ModelError(f"{name} is {list(tensor.shape)}, which is not three tensors in one")
    return tensor.chunk(3)[third]


@dataclass(frozen=True)
class SameSchedule:
    """Checks that the checkpoint was trained with the base's noise schedule.

    Attributes:
        alphas: cumulative products (T,) of the checkpoint.
    """

    alphas: torch.Tensor

    def apply(self, pipe: Any, *, partial: bool) -> list[WeightDiff]:
        """See ``WeightPatch``."""
        base = torch.as_tensor(pipe.scheduler.alphas_cumprod).float().cpu()
        check_tensor("alphas_cumprod", self.alphas)
        if self.alphas.shape != base.shape or not torch.allclose(self.alphas.float(), base, atol=1e-3):
            raise ModelError("its noise schedule (alphas_cumprod) is another than the base's; is this its base?")
        return []


@dataclass(frozen=True)
class SameTraining:
    """Checks that the base's scheduler is what a marked checkpoint was trained for.

    Attributes:
        config: settings of the scheduler, by name.
    """

    config: Mapping[str, Any]

    def apply(self, pipe: Any, *, partial: bool) -> list[WeightDiff]:
        """See ``WeightPatch``."""
        for name, wanted in self.config.items():
            if (mine := pipe.scheduler.config.get(name)) != wanted:
                raise ModelError(
                    f"is marked as trained with {name}={wanted!r}, the base's is {mine!r}; is this its base?"
                )
        return []
