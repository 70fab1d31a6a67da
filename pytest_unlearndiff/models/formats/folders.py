"""Folders: whole pipelines, single components, adapters with their configuration, or one file alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ...core import untrusted
from ...core.errors import ModelError
from ...core.untrusted import printable, shown
from ..families import supported_families
from ..files import Contents, is_checkpoint, read_file
from ..weight_patches import WeightPatch, Weights, component_of
from . import detect_format
from .detected import DetectedFormat
from .diffusers_names import SECOND, text_encoder, text_encoder_names
from .receler import check_rank

_COMPONENTS = {
    "UNet2DConditionModel": "unet",
    "CLIPTextModel": "text_encoder",
    "CLIPTextModelWithProjection": SECOND,
}
_TEXT_DECIDING = ("hidden_act", "num_attention_heads", "layer_norm_eps")
# What weights alone do not show, but decides what they compute.
_DECIDING = {
    "unet": (
        "attention_head_dim",
        "num_attention_heads",
        "act_fn",
        "norm_num_groups",
        "norm_eps",
        "use_linear_projection",
    ),
    "text_encoder": _TEXT_DECIDING,
    SECOND: _TEXT_DECIDING,
}


@dataclass(frozen=True)
class WeightFiles:
    """Where a component's tensors are.

    Attributes:
        files: one, or shards.
        variant: such as ``fp16``, as part of their names; None for the plain ones.
    """

    files: tuple[Path, ...]
    variant: str | None = None

    @property
    def safe(self) -> bool:
        """Whether they are safetensors."""
        return self.files[0].suffix == ".safetensors"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor, by name, without reading numbers where the format allows."""
        found: dict[str, tuple[int, ...]] = {}
        for file in self.files:
            found |= _shapes(file)
        return found


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    if file.suffix != ".safetensors":
        return {key: tuple(value.shape) for key, value in read_file(file).tree.items() if hasattr(value, "shape")}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            return {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file.name} is not a whole safetensors file: {error}. Fetch or save it again") from None


def weights_stem(component: str) -> str:
    """Return the name of a component's weight file, as transformers and diffusers write it."""
    return "model" if component.startswith("text_encoder") else "diffusion_pytorch_model"


def weight_files(folder: Path, stem: str) -> WeightFiles:
    """Find a component's files as the libraries do: safetensors before pickles, plain before half precision.

    Raises:
        ModelError: there are none, or an index names what is not in the folder.
    """
    stems = (stem, "pytorch_model") if stem == "model" else (stem,)
    for ending in ("safetensors", "bin"):
        for variant in (None, "fp16", "bf16"):
            for name in stems:
                middle = f".{variant}" if variant else ""
                if (folder / f"{name}{middle}.{ending}").is_file():
                    return WeightFiles((folder / f"{name}{middle}.{ending}",), variant)
                if (folder / f"{name}.{ending}.index{middle}.json").is_file():
                    return WeightFiles(_shards(folder, f"{name}.{ending}.index{middle}.json"), variant)
    raise ModelError(f"{folder.name} has a config.json, but no {stem}.safetensors beside it")


def _shards(folder: Path, index: str) -> tuple[Path, ...]:
    named = read_json(folder / index).get("weight_map")
    names = sorted(set(named.values())) if isinstance(named, dict) and all(map(_plain, named.values())) else []
    if not names:
        raise ModelError(f"{folder.name}/{index} is no index of files beside it")
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ModelError(f"{folder.name}: {printable(missing[0])} is missing, which {index} names")
    return tuple(folder / name for name in names)


def _plain(name: Any) -> bool:
    return isinstance(name, str) and Path(name).name == name


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file.

    Raises:
        ModelError: it cannot be read, or is something else.
    """
    try:
        data = untrusted.read_json(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.name} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise ModelError(f"{path.name} is no JSON object")
    return data


def read_folder(path: Path, *, trust_pickle: bool = False) -> tuple[DetectedFormat, Mapping[str, str]]:
    """Recognise a folder that is no pipeline.

    Returns:
        What it is, and what its files say about themselves.

    Raises:
        ModelError: it is nothing that is known; the message says what was found.
    """
    if (path / "eraser_config.json").is_file():
        return _receler(path, trust_pickle)
    if (path / "adapter_config.json").is_file():
        return _adapter(path, trust_pickle)
    if (path / "config.json").is_file():
        return _component(path, trust_pickle)
    parts = [path / name for name in _COMPONENTS.values() if (path / name / "config.json").is_file()]
    if parts:
        found = [_component(part, trust_pickle) for part in parts]
        patches = tuple(patch for recognised, _ in found for patch in recognised.patches)
        return DetectedFormat(f"folder of {' and '.join(part.name for part in parts)}", patches), {}
    inside = [file for file in sorted(path.iterdir()) if is_checkpoint(file)]
    if len(inside) != 1:
        names = f", such as {inside[0].name}; give one of them" if inside else ""
        raise ModelError(
            "is not a pipeline, UNet or CLIP text encoder folder: found no model_index.json, no config.json and "
            f"{len(inside)} weight files{names}"
        )
    contents = read_file(inside[0], trust_pickle=trust_pickle)
    return detect_format(contents), contents.metadata


def _component(path: Path, trust_pickle: bool) -> tuple[DetectedFormat, Mapping[str, str]]:
    config = read_json(path / "config.json")
    architectures = config.get("architectures")
    named = [config.get("_class_name"), *(architectures if isinstance(architectures, list) else ())]
    component = next((_COMPONENTS[name] for name in named if isinstance(name, str) and name in _COMPONENTS), None)
    if component is None:
        found = next((name for name in named if name), "nothing it names")
        raise ModelError(
            f"is not a UNet or CLIP text encoder folder: found a {printable(str(found))}; {supported_families()}"
        )
    contents = _joined(
        [read_file(f, trust_pickle=trust_pickle) for f in weight_files(path, weights_stem(component)).files]
    )
    patches = _component_edits(component, contents)
    check = SameConfig(component, {key: config[key] for key in _DECIDING[component] if key in config})
    return DetectedFormat(f"{component} folder", (check, *patches), contents.notes), contents.metadata


def _joined(shards: list[Contents]) -> Contents:
    return Contents(
        {key: value for shard in shards for key, value in shard.tree.items()},
        {key: value for shard in shards for key, value in shard.metadata.items()},
        tuple(note for shard in shards for note in shard.notes),
    )


def _component_edits(component: str, contents: Contents) -> tuple[WeightPatch, ...]:
    """A folder holds its component whole, so a gap is an error there."""
    if loose := next((key for key, value in contents.tree.items() if not isinstance(value, torch.Tensor)), None):
        raise ModelError(f"{shown(loose)} is no tensor; not a state dict of a known layout")
    if component != "unet":
        return (text_encoder(text_encoder_names(contents.tree)[0], component),)
    found = detect_format(contents)
    return tuple(replace(patch, complete=True) if isinstance(patch, Weights) else patch for patch in found.patches)


@dataclass(frozen=True)
class SameConfig:
    """Checks that a component computes with its weights as the base does.

    Attributes:
        component: which one.
        config: its deciding settings.
    """

    component: str
    config: Mapping[str, Any]

    def apply(self, pipe: Any, *, partial: bool) -> list[Any]:
        """See ``WeightPatch``."""
        base = component_of(pipe, self.component).config
        for key, value in self.config.items():
            if (known := getattr(base, key, value)) != value and list(_flat(known)) != list(_flat(value)):
                raise ModelError(
                    f"its {self.component} has {key}={shown(value)}, the base's {shown(known)}; is this its base?"
                )
        return []


def _flat(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _receler(path: Path, trust_pickle: bool) -> tuple[DetectedFormat, Mapping[str, str]]:
    config = read_json(path / "eraser_config.json")
    if (kind := config.get("eraser_type")) != "adapter":
        raise ModelError(f"eraser_config.json has eraser_type={shown(kind)}; only adapter is known")
    contents = read_file(_only(path, "eraser_weights"), trust_pickle=trust_pickle)
    found = detect_format(contents)
    check_rank(found, config.get("eraser_rank"))
    return found, {key: str(value) for key, value in config.items()}


def _adapter(path: Path, trust_pickle: bool) -> tuple[DetectedFormat, Mapping[str, str]]:
    config = read_json(path / "adapter_config.json")
    if (kind := config.get("peft_type", "LORA")) != "LORA":
        raise ModelError(f"is a PEFT adapter of type {shown(kind)}; only LORA is known")
    contents = read_file(_only(path, "adapter_model"), trust_pickle=trust_pickle)
    noted = replace(contents, metadata={**contents.metadata, "lora_adapter_metadata": json.dumps(config)})
    return detect_format(noted), contents.metadata


def _only(folder: Path, stem: str) -> Path:
    found = [file for file in sorted(folder.iterdir()) if file.name.startswith(stem) and is_checkpoint(file)]
    if len(found) != 1:
        raise ModelError(f"has {len(found)} files {stem}.*; exactly one is needed")
    return found[0]
