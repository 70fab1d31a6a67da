"""Detect a checkpoint's format by its tensors' names, and refuse checkpoints of other families by name."""

from __future__ import annotations

from dataclasses import replace

from ...core.errors import ModelError
from ...core.model_info import FormatInfo
from ...core.registry import registry
from ...sources.resolve import import_string
from ..families import supported_families
from ..tensor_files import Contents, Tensors, flatten
from ..weight_patches import DetectedFormat

# Parts of names that only these families have; a family that a plugin registers is its formats' affair.
_OTHER_FAMILIES = {
    "Stable Diffusion XL's refiner": ("conditioner.embedders.0.model.",),
    "FLUX": ("single_transformer_blocks.", "double_blocks.", "single_blocks.", "context_embedder."),
    "Stable Diffusion 3": ("joint_blocks.",),
    "a diffusion transformer": ("transformer.transformer_blocks.", "caption_projection.", "adaln_single."),
}
_IN_METADATA = {"flux": "FLUX", "flux2_klein": "FLUX.2 klein", "sd3": "Stable Diffusion 3"}
_REFINER_WIDTH = 1280
_LISTED = 8


def detect_format(contents: Contents) -> DetectedFormat:
    """Read a checkpoint by the first format that matches its tensors' names; plugins' formats first.

    Raises:
        ModelError: it is of no known format, or of a model of another family, which is named.
    """
    named, left_out = flatten(contents.tree)
    rows, added = registry().formats.values(), registry().added
    detected = _read([row for row in rows if row in added], named, contents)
    if detected is None:
        _refuse_other_families(named, contents)
        detected = _read([row for row in rows if row not in added], named, contents)
    if detected is None:
        sample = ", ".join(sorted(named)[:5])
        raise ModelError(
            f"tensors named {sample} ... fit neither a UNet nor a CLIP text encoder (with diffusers' or CompVis "
            "names), nor a LoRA, nor Receler's erasers; convert the checkpoint, or override the unlearned_pipe fixture"
        )
    notes = (*contents.notes, *detected.notes)
    if left_out:
        more = ", ..." if len(left_out) > _LISTED else ""
        notes += (f"no tensors, left out: {', '.join(left_out[:_LISTED])}{more}",)
    return replace(detected, notes=notes, metadata={**contents.metadata, **detected.metadata})


def _read(rows: list[FormatInfo], named: Tensors, contents: Contents) -> DetectedFormat | None:
    for row in rows:
        if row.matches(named):
            detected: DetectedFormat | None = import_string(row.implementation)(named, contents)
            if detected is not None:
                return detected
    return None


def _refuse_other_families(named: Tensors, contents: Contents) -> None:
    if (name := contents.metadata.get("family")) in _IN_METADATA:
        raise ModelError(f"is of {_IN_METADATA[name]}, as its metadata says; {supported_families()}")
    for family, marks in _OTHER_FAMILIES.items():
        if key := next((k for k in named if k.startswith(marks) or any(f".{mark}" in k for mark in marks)), None):
            raise ModelError(f"is of {family} (it holds {key}); {supported_families()}")
    if key := next((key for key in named if key.startswith("transformer_blocks.")), None):
        raise ModelError(f"is of a diffusion transformer (it holds {key}); {supported_families()}")
    if any(".attn2.to_k." in key and value.shape[1:] == (_REFINER_WIDTH,) for key, value in named.items()):
        raise ModelError(
            f"is of Stable Diffusion XL's refiner (its cross-attention reads {_REFINER_WIDTH} numbers a token); "
            f"{supported_families()}"
        )
