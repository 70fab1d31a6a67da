"""Put a checkpoint into a pipeline, and account for every tensor of it."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import is_accelerate_available

from ..core.errors import ModelError, one_line
from ..core.reasons import reasons_in_words
from ..sources.base_guess import family_of
from ..sources.hub import hub_folder, hub_mend
from .accounting import NOTHING_CHANGED, WeightDiff, change, check_changed
from .checkpoint import Checkpoint
from .formats.folders import WeightFiles
from .formats.pipelines import CHECKER, NO_CHECKER, check_index, check_whole, part_files
from .inference_behavior import uncompiled
from .pipelines import Kind, Pipeline, kind_named, kind_of, networks
from .precision import to_device, weights_type
from .silence import library_warnings_ignored


@dataclass(frozen=True)
class Loaded:
    """A pipeline, and what was found and assumed on the way.

    Attributes:
        pipe: the pipeline, in evaluation mode, frozen.
        format: what the checkpoint was recognised as.
        changes: what differs from the base; empty for a pipeline folder loaded without one.
        metadata: what the file says about itself.
        notes: what was left out or assumed.
    """

    pipe: Pipeline
    format: str
    changes: tuple[WeightDiff, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load_pipeline(
    path: str | Path, *, device: str = "cpu", dtype: str = "float32", safety_checker: bool = False
) -> Pipeline:
    """Load a pipeline folder, without its safety checker unless asked for, refusing components with missing weights.

    No code of the folder is run, and nothing is fetched.

    Args:
        path: folder with a ``model_index.json``, or the Hub id of a repository that is on this machine.
        device: where it goes.
        dtype: name of its arithmetic, one of ``core.precision.WEIGHTS``.
        safety_checker: whether to load it too.

    Raises:
        ModelError: there is no pipeline, it is of no known kind, weights are missing, or there is no safety checker
            where it is asked for.
    """
    folder = _found(path)
    if not (folder / "model_index.json").is_file():
        mend = f"; {hub}" if not folder.exists() and (hub := hub_mend(str(path))) else ""
        raise ModelError(f"{path} cannot be loaded as a diffusers pipeline: it holds no model_index.json{mend}")
    try:
        kind = kind_named(check_index(folder))
        assert kind is not None  # else the index was refused
        files = part_files(folder, kind, safety_checker=safety_checker)
        pipe = _from_folder(folder, kind, files, dtype)
        check_whole(pipe, files)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    return freeze(to_device(pipe, device))


def _found(path: str | Path) -> Path:
    """The folder of a pipeline, where a Hub id stands in its place too."""
    return Path(path) if Path(path).exists() else hub_folder(str(path)) or Path(path)


def load_scheduler(path: str | Path) -> Any:
    """The scheduler of a pipeline alone, as the pipeline would have it, which mends old configs.

    Args:
        path: as ``load_pipeline``'s.

    Raises:
        ModelError: there is none that can be loaded.
    """
    folder = _found(path)
    try:
        kind = kind_named(check_index(folder))
        assert kind is not None  # else the index was refused
        rest = {name: None for name in kind.pipeline.__init__.__annotations__ if name in (*kind.networks, *_TOKENIZERS)}
        with library_warnings_ignored():
            pipe = kind.pipeline.from_pretrained(
                folder, local_files_only=True, **rest, **kind.without, **kind.unchecked
            )
    except Exception as error:
        raise ModelError(f"{path}: its scheduler cannot be loaded: {one_line(error)}") from None
    return pipe.scheduler


_TOKENIZERS = ("tokenizer", "tokenizer_2")


def _from_folder(folder: Path, kind: Kind, files: Mapping[str, WeightFiles], dtype: str) -> Pipeline:
    # Said, so that the libraries do not log what they would rather have.
    safe = {found.safe for found in files.values()}
    try:
        with library_warnings_ignored():
            return kind.pipeline.from_pretrained(
                folder,
                dtype=weights_type(dtype),
                variant=files["unet"].variant,
                use_safetensors=safe.pop() if len(safe) == 1 else None,
                low_cpu_mem_usage=is_accelerate_available(),
                local_files_only=True,
                **kind.without,
                **({} if CHECKER in files else kind.unchecked),
            )
    except Exception as error:
        raise ModelError(f"cannot be loaded as a diffusers pipeline: {str(error)[:300]}") from None


def freeze(pipe: Pipeline) -> Pipeline:
    """Evaluation mode, no gradients for weights, no progress bar."""
    for name in (*networks(pipe), *((CHECKER,) if getattr(pipe, CHECKER, None) is not None else ())):
        getattr(pipe, name).eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load_victim(
    checkpoint: Checkpoint,
    base: Pipeline | None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    partial: bool = False,
    guided: bool = False,
    safety_checker: bool = False,
    assumed: str = "",
) -> Loaded:
    """Load an unlearned model: a pipeline, or a component's tensors put into a copy of the base pipeline.

    Args:
        checkpoint: what the path holds.
        base: the un-erased pipeline; needed unless the checkpoint is a pipeline.
        device: where a pipeline goes.
        dtype: name of a pipeline's arithmetic, one of ``core.precision.WEIGHTS``.
        partial: whether tensors may be missing without a pattern.
        guided: whether images are guided away from the concept as they are drawn, so that weights need not differ.
        safety_checker: whether a pipeline is loaded with its own, which may be all that it has beside the base's
            weights; for anything else, the base's counts.
        assumed: why this base, where the user did not give it; noted in the report.

    Raises:
        ModelError: see ``load_pipeline`` and ``apply``; or a base is needed and not given.
    """
    if checkpoint.pipeline:
        _check_class(checkpoint, guided)
        pipe = load_pipeline(checkpoint.path, device=device, dtype=dtype, safety_checker=safety_checker)
        changes = () if base is None else _compare(pipe, base, checkpoint, guided or safety_checker)
        notes = checkpoint.notes
        if safety_checker and base is not None and not any(change.changed for change in changes):
            notes = (*notes, "its weights are the base's: all that is tested is the safety checker")
        return Loaded(pipe, checkpoint.format, changes, checkpoint.metadata, notes)
    if base is None:
        raise ModelError(
            f"{checkpoint.path} is a {checkpoint.format}, not a pipeline: give its base with --unlearndiff-base"
            + _likely(checkpoint.path)
        )
    loaded = apply(checkpoint, base, partial=partial)
    return replace(loaded, notes=(*loaded.notes, f"base assumed: {assumed}")) if assumed else loaded


def _likely(path: Path) -> str:
    family = family_of(path)
    return f"={family.base}. It seems to be of {family.name} ({family.why})" if family is not None else ""


def _check_class(checkpoint: Checkpoint, guided: bool) -> None:
    if checkpoint.pipeline == "StableDiffusionPipelineSafe" and not guided:
        raise ModelError(
            f"{checkpoint.path} is a {checkpoint.pipeline}, which guides images as it draws them: give the "
            "strength and what to avoid, as in --unlearndiff-sld=medium:church (the class's own strength is medium)"
        )


def apply(checkpoint: Checkpoint, base: Pipeline, *, partial: bool = False) -> Loaded:
    """Put a checkpoint's edits into a copy of the base.

    Raises:
        ModelError: a tensor has no place in the base, or another shape, or is not finite, or is missing; or nothing
            differs.
    """
    pipe = copy.copy(base)
    try:
        changes = tuple(change for edit in checkpoint.edits for change in edit.apply(pipe, partial=partial))
        check_changed(changes)
    except ModelError as error:
        raise ModelError(f"{checkpoint.path} ({checkpoint.format}): {error}") from None
    return Loaded(freeze(pipe), checkpoint.format, changes, checkpoint.metadata, checkpoint.notes)


def _compare(pipe: Pipeline, base: Pipeline, checkpoint: Checkpoint, guided: bool) -> tuple[WeightDiff, ...]:
    changes = []
    if networks(pipe) != networks(base):
        names = f"{type(pipe).__name__} and its base a {type(base).__name__}"
        raise ModelError(f"{checkpoint.path} is a {names}; is this its base?")
    for component in networks(pipe):
        known, mine = getattr(base, component).state_dict(), getattr(pipe, component).state_dict()
        if set(known) != set(mine) or any(known[key].shape != mine[key].shape for key in known):
            raise ModelError(f"{checkpoint.path}: its {component} has other tensors than the base's; is this its base?")
        changes.append(change(component, known, mine))
    if not guided:
        try:
            check_changed([change for change in changes if change.component != "vae"])
        except ModelError as error:
            raise ModelError(f"{checkpoint.path} ({checkpoint.format}): {error}") from None
    return tuple(changes)


def wrap_pipeline(
    pipe: Any,
    base: Pipeline | None = None,
    *,
    acts: Sequence[str] = (),
    safety_checker: bool = False,
    title: str = "the pipeline",
) -> Loaded:
    """A pipeline of the user's own, which is not changed but for being frozen.

    Components of another floating-point type than the UNet's are replaced by copies in its type: transformers loads
    weights as they were saved and diffusers as float32, so ``from_pretrained`` without a type may mix them, and such a
    pipeline cannot draw.

    Args:
        pipe: the pipeline.
        base: the un-erased pipeline, from which it has to differ.
        acts: what acts on it at inference beside its weights, which then need not differ.
        safety_checker: whether its own is part of what is tested.
        title: what it is called in errors.

    Raises:
        ModelError: it is of no known kind, or its base itself, or has no safety checker where that is asked for.
    """
    notes, mine, parts = [], copy.copy(pipe), [*kind_of(pipe).networks]
    changes = () if base is None else _own_changes(pipe, base)
    if changes and not any(change.changed for change in changes if change.component != "vae"):
        if not acts:
            raise ModelError(f"{title} (pipeline object): {NOTHING_CHANGED}")
        notes.append(f"its weights are the base's: all that is tested is {reasons_in_words(acts)}")
    if safety_checker:
        if getattr(pipe, CHECKER, None) is None:
            raise ModelError(f"the {type(pipe).__name__} {NO_CHECKER}")
        parts.append(CHECKER)
    for component in parts:
        module, wanted = getattr(pipe, component), pipe.unet.dtype
        if module.dtype != wanted:
            notes.append(f"{component} cast from {_short(module.dtype)} to {_short(wanted)}, the UNet's type")
            setattr(mine, component, copy.deepcopy(module).to(wanted))
    return Loaded(freeze(mine), "pipeline object", changes, notes=tuple(notes))


def _own_changes(pipe: Pipeline, base: Pipeline) -> tuple[WeightDiff, ...]:
    """How a pipeline object differs from its base; empty where they are not made of the same tensors.

    A pipeline object has a type of its own, so they are compared as the coarser of both types has them.
    """
    changes = []
    if networks(pipe) != networks(base):
        return ()
    for component in networks(pipe):
        known, mine = (uncompiled(getattr(each, component)).state_dict() for each in (base, pipe))
        if set(known) != set(mine) or any(known[k].shape != mine[k].shape or mine[k].is_meta for k in known):
            return ()
        pairs = {key: _as_coarse(known[key], mine[key]) for key in known}
        theirs, ours = ({key: pair[side] for key, pair in pairs.items()} for side in (0, 1))
        changes.append(change(component, theirs, ours))
    return tuple(changes)


def _as_coarse(known: torch.Tensor, mine: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two tensors on one device, in the type of the one with fewer digits."""
    mine = mine.to(known.device)
    if known.dtype == mine.dtype or not (known.is_floating_point() and mine.is_floating_point()):
        return known, mine
    coarse = max(known.dtype, mine.dtype, key=lambda dtype: torch.finfo(dtype).eps)
    return known.to(coarse), mine.to(coarse)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def describe(loaded: Loaded, beside: str = "") -> dict[str, Any]:
    """What was found and assumed, as builtin types for reports.

    Args:
        loaded: the victim.
        beside: what is done to its images beside what its weights do.
    """
    return {
        "format": loaded.format,
        "changes": [str(change) for change in loaded.changes],
        "metadata": dict(loaded.metadata),
        "notes": [*loaded.notes, *([f"drawn with {beside}"] if beside else [])],
    }


def weights_digest(pipe: Pipeline, *, safety_checker: bool = False) -> str:
    """Content hash of a pipeline's weights in memory and of its noise schedule, in 16 hex digits.

    Args:
        pipe: the pipeline.
        safety_checker: whether its safety checker counts.
    """
    total = hashlib.sha256()
    checked = safety_checker and getattr(pipe, CHECKER, None) is not None
    for component in (*networks(pipe), *((CHECKER,) if checked else ())):
        for key, value in sorted(uncompiled(getattr(pipe, component)).state_dict().items()):
            total.update(f"{component}.{key}:{value.dtype}:{list(value.shape)}".encode())
            total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    schedule = {key: value for key, value in pipe.scheduler.config.items() if not key.startswith("_")}
    total.update(json.dumps(schedule, sort_keys=True, default=str).encode())
    if checked:
        total.update(json.dumps(pipe.feature_extractor.to_dict(), sort_keys=True, default=str).encode())
    if (zeros := pipe.config.get("force_zeros_for_empty_prompt")) is not None:
        total.update(f"zeros for the empty prompt: {zeros}".encode())
    return total.hexdigest()[:16]
