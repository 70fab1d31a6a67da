"""Read what is at a path: tensors by component, detected by content and never by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..core.errors import ModelError

Tensors = Mapping[str, torch.Tensor]
_UNET = ("down_blocks.", "mid_block.", "up_blocks.", "conv_in.", "conv_out.", "time_embedding.", "conv_norm_out.")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True)
class Checkpoint:
    """What a path holds.

    Attributes:
        path: where it is.
        format: what it was recognised as, for people.
        pipeline: whether it is a whole pipeline folder.
        components: tensors by component (``unet``, ``text_encoder``), for anything else.
        metadata: what the file says about itself, such as the ESD authors' keys.
    """

    path: Path
    format: str
    pipeline: bool = False
    components: Mapping[str, Tensors] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_checkpoint(path: Path) -> Checkpoint:
    """Recognise a pipeline folder, a component folder, or a file of tensors.

    Raises:
        ModelError: nothing there, not readable, or not a known format; the message says what was found.
    """
    if not path.exists():
        raise ModelError(f"no model at {path}: give a pipeline folder, a component folder or a checkpoint file")
    if path.is_dir():
        return _read_folder(path)
    tensors, metadata = _read_file(path)
    return _classify(path, tensors, metadata)


def _read_folder(path: Path) -> Checkpoint:
    if (path / "model_index.json").is_file():
        return Checkpoint(path, "pipeline folder", pipeline=True)
    config = _json(path / "config.json") if (path / "config.json").is_file() else {}
    architectures = [config.get("_class_name"), *(config.get("architectures") or ())]
    if "UNet2DConditionModel" in architectures:
        component, weights = "unet", _weights(path, "diffusion_pytorch_model")
    elif "CLIPTextModel" in architectures:
        component, weights = "text_encoder", _weights(path, "model")
    else:
        inside = [file for file in sorted(path.iterdir()) if file.suffix in _SUFFIXES]
        if len(inside) == 1 and not config:
            return read_checkpoint(inside[0])
        named = next((name for name in architectures if name), None)
        found = f"a {named}" if named else f"no model_index.json, no config.json and {len(inside)} weight files"
        raise ModelError(f"{path}: not a pipeline, UNet or CLIP text encoder folder; found {found}")
    tensors, metadata = _read_file(weights)
    parts = {component: _text_encoder_names(tensors) if component == "text_encoder" else tensors}
    return Checkpoint(path, f"{component} folder", components=parts, metadata=metadata)


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    return data if isinstance(data, dict) else {}


def _weights(folder: Path, stem: str) -> Path:
    for name in (f"{stem}.safetensors", "pytorch_model.bin", f"{stem}.bin"):
        if (folder / name).is_file():
            return folder / name
    raise ModelError(f"{folder}: a config.json but no {stem}.safetensors beside it")


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Tensors (or nested mappings of them) and metadata of one file."""
    if path.suffix not in _SUFFIXES:
        raise ModelError(f"{path}: not a checkpoint file; known endings are {', '.join(_SUFFIXES)}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(
            f"{path} cannot be read as tensors alone: {_first_line(error)}. It may be truncated, or hold pickled code, "
            "which is never executed; save it again as safetensors"
        ) from None
    while isinstance(data, dict) and len(wrapper := [key for key in data if key in _WRAPPERS]) == 1:
        data = data[wrapper[0]]
    if not isinstance(data, dict) or not data:
        raise ModelError(f"{path}: holds {type(data).__name__}, not a state dict")
    return data, {}


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is not a whole safetensors file: {_first_line(error)}. Fetch or save it again"
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _classify(path: Path, tensors: dict[str, Any], metadata: dict[str, str]) -> Checkpoint:
    if set(tensors) <= {"unet", "text_encoder"} and all(isinstance(part, dict) for part in tensors.values()):
        parts = {name: _text_encoder_names(part) if name == "text_encoder" else part for name, part in tensors.items()}
        return Checkpoint(path, "component deltas (delta.bin)", components=parts, metadata=metadata)
    if loose := [key for key, value in tensors.items() if not isinstance(value, torch.Tensor)]:
        raise ModelError(f"{path}: {loose[0]!r} is no tensor; not a state dict of a known layout")
    bare = {key.removeprefix("unet."): value for key, value in tensors.items()}
    if all(key.startswith(_UNET) for key in bare):
        return Checkpoint(path, "UNet state dict", components={"unet": bare}, metadata=metadata)
    named = _text_encoder_names(tensors)
    if all(key.startswith(("embeddings.", "encoder.", "final_layer_norm.")) for key in named):
        return Checkpoint(path, "text encoder state dict", components={"text_encoder": named}, metadata=metadata)
    sample = ", ".join(sorted(tensors)[:5])
    raise ModelError(
        f"{path}: tensors named {sample} ... fit neither a diffusers UNet nor a CLIP text encoder; "
        "convert the checkpoint to diffusers names, or override the unlearned_pipe fixture"
    )


def _text_encoder_names(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Names as the flat CLIPTextModel of transformers >= 5.6 has them."""
    prefixed = [key for key in tensors if key.startswith("text_encoder.")]
    kept = {key.removeprefix("text_encoder."): tensors[key] for key in prefixed} if prefixed else dict(tensors)
    flat = {key.removeprefix("text_model."): value for key, value in kept.items()}
    return {key: value for key, value in flat.items() if not key.endswith("position_ids")}
