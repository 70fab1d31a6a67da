"""Put a checkpoint into a pipeline, and account for every tensor of it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline

from ..core.errors import ModelError
from .checkpoint import Checkpoint, Tensors
from .quiet import library_warnings_ignored


@dataclass(frozen=True)
class Change:
    """How one component of a victim differs from the base.

    Attributes:
        component: ``unet`` or ``text_encoder``.
        given: tensors in the checkpoint.
        total: tensors in the component.
        changed: given tensors that differ from the base's.
        relative: norm of the change over the norm of the base, over the given tensors.
    """

    component: str
    given: int
    total: int
    changed: int
    relative: float

    def __str__(self) -> str:
        """``unet: 80 of 80 given tensors changed (686 in all), by 3.1 %``."""
        return (
            f"{self.component}: {self.changed} of {self.given} given tensors changed "
            f"({self.total} in all), by {100 * self.relative:.2g} %"
        )


@dataclass(frozen=True)
class Loaded:
    """A pipeline, and what was found and assumed on the way.

    Attributes:
        pipe: the pipeline, in evaluation mode, frozen.
        format: what the checkpoint was recognised as.
        changes: what differs from the base; empty for a pipeline folder loaded without one.
        metadata: what the file says about itself.
    """

    pipe: StableDiffusionPipeline
    format: str
    changes: tuple[Change, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


def load_pipeline(path: str | Path, *, device: str = "cpu", dtype: str = "float32") -> StableDiffusionPipeline:
    """Load a pipeline folder, without its safety checker, refusing a component with missing weights.

    Args:
        path: folder with a ``model_index.json``, or a Hub id.
        device: where it goes.
        dtype: name of the floating-point type of its weights.

    Raises:
        ModelError: there is no pipeline, it is not one of Stable Diffusion's kind, or weights are missing.
    """
    try:
        with library_warnings_ignored():
            pipe = DiffusionPipeline.from_pretrained(
                path, dtype=getattr(torch, dtype), safety_checker=None, requires_safety_checker=False
            )
    except Exception as error:
        raise ModelError(f"{path} cannot be loaded as a diffusers pipeline: {str(error)[:300]}") from None
    if not isinstance(pipe, StableDiffusionPipeline):
        raise ModelError(
            f"{path} is a {type(pipe).__name__}; only StableDiffusionPipeline (UNet with one CLIP text encoder) can be "
            "attacked so far"
        )
    if Path(path).is_dir():
        _check_whole(pipe, Path(path))
    return freeze(pipe.to(device))


def freeze(pipe: StableDiffusionPipeline) -> StableDiffusionPipeline:
    """Evaluation mode, no gradients for weights, no progress bar."""
    for module in (pipe.unet, pipe.text_encoder, pipe.vae):
        module.eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _check_whole(pipe: StableDiffusionPipeline, folder: Path) -> None:
    """Refuse tensors the folder does not hold: the libraries fill them with random numbers and only warn."""
    for name in ("unet", "text_encoder", "vae"):
        files = sorted((folder / name).glob("*.safetensors"))
        if not files:
            continue
        from safetensors import safe_open

        stored: set[str] = set()
        for file in files:
            with safe_open(file, framework="pt") as tensors:
                stored |= set(tensors.keys())
        stored |= {key.removeprefix("text_model.") for key in stored}
        wanted = {key.removeprefix("text_model.") for key in getattr(pipe, name).state_dict()}
        if missing := sorted(key for key in wanted - stored if not key.endswith("position_ids")):
            raise ModelError(
                f"{folder}/{name}: {len(missing)} tensors are not in its files, such as {missing[0]}; the libraries "
                "would fill them with random numbers"
            )


def load_victim(
    checkpoint: Checkpoint, base: StableDiffusionPipeline | None, *, device: str = "cpu", dtype: str = "float32"
) -> Loaded:
    """Load an unlearned model: a pipeline, or a component's tensors put into a copy of the base pipeline.

    Args:
        checkpoint: what the path holds.
        base: the un-erased pipeline; needed unless the checkpoint is a pipeline.
        device: where a pipeline goes.
        dtype: name of the floating-point type of a pipeline's weights.

    Raises:
        ModelError: see ``load_pipeline`` and ``apply``; or a base is needed and not given.
    """
    if checkpoint.pipeline:
        pipe = load_pipeline(checkpoint.path, device=device, dtype=dtype)
        return Loaded(pipe, checkpoint.format, () if base is None else _compare(pipe, base, checkpoint))
    if base is None:
        raise ModelError(
            f"{checkpoint.path} is a {checkpoint.format}, not a pipeline: give its base with --unlearndiff-base"
        )
    return apply(checkpoint, base)


def apply(checkpoint: Checkpoint, base: StableDiffusionPipeline) -> Loaded:
    """Put the tensors of a checkpoint into a copy of the base's components.

    Raises:
        ModelError: a tensor has no place in the base, or another shape, or is not finite; or nothing differs.
    """
    pipe = copy.copy(base)
    changes = []
    for component, tensors in checkpoint.components.items():
        module = getattr(base, component)
        _check_fit(checkpoint, component, module.state_dict(), tensors)
        mine = copy.deepcopy(module)
        mine.load_state_dict(dict(tensors), strict=False)
        setattr(pipe, component, mine)
        changes.append(_change(component, module.state_dict(), {k: mine.state_dict()[k] for k in tensors}))
    _check_changed(changes, checkpoint)
    return Loaded(freeze(pipe), checkpoint.format, tuple(changes), checkpoint.metadata)


def _check_fit(checkpoint: Checkpoint, component: str, known: Tensors, tensors: Tensors) -> None:
    where = f"{checkpoint.path} ({checkpoint.format})"
    if unexpected := sorted(set(tensors) - set(known)):
        raise ModelError(
            f"{where}: {len(unexpected)} of {len(tensors)} tensors have no place in the base's {component}, such as "
            f"{unexpected[0]}; is this the right base?"
        )
    for key, value in tensors.items():
        if value.shape != known[key].shape:
            raise ModelError(
                f"{where}: {key} is {list(value.shape)}, in the base {list(known[key].shape)}; is this the right base?"
            )
        if not torch.isfinite(value).all():
            raise ModelError(f"{where}: {key} holds NaN or infinity")


def _compare(
    pipe: StableDiffusionPipeline, base: StableDiffusionPipeline, checkpoint: Checkpoint
) -> tuple[Change, ...]:
    changes = []
    for component in ("unet", "text_encoder"):
        known, mine = getattr(base, component).state_dict(), getattr(pipe, component).state_dict()
        if set(known) != set(mine) or any(known[key].shape != mine[key].shape for key in known):
            raise ModelError(f"{checkpoint.path}: its {component} has other tensors than the base's; is this its base?")
        changes.append(_change(component, known, mine))
    _check_changed(changes, checkpoint)
    return tuple(changes)


def _change(component: str, known: Tensors, given: Tensors) -> Change:
    differences = {key: (given[key].float() - known[key].float()).norm().item() for key in given}
    norm = sum(known[key].float().norm().item() ** 2 for key in given) ** 0.5
    moved = sum(value**2 for value in differences.values()) ** 0.5
    changed = sum(value > 0 for value in differences.values())
    return Change(component, len(given), len(known), changed, moved / norm if norm else 0.0)


def _check_changed(changes: list[Change], checkpoint: Checkpoint) -> None:
    if not any(change.changed for change in changes):
        raise ModelError(
            f"{checkpoint.path} ({checkpoint.format}): every tensor equals the base's, so nothing was unlearned in it"
        )


def describe(loaded: Loaded) -> dict[str, Any]:
    """What was found and assumed, as builtin types for reports."""
    return {
        "format": loaded.format,
        "changes": [str(change) for change in loaded.changes],
        "metadata": dict(loaded.metadata),
    }


def weights_digest(pipe: StableDiffusionPipeline) -> str:
    """Content hash of a pipeline's weights in memory, in 16 hex digits."""
    total = hashlib.sha256()
    for component in ("unet", "text_encoder", "vae"):
        for key, value in sorted(getattr(pipe, component).state_dict().items()):
            total.update(f"{component}.{key}:{value.dtype}:{list(value.shape)}".encode())
            total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]
