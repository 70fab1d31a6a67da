"""Make a victim of a checkpoint, a pipeline folder or a pipeline object, and tell how it differs from its base."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..core.errors import ModelError, join_reasons
from ..core.untrusted import printable
from ..sources.base_guess import base_request
from .checkpoint import Checkpoint
from .families.lookup import components_of, family_of
from .libraries import uncompiled
from .pipeline_folders import CHECKER, NO_CHECKER, freeze, load_pipeline
from .weight_patches import (
    NOTHING_CHANGED,
    WeightDiff,
    added_rows,
    check_changed,
    compare_weights,
    embedding_keys,
    faint_change_note,
    quantizer,
)


@dataclass(frozen=True)
class Loaded:
    """A victim, and what was assumed on the way.

    Attributes:
        pipe: the pipeline, in evaluation mode, frozen.
        format: the checkpoint's format, for people.
        changes: differences to the base; empty for a pipeline folder loaded without one.
        metadata: what the file says about itself.
        notes: what was left out or assumed.
    """

    pipe: Any
    format: str
    changes: tuple[WeightDiff, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load_victim(
    checkpoint: Checkpoint,
    base: Any,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    partial: bool = False,
    defended: bool = False,
    safety_checker: bool = False,
    assumed: str = "",
    shared: Mapping[str, Any] | None = None,
) -> Loaded:
    """Load an unlearned model: a pipeline, or a component's tensors put into a copy of the base pipeline.

    Args:
        checkpoint: what the path holds.
        base: the un-erased pipeline; None only where the checkpoint is a pipeline.
        device: where a pipeline goes.
        dtype: name of a pipeline's arithmetic, one of ``core.device.WEIGHTS``.
        partial: whether tensors may be missing without a pattern.
        defended: whether defenses act on its images, so that weights need not differ.
        safety_checker: whether a pipeline is loaded with its own, which may be all that it has beside the base's
            weights; for anything else, the base's counts.
        assumed: why this base, where the user did not give it; noted in the report.
        shared: components of the base whose files a pipeline has too, so that they are not loaded again.

    Raises:
        ModelError: see ``load_pipeline`` and ``apply``; or a base is needed and not given.
    """
    if checkpoint.pipeline:
        _check_class(checkpoint, defended)
        pipe = load_pipeline(checkpoint.path, device=device, dtype=dtype, safety_checker=safety_checker, shared=shared)
        changes = () if base is None else _compare_folders(pipe, base, checkpoint, defended or safety_checker)
        packed = _quantized(pipe, base)
        notes = (*checkpoint.notes, *_added_tokens(pipe, base), *packed)
        compared = base is not None and not packed
        if safety_checker and compared and not any(change.changed for change in changes):
            notes = (*notes, "its weights are the base's: all that is tested is the safety checker")
        return Loaded(pipe, checkpoint.format, changes, checkpoint.metadata, notes)
    if base is None:
        raise ModelError(f"{checkpoint.path} is a {checkpoint.format}, not a pipeline: {base_request(checkpoint.path)}")
    loaded = apply(checkpoint, base, partial=partial)
    return replace(loaded, notes=(*loaded.notes, f"base assumed: {assumed}")) if assumed else loaded


def _check_class(checkpoint: Checkpoint, defended: bool) -> None:
    if checkpoint.pipeline == "StableDiffusionPipelineSafe" and not defended:
        raise ModelError(
            f"{checkpoint.path} is a {checkpoint.pipeline}, which guides images as it draws them: give the "
            "strength and what to avoid, as in --unlearndiff-sld=medium:church (the class's own strength is medium)"
        )


def apply(checkpoint: Checkpoint, base: Any, *, partial: bool = False) -> Loaded:
    """Put a checkpoint's patches into a copy of the base.

    Raises:
        ModelError: a tensor has no place in the base, or another shape, or is not finite, or is missing; or nothing
            differs.
    """
    pipe = copy.copy(base)
    try:
        changes = tuple(change for patch in checkpoint.patches for change in patch.apply(pipe, partial=partial))
        check_changed(changes)
    except ModelError as error:
        raise ModelError(f"{checkpoint.path} ({checkpoint.format}): {error}") from None
    notes = (*checkpoint.notes, *filter(None, [faint_change_note(changes)]))
    return Loaded(freeze(pipe), checkpoint.format, changes, checkpoint.metadata, notes)


def add_adapters(loaded: Loaded, first: Checkpoint, adapters: Sequence[Checkpoint], *, partial: bool = False) -> Loaded:
    """Put further checkpoints into a victim, in their order; each is accounted for under its file's name.

    Args:
        loaded: the victim so far.
        first: the checkpoint that it was loaded from.
        adapters: the others.
        partial: whether tensors may be missing without a pattern.

    Raises:
        ModelError: see ``apply``; an adapter has to change something of what it is put into.
    """
    if not adapters:
        return loaded
    steps = [loaded]
    for adapter in adapters:
        if adapter.pipeline:
            raise ModelError(
                f"{adapter.path} is a whole pipeline, which takes nothing of what stands before it: name it first"
            )
        steps.append(apply(adapter, steps[-1].pipe, partial=partial))
    named = list(zip([checkpoint.path.name for checkpoint in (first, *adapters)], steps, strict=True))
    return Loaded(
        steps[-1].pipe,
        ", then ".join(step.format for step in steps),
        tuple(replace(change, file=name) for name, step in named for change in step.changes),
        {f"{name}: {key}": value for name, step in named for key, value in step.metadata.items()},
        tuple(f"{name}: {note}" for name, step in named for note in step.notes),
    )


def _compare_folders(pipe: Any, base: Any, checkpoint: Checkpoint, defended: bool) -> tuple[WeightDiff, ...]:
    changes = []
    if components_of(pipe) != components_of(base):
        if other := set(components_of(pipe)) ^ set(components_of(base)) if type(pipe) is type(base) else ():
            raise ModelError(f"{checkpoint.path} or its base has no {' and '.join(sorted(other))}; is this its base?")
        names = f"{type(pipe).__name__} and its base a {type(base).__name__}"
        raise ModelError(f"{checkpoint.path} is a {names}; is this its base?")
    for component in components_of(pipe):
        if quantizer(getattr(pipe, component)) or quantizer(getattr(base, component)):
            continue
        theirs, ours = getattr(base, component).state_dict(), getattr(pipe, component).state_dict()
        if getattr(base, component) is getattr(pipe, component):
            changes.append(WeightDiff(component, len(ours), len(ours), 0, 0.0))
            continue
        if added := added_rows(getattr(base, component), ours):
            keys = embedding_keys(getattr(base, component))
            ours |= {key: ours[key][:-added] for key in keys}
        if set(theirs) != set(ours) or any(theirs[key].shape != ours[key].shape for key in theirs):
            raise ModelError(f"{checkpoint.path}: its {component} has other tensors than the base's; is this its base?")
        how = f"{added} more token embeddings than the base's" if added else ""
        changes.append(compare_weights(component, theirs, ours, how))
    defended = defended or bool(_quantized(pipe, base))
    if not defended:
        try:
            check_changed([change for change in changes if change.component != "vae"])
        except ModelError as error:
            raise ModelError(f"{checkpoint.path} ({checkpoint.format}): {error}") from None
    return tuple(changes)


def _added_tokens(pipe: Any, base: Any) -> tuple[str, ...]:
    """Say which tokens a pipeline's tokenizer has beside its base's; they can be typed, and so be attacked with."""
    if base is None or getattr(pipe, "tokenizer", None) is None or getattr(base, "tokenizer", None) is None:
        return ()
    added = sorted(set(pipe.tokenizer.get_vocab()) - set(base.tokenizer.get_vocab()))
    if not added:
        return ()
    listed = ", ".join(printable(token, 40) for token in added[:8]) + (", ..." if len(added) > 8 else "")
    return (f"its tokenizer adds {len(added)} tokens ({listed}), which prompts may hold and attacks may use",)


def _quantized(pipe: Any, base: Any) -> tuple[str, ...]:
    """Say which components cannot be compared with the base's, because their numbers are packed."""
    if base is None:
        return ()
    packed = {name: [quantizer(getattr(each, name)) for each in (pipe, base)] for name in components_of(pipe)}
    return tuple(
        f"{name} is quantised {f'({own})' if own else 'in the base'}, so that its weights were not compared"
        for name, (own, other) in packed.items()
        if own or other
    )


def wrap_pipeline(
    pipe: Any,
    base: Any = None,
    *,
    acts: Sequence[str] = (),
    safety_checker: bool = False,
    title: str = "the pipeline",
) -> Loaded:
    """Wrap a pipeline object of the user's, which is only frozen.

    Components of another floating-point type than the network's are replaced by copies in its type: transformers loads
    weights as they were saved and diffusers as float32, so ``from_pretrained`` without a type may mix them, and such a
    pipeline cannot draw.

    Args:
        pipe: the pipeline.
        base: the un-erased pipeline, from which it has to differ.
        acts: what acts on it at inference beside its weights, which then need not differ.
        safety_checker: whether its own is part of what is tested.
        title: its name in errors.

    Raises:
        ModelError: it is of no known family, or its base itself, or has no safety checker where that is asked for.
    """
    notes, wrapped, parts = [], copy.copy(pipe), [*components_of(pipe)]
    changes = () if base is None else _compare_objects(pipe, base)
    if changes and not any(change.changed for change in changes if change.component != "vae"):
        if not acts:
            raise ModelError(f"{title} (pipeline object): {NOTHING_CHANGED}")
        notes.append(f"its weights are the base's: all that is tested is {join_reasons(acts)}")
    if safety_checker:
        if getattr(pipe, CHECKER, None) is None:
            raise ModelError(f"the {type(pipe).__name__} {NO_CHECKER}")
        parts.append(CHECKER)
    network = family_of(pipe).network
    dtype, label = getattr(pipe, network).dtype, {"unet": "UNet"}.get(network, network)
    for component in parts:
        module = getattr(pipe, component)
        if any(weights.is_meta for weights in module.parameters()):
            raise ModelError(
                f"{title}: its {component} is not in memory (enable_sequential_cpu_offload, or a device_map to disk), "
                "so that its weights cannot be hashed: use enable_model_cpu_offload"
            )
        if module.dtype != dtype and not quantizer(module):
            names = [str(each).removeprefix("torch.") for each in (module.dtype, dtype)]
            notes.append(f"{component} cast from {names[0]} to {names[1]}, the {label}'s type")
            setattr(wrapped, component, copy.deepcopy(module).to(dtype))
    return Loaded(freeze(wrapped), "pipeline object", changes, notes=tuple(notes))


def _compare_objects(pipe: Any, base: Any) -> tuple[WeightDiff, ...]:
    """Compare a pipeline object with its base; empty where they are not made of the same tensors.

    A pipeline object has a type of its own, so they are compared as the coarser of both types has them.
    """
    changes = []
    if components_of(pipe) != components_of(base):
        return ()
    for component in components_of(pipe):
        theirs, ours = (uncompiled(getattr(each, component)).state_dict() for each in (base, pipe))
        if set(theirs) != set(ours) or any(theirs[k].shape != ours[k].shape or ours[k].is_meta for k in theirs):
            return ()
        pairs = {key: _in_coarser_dtype(theirs[key], ours[key]) for key in theirs}
        theirs, ours = ({key: pair[side] for key, pair in pairs.items()} for side in (0, 1))
        changes.append(compare_weights(component, theirs, ours))
    return tuple(changes)


def _in_coarser_dtype(theirs: torch.Tensor, ours: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Put two tensors on one device, in the type of the one with fewer digits."""
    ours = ours.to(theirs.device)
    if theirs.dtype == ours.dtype or not (theirs.is_floating_point() and ours.is_floating_point()):
        return theirs, ours
    coarse = max(theirs.dtype, ours.dtype, key=lambda dtype: torch.finfo(dtype).eps)
    return theirs.to(coarse), ours.to(coarse)


def describe(loaded: Loaded, beside: str = "") -> dict[str, Any]:
    """Describe a victim in builtin types, for reports.

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


def weights_digest(pipe: Any, *, safety_checker: bool = False) -> str:
    """Hash a pipeline's weights in memory and its noise schedule, in 16 hex digits.

    Args:
        pipe: the pipeline.
        safety_checker: whether its safety checker counts.
    """
    total = hashlib.sha256()
    checked = safety_checker and getattr(pipe, CHECKER, None) is not None
    for component in (*components_of(pipe), *((CHECKER,) if checked else ())):
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
