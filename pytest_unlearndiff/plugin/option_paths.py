"""Paths in options: found on this machine or fetched to it, and rewritten for a command in another folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ..core.prompt_sets import locate_prompt_set
from ..core.untrusted import find_path, parse_path, printable, special_file
from ..reports.writers import parse_destinations
from ..sources.resolve import resolve_model_path
from .option_parsers import parse_attack

MODEL_HINT = (
    "Give a pipeline folder, a component folder, a checkpoint file, a URL, a downloaded Hub id or pkg.mod:callable"
)
BASE_HINT = "Give a pipeline folder, a URL, or the id of a Hub repository that is on this machine"
PATH_HINTS = {"model": MODEL_HINT, "base": BASE_HINT}


@dataclass(frozen=True)
class RawOption:
    """Text that a user gave for an option.

    Attributes:
        origin: flag or ini option, for errors.
        text: the value as written.
        folder: folder that relative paths in it start from.
    """

    origin: str
    text: str
    folder: Path


class PathForm(Enum):
    """How an option's text holds paths."""

    NONE = "none"
    PATH = "path"
    PATH_OR_NAME = "path or name"
    """A path, or a callable's name or a Hub id, which mean the same in any folder."""
    LIST = "list"
    """Paths, separated as in PATH."""
    AFTER_COLON = "after colon"

    def relocate(self, raw: RawOption, folder: Path) -> str:
        """Return the text with its relative paths as they are written in another folder."""
        if self is PathForm.NONE or raw.folder == folder or "://" in raw.text:
            return raw.text
        if self is PathForm.PATH_OR_NAME and not is_there(raw.folder / expand_home(raw.text)):
            return raw.text
        name, colon, text = raw.text.partition(":") if self is PathForm.AFTER_COLON else ("", "", raw.text)
        paths = text.split(os.pathsep) if self is PathForm.LIST else [text]
        return name + colon + os.pathsep.join(_relocated(path, raw.folder, folder) for path in paths if path)


def _relocated(text: str, before: Path, after: Path) -> str:
    path = expand_home(text)
    return str(path) if path.is_absolute() else os.path.relpath(before / path, after)


def expand_home(text: str) -> Path:
    """Return a path with ``~`` expanded where that user is known; parsers refuse the others."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def is_there(path: Path) -> bool:
    """Whether a path leads to a file or folder; False where no file can have such a name."""
    try:
        return path.is_file() or path.is_dir()
    except (OSError, ValueError):
        return False


def locate_model(raw: RawOption, say: Callable[[str], None]) -> Path:
    """Find the model under test; copy it to this machine if it is at a URL.

    Raises:
        ModelError: there is none.
    """
    return resolve_model_path(raw.text, raw.folder, MODEL_HINT, allow_import_string=True, on_download=say)


def locate_base(raw: RawOption, say: Callable[[str], None]) -> Path:
    """Find the un-erased pipeline; copy it to this machine if it is at a URL.

    Raises:
        ModelError: there is none.
    """
    return resolve_model_path(raw.text, raw.folder, BASE_HINT, on_download=say)


def locate_concepts(raw: RawOption, say: Callable[[str], None]) -> tuple[Path, ...]:
    """Find folders or files of concepts.

    Raises:
        ValueError: there is none, or it is neither a file nor a folder.
    """
    return tuple(_existing(text, raw.folder) for text in raw.text.split(os.pathsep) if text)


def _existing(text: str, folder: Path) -> Path:
    try:
        if (path := find_path(text, folder)) is not None:
            return path
        path = parse_path(text, folder)
    except ValueError as error:
        raise ValueError(f"{printable(text)} {error}") from None
    raise ValueError(f"there is nothing at {path}. Give folders or files of concepts")


def locate_store(raw: RawOption, say: Callable[[str], None]) -> Path | str:
    """Find the folder of the store, which need not exist yet, or the URL of a shared one.

    Raises:
        ValueError: it is, or would be in, something that is no folder.
    """
    if "://" in raw.text:
        return raw.text
    try:
        find_path(raw.text, raw.folder)  # refuses what is neither a file nor a folder
        path = parse_path(raw.text, raw.folder)
    except ValueError as error:
        raise ValueError(f"{printable(raw.text)} {error}") from None
    nearest = next(above for above in (path, *path.parents) if above.exists())
    if not nearest.is_dir():
        raise ValueError(f"{nearest} is not a folder")
    return path


def locate_prompt_sets(raw: RawOption, say: Callable[[str], None]) -> Path | str:
    """Find a folder of prompt sets, or the URL of one, such as of a data set on the Hub.

    Raises:
        ValueError: there is no such folder.
    """
    place = locate_prompt_set(raw.text, raw.folder)
    if isinstance(place, Path) and not place.is_dir():
        raise ValueError(
            f"there is {'no folder' if place.exists() else 'nothing'} at {place}. Give the folder that holds your "
            "copies, a URL, or a data set on the Hub as owner/name"
        )
    return place.resolve() if isinstance(place, Path) else place


def locate_attack(raw: RawOption, say: Callable[[str], None]) -> str:
    """Find the file of an attack that replays known prompts, and return ``name:absolute path``.

    Raises:
        ValueError: the attack is unknown, or there is no such file.
    """
    name, colon, text = parse_attack(raw.text).partition(":")
    if not colon:
        return name
    try:
        file = parse_path(text, raw.folder).resolve()
    except ValueError as error:
        raise ValueError(f"{name}:CSV, and the path {error}") from None
    if not file.is_file():
        raise ValueError(f"{name}:CSV, and there is no file {file}")
    return f"{name}:{file}"


def locate_reports(raw: RawOption, say: Callable[[str], None]) -> tuple[tuple[str, Path], ...]:
    """Find out where reports are written; kinds without a path get the folder, which is not used.

    Raises:
        ValueError: the text is malformed, or a folder, a pipe or a device is in the place of a file.
    """
    destinations = []
    for kind, text in parse_destinations(raw.text):
        try:
            path = parse_path(text, raw.folder)
        except ValueError as error:
            raise ValueError(f"paths of files, and that of {kind} {error}") from None
        if text and (path.is_dir() or special_file(path)):
            raise ValueError(f"paths of files, and {path} is {special_file(path) or 'a folder'}")
        destinations.append((kind, path))
    return tuple(destinations)
