"""One file of tensors: what kind it is by its first bytes, and what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..core.errors import ModelError
from ..core.untrusted import printable
from ..sources.file_types import file_kind, no_checkpoint
from .pickles import Stub, first_line, read_pickle, unpickled_module

Tensors = Mapping[str, torch.Tensor]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
_PARALLEL = ("module.", "_orig_mod.")
_DEEPEST = 8
LONGEST_NAME = 300
"""Characters of a tensor's name: those of Stable Diffusion have 100, and errors and reports quote them whole."""


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        tree: tensors by name, or mappings of them by component or module.
        metadata: what the file says about itself.
        notes: what was left out, for the report.
    """

    tree: Mapping[str, Any]
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def flat(self) -> bool:
        """Whether it is tensors by name and nothing else."""
        return all(isinstance(value, torch.Tensor) for value in self.tree.values())


def is_checkpoint(path: Path) -> bool:
    """Whether a regular file begins as safetensors, as a zip file or as a pickle does."""
    return _kind(path) is not None


def read_file(path: Path, *, trust_pickle: bool = False) -> Contents:
    """Read a file of tensors.

    Args:
        path: what it is called does not matter.
        trust_pickle: see ``read_pickle``.

    Raises:
        ModelError: it is no such file, torn, or names code.
    """
    kind = _kind(path)
    if kind == "safetensors":
        return _unwrapped(*_read_safetensors(path))
    if kind is None:
        raise ModelError(no_checkpoint(path))
    data, stubbed = read_pickle(path, trust=trust_pickle)
    left_out = ", ".join(printable(name, 100) for name in stubbed[:8])
    notes = (f"--unlearndiff-trust-pickle: {left_out} not executed, left out",) if stubbed else ()
    return _unwrapped(data, {}, notes)


def _kind(path: Path) -> str | None:
    try:
        return file_kind(path)
    except OSError as error:
        raise ModelError(f"cannot be read: {first_line(error)}") from None


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"is not a whole safetensors file: {first_line(error)}. Fetch or save it again") from None


def _unwrapped(data: Any, metadata: dict[str, str], notes: tuple[str, ...] = ()) -> Contents:
    """The tensors inside wrappers such as ``{"state_dict": ...}``, without the prefixes of parallel training.

    Raises:
        ModelError: there are none, or several wrappers, so that which is meant cannot be told.
    """
    for _ in range(_DEEPEST):
        if isinstance(data, Stub):
            data = unpickled_module(data)
        if not isinstance(data, Mapping):
            break
        found = [key for key in data if key in _WRAPPERS and not isinstance(data[key], torch.Tensor)]
        if not found:
            break
        if len(found) > 1:
            raise ModelError(f"holds {' and '.join(found)} side by side; save the one that is meant alone")
        if beside := sorted(str(key) for key in data if key != found[0]):
            notes += (f"beside {found[0]}, left out: {', '.join(printable(name, 100) for name in beside[:8])}",)
        data = data[found[0]]
    if not isinstance(data, Mapping):
        raise ModelError(f"holds {'no module' if data is None else f'a {type(data).__name__}'}, not a state dict")
    if not data:
        raise ModelError("holds no tensors")
    if any(not isinstance(key, str) for key in data):
        raise ModelError("is not a state dict: its keys are not all text")
    if (longest := max(map(len, data))) > LONGEST_NAME:
        raise ModelError(f"holds a name of {longest:,} characters; not a state dict of a known layout")
    return Contents(_bare(data), metadata, notes)


def _bare(tree: Mapping[str, Any]) -> dict[str, Any]:
    for prefix in _PARALLEL:
        if all(key.startswith(prefix) for key in tree):
            tree = {key.removeprefix(prefix): value for key, value in tree.items()}
    return dict(tree)
