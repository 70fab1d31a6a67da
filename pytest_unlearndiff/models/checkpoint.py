"""Read a path: a pipeline folder, a component folder, an adapter with its configuration, or a file of tensors.

A file's format is detected by its tensors' names, and checkpoints of other families are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ..core.errors import ModelError
from ..core.model_info import FormatInfo
from ..core.registry import registry
from ..core.untrusted import printable, short_repr
from ..sources.resolve import import_string
from ..sources.weight_files import part_folders, read_json, weight_files, weights_stem
from .families.lookup import family_named, supported_families
from .formats.diffusers_names import text_encoder, text_encoder_names
from .pipeline_folders import check_index
from .tensor_files import Contents, Tensors, flatten, is_checkpoint, read_file
from .weight_patches import DetectedFormat, OneOf, WeightDiff, WeightPatch, Weights, component_of

# What weights alone do not show, but decides what they compute.
_DECIDING_SETTINGS = {
    "unet": (
        *("attention_head_dim", "num_attention_heads", "act_fn", "norm_num_groups", "norm_eps"),
        "use_linear_projection",
    ),
    "transformer": (
        *("attention_head_dim", "num_attention_heads", "patch_size", "axes_dims_rope", "qk_norm", "norm_eps"),
        *("norm_type", "activation_fn", "pos_embed_max_size", "guidance_embeds"),
    ),
}
_TEXT_SETTINGS = (
    *("hidden_act", "num_attention_heads", "layer_norm_eps"),
    *("num_heads", "d_kv", "feed_forward_proj", "layer_norm_epsilon", "relative_attention_num_buckets"),
)
_REFINER = "conditioner.embedders.0.model."
# Families that files name in their metadata (ESD's training script does), beside those that can be attacked.
_IN_METADATA = {"flux2_klein": ("FLUX.2 klein", "Flux2KleinPipeline"), "hidream": ("HiDream", "HiDreamImagePipeline")}
_REFINER_WIDTH = 1280
_LISTED = 8


@dataclass(frozen=True)
class Checkpoint:
    """A path's content, read.

    Attributes:
        path: where it is.
        format: for people.
        pipeline: class of the pipeline, where it is a whole pipeline folder; else empty.
        patches: what it does to its base, for anything else.
        metadata: what the file says about itself, such as the ESD authors' keys.
        notes: what was left out or assumed, for the report.
    """

    path: Path
    format: str
    pipeline: str = ""
    patches: tuple[WeightPatch, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_checkpoint(path: Path, *, trust_pickle: bool = False) -> Checkpoint:
    """Read a pipeline folder's index, or the tensors of anything else; content decides, never the name.

    Args:
        path: where it is.
        trust_pickle: whether to read the tensors of pickles that also name code; it is never executed.

    Raises:
        ModelError: nothing there, not readable, or not a known format; the message says what it holds.
    """
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if not exists:
        raise ModelError(f"no model at {path}: give a pipeline folder, a component folder or a checkpoint file")
    try:
        if is_folder and (path / "model_index.json").is_file():
            check_index(path)
            return Checkpoint(path, "pipeline folder", pipeline=read_json(path / "model_index.json")["_class_name"])
        reader = _read_folder if is_folder else _read_file
        detected = reader(path, trust_pickle)
    except ModelError as error:
        reads_on = str(error).startswith(("is ", "holds ", "has ", "names ", "cannot "))
        raise ModelError(f"{path} {error}" if reads_on else f"{path}: {error}") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    return Checkpoint(path, detected.format, patches=detected.patches, metadata=detected.metadata, notes=detected.notes)


def _read_file(path: Path, trust_pickle: bool) -> DetectedFormat:
    return detect_format(read_file(path, trust_pickle=trust_pickle))


def _read_folder(path: Path, trust_pickle: bool) -> DetectedFormat:
    """Read a folder that is no pipeline: an adapter, a component, several components, or one file."""
    formats = (row for row in registry().formats.values() if row.folder_config)
    if (row := next((row for row in formats if (path / str(row.folder_config)).is_file()), None)) is not None:
        return _read_adapter(path, row, trust_pickle)
    if (path / "config.json").is_file():
        return _read_component(path, trust_pickle)
    if parts := part_folders(path):
        patches = tuple(patch for part in parts for patch in _read_component(part, trust_pickle).patches)
        return DetectedFormat(f"folder of {' and '.join(part.name for part in parts)}", patches)
    inside = [file for file in sorted(path.iterdir()) if is_checkpoint(file)]
    if len(inside) != 1:
        example = f", such as {inside[0].name}; give one of them" if inside else ""
        raise ModelError(
            "is not a pipeline, network or text encoder folder: found no model_index.json, no config.json and "
            f"{len(inside)} weight files{example}"
        )
    return _read_file(inside[0], trust_pickle)


def _read_adapter(path: Path, row: FormatInfo, trust_pickle: bool) -> DetectedFormat:
    """Read weights with a configuration of their format beside them."""
    files = [
        file for file in sorted(path.iterdir()) if file.name.startswith(row.folder_weights) and is_checkpoint(file)
    ]
    if len(files) != 1:
        raise ModelError(f"has {len(files)} files {row.folder_weights}.*; exactly one is needed")
    contents = read_file(files[0], trust_pickle=trust_pickle)
    return detect_format(replace(contents, config=read_json(path / str(row.folder_config))))


def _component_classes() -> dict[str, tuple[str, ...]]:
    """Return the components that a folder of each class may be."""
    components: dict[str, dict[str, None]] = {}
    for family in registry().families.values():
        for component, classes in family.components.items():
            for name in classes if component != "vae" else ():
                components.setdefault(name, {})[component] = None
    # The last of several text encoders is likelier to be erased than one that only helps.
    return {name: tuple(sorted(named, reverse=True)) for name, named in components.items()}


def _read_component(path: Path, trust_pickle: bool) -> DetectedFormat:
    config, classes = read_json(path / "config.json"), _component_classes()
    architectures = config.get("architectures")
    named = [config.get("_class_name"), *(architectures if isinstance(architectures, list) else ())]
    components = next((classes[name] for name in named if isinstance(name, str) and name in classes), None)
    if components is None:
        name = printable(str(next((name for name in named if name), "nothing it names")))
        raise ModelError(f"is not a network or text encoder folder: found a {name}; {supported_families()}")
    if path.name in components:
        components = (path.name,)
    files = weight_files(path, weights_stem(components[0])).files
    contents = _join([read_file(file, trust_pickle=trust_pickle) for file in files])
    if loose := next((key for key, value in contents.tree.items() if not isinstance(value, torch.Tensor)), None):
        raise ModelError(f"{short_repr(loose)} is no tensor; not a state dict of a known layout")
    choices = {component: _component_patches(component, config, contents) for component in components}
    patches = next(iter(choices.values())) if len(choices) == 1 else (OneOf(choices),)
    return DetectedFormat(f"{' or '.join(choices)} folder", patches, contents.notes, contents.metadata)


def _join(shards: list[Contents]) -> Contents:
    return Contents(
        {key: value for shard in shards for key, value in shard.tree.items()},
        {key: value for shard in shards for key, value in shard.metadata.items()},
        tuple(note for shard in shards for note in shard.notes),
    )


def _component_patches(component: str, config: Mapping[str, Any], contents: Contents) -> tuple[WeightPatch, ...]:
    """Return a component folder's patches; it holds its component whole, so a gap is an error."""
    settings = _DECIDING_SETTINGS.get(component, _TEXT_SETTINGS)
    same = SameConfig(component, {key: config[key] for key in settings if key in config})
    if component.startswith("text_encoder"):
        return same, text_encoder(text_encoder_names(contents.tree)[0], component)
    if component == "transformer":
        return same, Weights(component, contents.tree, complete=True)
    # A UNet folder may hold Receler's erasers beside the weights.
    patches = detect_format(contents).patches
    return same, *(replace(patch, complete=True) if isinstance(patch, Weights) else patch for patch in patches)


@dataclass(frozen=True)
class SameConfig:
    """Checks that a component computes with its weights as the base does.

    Attributes:
        component: its name.
        config: its deciding settings.
    """

    component: str
    config: Mapping[str, Any]

    def apply(self, pipe: Any, *, partial: bool) -> list[WeightDiff]:
        """See ``WeightPatch``."""
        base = component_of(pipe, self.component).config
        for key, value in self.config.items():
            if (expected := getattr(base, key, value)) != value and _as_list(expected) != _as_list(value):
                raise ModelError(
                    f"its {self.component} has {key}={short_repr(value)}, the base's {short_repr(expected)}; "
                    "is this its base?"
                )
        return []


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def detect_format(contents: Contents) -> DetectedFormat:
    """Read a checkpoint by the first format that matches its tensors' names; plugins' formats first.

    Raises:
        ModelError: it is of no known format, or of a model of another family, which is named.
    """
    named, left_out = flatten(contents.tree)
    rows, added = registry().formats.values(), registry().added
    detected = _read_by([row for row in rows if row in added], named, contents)
    if detected is None:
        _refuse_other_families(named, contents)
        detected = _read_by([row for row in rows if row not in added], named, contents)
    if detected is None:
        sample = ", ".join(sorted(named)[:5])
        raise ModelError(
            f"tensors named {sample} ... fit neither a network nor a text encoder (with diffusers' or its publisher's "
            "names), nor a LoRA, nor Receler's erasers; convert the checkpoint, or override the unlearned_pipe fixture"
        )
    notes = (*contents.notes, *detected.notes)
    if left_out:
        more = ", ..." if len(left_out) > _LISTED else ""
        notes += (f"no tensors, left out: {', '.join(left_out[:_LISTED])}{more}",)
    return replace(detected, notes=notes, metadata={**contents.metadata, **detected.metadata})


def _read_by(rows: list[FormatInfo], named: Tensors, contents: Contents) -> DetectedFormat | None:
    for row in rows:
        if row.matches(named):
            detected: DetectedFormat | None = import_string(row.implementation)(named, contents)
            if detected is not None:
                return detected
    return None


def _refuse_other_families(named: Tensors, contents: Contents) -> None:
    title, pipeline = _IN_METADATA.get(contents.metadata.get("family", ""), ("", ""))
    if title and family_named(pipeline) is None:
        raise ModelError(f"is of {title}, as its metadata says; {supported_families()}")
    if key := next((key for key in named if key.startswith(_REFINER)), None):
        raise ModelError(f"is of Stable Diffusion XL's refiner (it holds {key}); {supported_families()}")
    if any(".attn2.to_k." in key and value.shape[1:] == (_REFINER_WIDTH,) for key, value in named.items()):
        raise ModelError(
            f"is of Stable Diffusion XL's refiner (its cross-attention reads {_REFINER_WIDTH} numbers a token); "
            f"{supported_families()}"
        )
