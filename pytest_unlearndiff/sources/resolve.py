"""From what a user writes to a path on this machine: a path, a URL, a Hub id or an import string."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ..core.errors import ModelError
from ..core.untrusted import find_path, parse_path, printable
from .download import download
from .import_string import is_import_string

_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?P<folder>(?:/[\w.-]+)*)(?:@(?P<revision>[\w.-]+))?")
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
    hint = hub_hint(text)
    raise ModelError(f"there is nothing at {path}{f'; {hint}' if hint else ''}. {remedy}")


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
    if (match := _match_hub_id(text)) is None:
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
