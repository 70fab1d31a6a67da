"""The command ``inspect``: what a model file is, and what it changes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.model_options import split_version
from ..reports.text import UNKEPT, sanitize
from ..runs.model_cache import ModelCache
from ..runs.model_spec import Fingerprint, ModelSpec
from ..sources.base_guess import guess_base
from ..sources.resolve import call_factory, is_import_string
from ..store.key import Fingerprints
from .command import BASE_HELP, Command, model_path, model_paths, with_own_options

if TYPE_CHECKING:
    from ..models.checkpoint import Checkpoint
    from ..models.loading import Loaded

_OWN_OPTIONS = ("base", "partial", "trust_pickle")
SUMMARY = "say what a model is, which tensors it changes against its base, and whether it can be attacked"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the model, its base, and tolerated defects."""
    parser.add_argument(
        "path",
        help="pipeline folder, component folder, checkpoint file, URL, Hub id, several (A,B), or pkg.mod:callable",
    )
    parser.add_argument("--base", help=BASE_HELP)
    parser.add_argument("--partial", action="store_true", help="accept tensors that are missing without a pattern")
    parser.add_argument(
        "--trust-pickle", action="store_true", help="read pickles that name more than tensors; it is never executed"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the detected format and the accounting of tensors, on the CPU; a refusal is an error and so ends with 1.

    Raises:
        ModelError: it cannot be attacked.
    """
    paths, base = model_paths(arguments.path), arguments.base and model_path(arguments.base)
    from ..models.libraries import silence_libraries

    with silence_libraries():
        if is_import_string(paths[0]):
            _inspect_object(str(paths[0]), base)
        else:
            _inspect(paths, base, partial=arguments.partial, trust_pickle=arguments.trust_pickle)
    return 0


def _inspect(paths: tuple[Path, ...], base: Path | None, *, partial: bool, trust_pickle: bool) -> None:
    from ..models.checkpoint import read_checkpoint
    from ..models.loading import add_adapters, load_victim
    from ..models.pipeline_folders import load_pipeline

    checkpoints = [read_checkpoint(path, trust_pickle=trust_pickle) for path in paths]
    for checkpoint in checkpoints:
        _print("model", str(checkpoint.path))
        _print("format", checkpoint.format + (f", {checkpoint.pipeline}" if checkpoint.pipeline else ""))
        for name, value in sorted(checkpoint.metadata.items()):
            if (name, value) != ("format", "pt"):
                _print("it says", f"{name} = {value}")
    family = next(filter(None, map(guess_base, paths)), None)
    if family is not None:
        _print("family", str(family))
    if base is None and family is not None and (base := family.folder()) is not None:
        _print("base", f"{base} (assumed)")
    else:
        _print("base", str(base) if base is not None else "not given (--base)")
    pipe = load_pipeline(base) if base is not None else None
    first, *adapters = checkpoints
    loaded = load_victim(first, pipe, partial=partial, defended=_guides(first))
    _account(first, add_adapters(loaded, first, adapters, partial=partial))


def _inspect_object(import_string: str, base: Path | None) -> None:
    """Print what a callable makes, what acts on its images, and whether its outcomes are kept."""
    pipe, version = split_version(call_factory(import_string))
    source = ModelSpec(Path(import_string), base, pipe, version, device=str(getattr(pipe, "device", "cpu")))
    fingerprint, loaded = Fingerprint.of(source, Fingerprints()), ModelCache().victim(source)
    _print("model", import_string)
    _print("format", f"{loaded.format}, {type(pipe).__name__}")
    _print("base", str(base) if base is not None else "not given (--base)")
    for reason in fingerprint.unhashed:
        _print("acts", reason)
    if version:
        _print("version", version)
    for line in map(str, loaded.changes or ["unknown without a base of the same tensors"]):
        _print("changes", line)
    for note in (*loaded.notes, *filter(None, [fingerprint.unkept])):
        _print("note", note)
    _print("verdict", "can be attacked")


def _guides(checkpoint: Checkpoint) -> bool:
    return checkpoint.pipeline == "StableDiffusionPipelineSafe"


def _account(checkpoint: Checkpoint, loaded: Loaded) -> None:
    for change in loaded.changes:
        _print("changes", str(change))
    for note in loaded.notes:
        _print("note", note)
    if not loaded.changes:
        _print("changes", "unknown without a base; every tensor is there and finite")
    if _guides(checkpoint):
        _print("note", "attacked only with --unlearndiff-sld, which guides its images")
    _print("verdict", "can be attacked")


def _print(name: str, text: str) -> None:
    print(f"{name + ':':<9}{sanitize(with_own_options(text, _OWN_OPTIONS), UNKEPT)}")


COMMANDS = (Command("inspect", SUMMARY, add_arguments, run),)
