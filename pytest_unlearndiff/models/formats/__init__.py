"""What unlearning repositories publish, one module a family; each says by content whether it is the one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...core.errors import ModelError
from ...core.registry import FormatInfo
from ...core.untrusted import shown
from ..files import LONGEST_NAME, Contents, Tensors
from ..pickles import Stub, unpickled_module
from . import compvis, diffusers_names, lora, receler
from . import unsupported as others
from .detected import DetectedFormat

ROWS: tuple[FormatInfo, ...] = ()

# The first that recognises the names is believed: LoRA and Receler hide among diffusers' names.
_FAMILIES = (others, lora, receler, compvis, diffusers_names)
_DEEPEST = 4
_MOST = 100_000
_TOLD = 8


def detect_format(contents: Contents) -> DetectedFormat:
    """Tell by its tensors' names what a file is.

    Raises:
        ModelError: it is of no known format, or of a model of another family, which is named.
    """
    named, left_out = flattened(contents.tree)
    for family in _FAMILIES:
        if (found := family.detect(named, contents)) is not None:
            notes = (*contents.notes, *found.notes)
            if left_out:
                notes += (f"no tensors, left out: {', '.join(left_out[:_TOLD])}{', ...' if left_out[_TOLD:] else ''}",)
            return DetectedFormat(found.format, found.patches, notes)
    sample = ", ".join(sorted(named)[:5])
    raise ModelError(
        f"tensors named {sample} ... fit neither a UNet nor a CLIP text encoder (with diffusers' or CompVis names), "
        "nor a LoRA, nor Receler's erasers; convert the checkpoint, or override the unlearned_pipe fixture"
    )


def flattened(tree: Mapping[str, Any]) -> tuple[Tensors, list[str]]:
    """Tensors by dotted name, and the names of plain values beside them, such as ``epoch``.

    Raises:
        ModelError: something in it is neither, or it is nested without end.
    """
    found: dict[str, torch.Tensor] = {}
    left_out: list[str] = []
    _flatten(tree, "", 0, found, left_out)
    if not found:
        raise ModelError("holds no tensors")
    return found, left_out


def _flatten(tree: Mapping[str, Any], prefix: str, depth: int, found: dict[str, Any], left_out: list[str]) -> None:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if len(name) > LONGEST_NAME:
            raise ModelError(f"holds a name of {len(name):,} characters; not a state dict of a known layout")
        inner = unpickled_module(value) if isinstance(value, Stub) else value
        if isinstance(inner, torch.Tensor):
            if name in found:
                raise ModelError(f"holds {name} twice")
            found[name] = inner.detach()
        elif isinstance(inner, Mapping) and depth < _DEEPEST:
            _flatten(inner, f"{name}.", depth + 1, found, left_out)
        elif depth == 0 and (value is None or isinstance(value, (bool, int, float, str, Stub))):
            left_out.append(name)
        else:
            raise ModelError(f"{shown(name)} is no tensor; not a state dict of a known layout")
        if len(found) > _MOST:
            raise ModelError(f"holds more than {_MOST} tensors; not a state dict of a known layout")
