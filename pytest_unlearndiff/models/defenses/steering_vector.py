"""Steering vectors: hidden states of named modules are moved along, or freed of, one direction at every forward pass.

``add`` is activation addition (Turner et al. 2023, arXiv 2308.10248): ``h + s v``. ``project`` is directional ablation
(Arditi et al. 2024, arXiv 2406.11717): ``h - s u (u . h)``, where ``u`` is ``v`` at unit length. Both act at every
position, on texts and on the empty prompt of classifier-free guidance alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ...core.errors import ModelError
from ...core.untrusted import printable
from ...sources.model_header import file_kind
from ..tensor_files import read_file
from . import DefendedModel


class SteeringVector:
    """Moves hidden states along vectors (``Defense``).

    Args:
        file: path of a safetensors file. Its tensors (d,) are named after the modules they act on, by dotted path from
            the pipeline, such as ``unet.mid_block``; one tensor of any other name goes with ``module``, or with the
            file's metadata ``module``.
        module: the one module; ``file`` for those that the file names.
        mode: ``add`` or ``project``.
        strength: factor ``s``, as text; 1 of ``project`` removes the whole component, -1 of ``add`` subtracts ``v``.

    Raises:
        ModelError: the file has no such vectors.
    """

    extra_forwards_per_step = 0

    def __init__(self, file: str, module: str, mode: str, strength: str) -> None:
        self._project = mode == "project"
        vectors = _read(Path(file), "" if module == "file" else module)
        # In single precision: small numbers are zero in half.
        self._vectors = {path: each / each.norm() if self._project else each for path, each in vectors.items()}
        self._strength = float(strength)

    def call_arguments(self, count: int, guidance: float) -> dict[str, Any]:
        """See ``Defense``."""
        return {}

    @contextmanager
    def applied(self, model: DefendedModel, guidance: float) -> Iterator[None]:
        """See ``Defense``; gradients pass through, since every vector is a constant."""
        handles = []
        try:
            for path, vector in self._vectors.items():
                handles.append(model.module(path).register_forward_hook(self._hook(path, vector)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, path: str, vector: torch.Tensor) -> Any:
        def steer(states: torch.Tensor) -> torch.Tensor:
            if states.shape[-1] != len(vector):
                raise ModelError(
                    f"the steering vector of {path} has {len(vector)} numbers, and hidden states there "
                    f"{states.shape[-1]}"
                )
            direction = vector.to(states)
            change = -(states @ direction).unsqueeze(-1) * direction if self._project else direction
            return states + self._strength * change

        return states_hook(path, steer)


def states_hook(path: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Return a forward hook that changes the hidden states of a module.

    Args:
        path: the module's, for errors.
        change: takes and returns states (..., d): of tokens (B, L, d) or (B, d), of convolutions (B, h, w, d).
    """

    def hook(module: Any, inputs: Any, output: Any) -> Any:
        states, *rest = output if isinstance(output, tuple) else (output,)
        if not isinstance(states, torch.Tensor):
            raise ModelError(f"the module {path} returns {type(states).__name__} and no hidden states: name one in it")
        changed = change(states.movedim(1, -1)).movedim(-1, 1) if states.ndim == 4 else change(states)
        return (changed, *rest) if isinstance(output, tuple) else changed

    return hook


def _read(path: Path, module: str) -> Mapping[str, torch.Tensor]:
    """Read vectors (d,) float32 by module."""
    if file_kind(path) != "safetensors":
        raise ModelError(f"{path} is no safetensors file, which steering vectors are read from")
    contents = read_file(path)
    vectors = {}
    for name, value in contents.tree.items():
        vector = value.float().squeeze() if isinstance(value, torch.Tensor) else torch.empty(0)
        if vector.ndim != 1 or not len(vector) or not vector.isfinite().all() or not vector.any():
            raise ModelError(
                f"{path}: {printable(name, 100)!r} is no steering vector: it must be one row of finite numbers"
            )
        vectors[name] = vector
    only = module or contents.metadata.get("module", "")
    if not only:
        return vectors
    if only in vectors:
        return {only: vectors[only]}
    if len(vectors) != 1:
        raise ModelError(f"{path} has {len(vectors)} vectors, and none is named {printable(only, 100)!r}")
    return {only: next(iter(vectors.values()))}
