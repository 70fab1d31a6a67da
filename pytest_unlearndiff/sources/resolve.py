"""Names that a user writes for models and functions: a path, a URL, a Hub id or an import string.

Import strings are ``package.module:callable``; content hashes of judges' files and functions are made here too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from ..core.concept import JudgeConfig
from ..core.errors import JudgeError, ModelError
from ..core.judge_options import parts_of
from ..core.registry import registry
from ..core.untrusted import find_path, parse_path, printable, short_repr
from ..store.key import Fingerprints, digest
from .download import download

_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?P<folder>(?:/[\w.-]+)*)(?:@(?P<revision>[\w.-]+))?")
_MOST_SIBLINGS = 1000
_FILES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_SD2 = ("stable-diffusion-2", "stable-diffusion-2-base", "stable-diffusion-2-1", "stable-diffusion-2-1-base")
MIRRORS = {
    # Withdrawn by their owners; the same weights have these names.
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    **{f"stabilityai/{name}": f"sd2-community/{name}" for name in _SD2},
}


def resolve_model_path(
    text: str,
    folder: Path,
    remedy: str,
    *,
    allow_import_string: bool = False,
    on_download: Callable[[str], None] | None = None,
) -> Path:
    """Resolve a model, or something that belongs to one, without loading it.

    Args:
        text: a path, a URL, which is downloaded, or the id of a Hub repository that is on this machine.
        folder: base of relative paths.
        remedy: sentence for errors: what to give if there is nothing.
        allow_import_string: whether it may also be ``package.module:callable``, which is returned unchanged.
        on_download: told before anything is downloaded.

    Raises:
        ModelError: there is nothing, or it cannot be downloaded.
    """
    if "://" in text:
        return download(text, on_download)
    try:
        if (path := find_path(text, folder)) is not None:
            return path
        path = parse_path(text, folder)
    except ValueError as error:
        raise ModelError(f"{printable(text)} {error}. {remedy}") from None
    if allow_import_string and is_import_string(text):
        return Path(text)
    if (repository := hub_folder(text)) is not None:
        return repository
    if near := _similar_names(path):
        raise ModelError(f"there is nothing at {path}: did you mean {near}? {remedy}")
    hint = hub_hint(text)
    raise ModelError(f"there is nothing at {path}{f'; {hint}' if hint else ''}. {remedy}")


def resolve_models(
    text: str, folder: Path, remedy: str, *, on_download: Callable[[str], None] | None = None
) -> tuple[Path, ...]:
    """Resolve a model, and the adapters that are put into it, in this order.

    Args:
        text: as ``resolve_model_path``'s, several separated by commas, or ``package.module:callable``.
        folder: as ``resolve_model_path``'s.
        remedy: as ``resolve_model_path``'s.
        on_download: as ``resolve_model_path``'s.

    Raises:
        ModelError: as ``resolve_model_path``'s; or one of them is named twice.
    """
    names = split_models(text, folder)
    alone = len(names) == 1
    paths = tuple(
        resolve_model_path(name, folder, remedy, allow_import_string=alone, on_download=on_download) for name in names
    )
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise ModelError(f"{twice} is named twice: each file is put into the model once")
    return paths


def split_models(text: str, folder: Path) -> list[str]:
    """Split a list of models at its commas; one model whose own name has commas stays whole."""
    parts = [part.strip() for part in text.split(",")]
    return [text] if len(parts) == 1 or "" in parts or _is_one_model(text, parts, folder) else parts


def _is_one_model(text: str, parts: Sequence[str], folder: Path) -> bool:
    """Tell whether text with commas is one path that exists, or a URL with commas in it."""
    try:
        if "://" not in text:
            return find_path(text, folder) is not None
        return not all("://" in part or find_path(part, folder) is not None for part in parts)
    except ValueError:
        return True


def _similar_names(path: Path) -> str:
    """List names beside a missing path that may have been meant; empty where none is near."""
    try:
        names = [entry.name for entry in islice(path.parent.iterdir(), _MOST_SIBLINGS)]
    except OSError:
        return ""
    return " or ".join(map(short_repr, get_close_matches(path.name, names, n=2, cutoff=0.8)))


def hub_folder(text: str) -> Path | None:
    """Find the local copy of a Hub repository; nothing is downloaded.

    Args:
        text: ``owner/name``, ``owner/name/folder`` or ``owner/name@revision``.

    Returns:
        The folder; None if the text is no id, or nothing of it is on this machine.
    """
    if (match := _match_hub_id(text)) is None:
        return None
    repo = match["repo"]
    aliases = [new if repo == old else old for old, new in MIRRORS.items() if repo in (old, new)]
    for name in (repo, *aliases):
        snapshot = _cached_snapshot(name, match["revision"])
        if snapshot is not None and (path := snapshot / match["folder"].strip("/")).exists():
            return path
    return None


def hub_hint(text: str) -> str:
    """Tell how to download a Hub repository that is not on this machine; empty for text that is no id."""
    if (match := _match_hub_id(text)) is None or text.endswith(_FILES):
        return ""
    repo = match["repo"]
    if mirror := MIRRORS.get(repo):
        return f"{repo} was withdrawn from the Hub; the same weights: hf download {mirror}"
    return f"nor is {repo} in the Hub's cache on this machine: hf download {repo}"


def _match_hub_id(text: str) -> re.Match[str] | None:
    return None if ".." in text else _HUB_ID.fullmatch(text)


def _cached_snapshot(repo: str, revision: str | None) -> Path | None:
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError:
        return None
    try:
        return Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except (OSError, ValueError):  # LocalEntryNotFoundError is an OSError, HFValidationError a ValueError
        return None


_FORM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_import_string(model: str | Path | None) -> bool:
    """Tell whether text has the form ``package.module:callable`` and is no existing path."""
    return model is not None and bool(_FORM.fullmatch(str(model))) and not Path(model).exists()


def import_string(text: str) -> Any:
    """Import the callable that ``package.module:callable`` names.

    Raises:
        ImportError: there is no such module, nothing of this name in it, or it cannot be called.
    """
    module, _, name = text.partition(":")
    try:
        function = reduce(getattr, name.split("."), import_module(module))
    except AttributeError as error:
        raise ImportError(f"{text}: {error}") from None
    except ImportError as error:
        kind = ModuleNotFoundError if isinstance(error, ModuleNotFoundError) else ImportError
        message = f"{text}: {error}; the module has to be importable, as with pytest's pythonpath"
        raise kind(message, name=error.name) from None
    if not callable(function):
        raise ImportError(f"{text} is a {type(function).__name__}, which cannot be called")
    return function


def call_factory(text: str) -> Any:
    """Call the callable that an import string names, without arguments, and return its result.

    Raises:
        ModelError: there is no such callable, or it raises.
    """
    try:
        factory = import_string(text)
    except ImportError as error:
        raise ModelError(str(error)) from None
    try:
        return factory()
    except Exception as error:
        raise ModelError(f"{text} raised {type(error).__name__}: {error}") from error


def judge_weights(config: JudgeConfig, fingerprints: Fingerprints) -> str:
    """Hash a judge's files to 16 hex digits; a Hub id stands for itself.

    Raises:
        JudgeError: the judge is a function whose module is not there.
        StoreError: a file cannot be read.
    """
    if parts := parts_of(config):
        return digest([judge_weights(part, fingerprints) for part in parts])
    info = registry().judges[config.kind]
    digests = [_hash(str(config.options[name]), fingerprints) for name in info.files if name in config.options]
    digests += [
        fingerprints.of(source_file(str(config.options[name]))) for name in info.sources if name in config.options
    ]
    if not digests:
        return (info.bundled or "")[:16]
    return digests[0] if len(digests) == 1 else digest(digests)


def judge_problem(config: JudgeConfig) -> str:
    """Say which folder of a judge holds no model; empty where none is seen to."""
    for part in parts_of(config) or (config,):
        info = registry().judges[part.kind]
        folders = [Path(str(part.options[name])) for name in info.files if name in part.options]
        for folder in folders if info not in registry().added else ():
            if folder.is_dir() and not any((folder / name).exists() for name in _MODEL_FILES):
                return f"the judge's folder {folder} holds no model: it has neither {' nor '.join(_MODEL_FILES)}"
    return ""


_MODEL_FILES = ("config.json", "model_index.json")
"""Files one of which is in every folder that transformers and diffusers load a model from."""


def _hash(name: str, fingerprints: Fingerprints) -> str:
    path = Path(name)
    return fingerprints.of(path) if path.exists() else name


def source_file(call: str) -> Path:
    """Find the file that defines ``package.module:function``, whose content stands for the function.

    Raises:
        JudgeError: there is no such module, or it is not a file.
    """
    module = call.partition(":")[0]
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise JudgeError(f"judge function {call}: there is no file of a module {module!r} on Python's path")
    return Path(spec.origin)
