"""What is at a path, told by its content and never by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import ModelError
from .files import read_file
from .formats import detect_format
from .formats.folders import read_folder
from .pipeline_folders import check_index, index_class
from .weight_patches import WeightPatch


@dataclass(frozen=True)
class Checkpoint:
    """What a path holds.

    Attributes:
        path: where it is.
        format: what it was recognised as, for people.
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
    """Recognise a pipeline folder, a component folder, or a file of tensors.

    Args:
        path: where it is.
        trust_pickle: whether to read the tensors of pickles that also name code; it is never executed.

    Raises:
        ModelError: nothing there, not readable, or not a known format; the message says what was found.
    """
    try:
        exists, folder = path.exists(), path.is_dir()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if not exists:
        raise ModelError(f"no model at {path}: give a pipeline folder, a component folder or a checkpoint file")
    try:
        return _read(path, folder, trust_pickle)
    except ModelError as error:
        raise ModelError(f"{path} {error}" if _continues(error) else f"{path}: {error}") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}") from None


def _read(path: Path, folder: bool, trust_pickle: bool) -> Checkpoint:
    if folder and (path / "model_index.json").is_file():
        check_index(path)
        return Checkpoint(path, "pipeline folder", pipeline=index_class(path))
    if folder:
        found, metadata = read_folder(path, trust_pickle=trust_pickle)
    else:
        contents = read_file(path, trust_pickle=trust_pickle)
        found, metadata = detect_format(contents), contents.metadata
    return Checkpoint(path, found.format, patches=found.patches, metadata=metadata, notes=found.notes)


def _continues(error: ModelError) -> bool:
    """Whether a reason reads on from the path, such as "is empty"."""
    return str(error).startswith(("is ", "holds ", "has ", "names ", "cannot "))
