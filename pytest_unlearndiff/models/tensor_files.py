"""Files of tensors: one file by its first bytes, and tensors by dotted name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..core.errors import ModelError
from ..core.untrusted import printable, short_repr
from ..sources.model_header import file_kind, no_checkpoint
from .pickles import Stub, first_line, read_pickle, unpickled_module

Tensors = Mapping[str, torch.Tensor]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
_PARALLEL = ("module.", "_orig_mod.")
_DEEPEST_WRAPPER = 8
_DEEPEST_TREE = 4
_MOST_TENSORS = 100_000
LONGEST_NAME = 300
"""Characters of a tensor's name: those of Stable Diffusion have 100, and errors and reports quote them whole."""


@dataclass(frozen=True)
class Contents:
    """The content of a file.

    Attributes:
        tree: tensors by name, or mappings of them by component or module.
        metadata: what the file says about itself.
        notes: what was left out, for the report.
        config: configuration beside it in its folder, where the format has one.
    """

    tree: Mapping[str, Any]
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    config: Mapping[str, Any] | None = None

    @property
    def flat(self) -> bool:
        """Tensors by name and nothing else."""
        return all(isinstance(value, torch.Tensor) for value in self.tree.values())


def is_checkpoint(path: Path) -> bool:
    """Tell whether a regular file begins as safetensors, as a zip file or as a pickle does."""
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
    """Return the tensors inside wrappers such as ``{"state_dict": ...}``, without the prefixes of parallel training."""
    for _ in range(_DEEPEST_WRAPPER):
        if isinstance(data, Stub):
            data = unpickled_module(data)
        if not isinstance(data, Mapping):
            break
        wrappers = [key for key in data if key in _WRAPPERS and not isinstance(data[key], torch.Tensor)]
        if not wrappers:
            break
        if len(wrappers) > 1:
            raise ModelError(f"holds {' and '.join(wrappers)} side by side; save the one that is meant alone")
        if beside := sorted(str(key) for key in data if key != wrappers[0]):
            notes += (f"beside {wrappers[0]}, left out: {', '.join(printable(name, 100) for name in beside[:8])}",)
        data = data[wrappers[0]]
    if _is_masks(data):
        raise ModelError(
            "holds a list of masks, as Minimalist Concept Erasure saves them (attn.pt, ff.pt, norm.pt): hooks of its "
            "own apply them, and they say neither their layers nor their threshold; build the pipeline with these "
            "hooks and give it as pkg.mod:callable"
        )
    if not isinstance(data, Mapping):
        raise ModelError(f"holds {'no module' if data is None else f'a {type(data).__name__}'}, not a state dict")
    if not data:
        raise ModelError("holds no tensors")
    if any(not isinstance(key, str) for key in data):
        raise ModelError("is not a state dict: its keys are not all text")
    if (longest := max(map(len, data))) > LONGEST_NAME:
        raise ModelError(f"holds a name of {longest:,} characters; not a state dict of a known layout")
    return Contents(_bare(data), metadata, notes)


def _is_masks(data: Any) -> bool:
    return isinstance(data, list) and bool(data) and all(isinstance(d, torch.Tensor) and d.dim() == 1 for d in data)


def _bare(tree: Mapping[str, Any]) -> dict[str, Any]:
    for prefix in _PARALLEL:
        if all(key.startswith(prefix) for key in tree):
            tree = {key.removeprefix(prefix): value for key, value in tree.items()}
    return dict(tree)


def read_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor in a file, by name, without reading numbers where the format allows.

    Raises:
        ModelError: see ``read_file``.
    """
    if file.suffix != ".safetensors":
        return {key: tuple(value.shape) for key, value in read_file(file).tree.items() if hasattr(value, "shape")}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            return {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file.name} is not a whole safetensors file: {error}. Fetch or save it again") from None


def flatten(tree: Mapping[str, Any]) -> tuple[Tensors, list[str]]:
    """Return tensors by dotted name, and the names of plain values beside them, such as ``epoch``.

    Raises:
        ModelError: something in it is neither, or it is nested without end.
    """
    tensors: dict[str, torch.Tensor] = {}
    left_out: list[str] = []
    _flatten_into(tree, "", 0, tensors, left_out)
    if not tensors:
        raise ModelError("holds no tensors")
    return tensors, left_out


def _flatten_into(tree: Mapping[str, Any], prefix: str, depth: int, found: dict[str, Any], left_out: list[str]) -> None:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if len(name) > LONGEST_NAME:
            raise ModelError(f"holds a name of {len(name):,} characters; not a state dict of a known layout")
        inner = unpickled_module(value) if isinstance(value, Stub) else value
        if isinstance(inner, torch.Tensor):
            if name in found:
                raise ModelError(f"holds {name} twice")
            found[name] = inner.detach()
        elif isinstance(inner, Mapping) and depth < _DEEPEST_TREE:
            _flatten_into(inner, f"{name}.", depth + 1, found, left_out)
        elif depth == 0 and (value is None or isinstance(value, (bool, int, float, str, Stub))):
            left_out.append(name)
        else:
            raise ModelError(f"{short_repr(name)} is no tensor; not a state dict of a known layout")
        if len(found) > _MOST_TENSORS:
            raise ModelError(f"holds more than {_MOST_TENSORS} tensors; not a state dict of a known layout")
