"""Where models are; those at a URL are copied to this machine, and again once something else is there."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..core.errors import ModelError
from ..core.untrusted import find_path, parse_path, printable
from ..core.urls import redact_url, wrap_access_errors
from ..store.files import METADATA_BYTES, read_regular
from ..store.hashing import SETTLE_NS, digest
from .hub import hub_folder, hub_mend
from .import_string import is_import_string
from .user_temp import user_temp_folder, user_temp_path

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_ORIGIN = ".url"
_DATES = ("Last-Modified", "LastModified", "last_modified", "modified", "mtime")
"""What places call the date of a file."""
_CONTENT = {"ETag", "Content-MD5", "Digest"}
"""What servers tell of a file that changes with its content, as fsspec passes it on."""


def _silent(text: str) -> None:
    """Nobody wants to know."""


def resolve_model_path(
    text: str, folder: Path, mend: str, *, maker: bool = False, say: Callable[[str], None] = _silent
) -> Path:
    """The path of a model, or of something that belongs to one, found without loading anything.

    Args:
        text: a path, a URL, which is fetched, or the id of a Hub repository that is on this machine.
        folder: what a relative path is relative to.
        mend: what to give where there is nothing.
        maker: whether it may also be ``pkg.mod:callable``, which is returned as it is.
        say: is told before anything is copied.

    Raises:
        ModelError: there is nothing, or it cannot be fetched.
    """
    if "://" in text:
        return download(text, say)
    try:
        if (there := find_path(text, folder)) is not None:
            return there
        path = parse_path(text, folder)
    except ValueError as error:
        raise ModelError(f"{printable(text)} {error}. {mend}") from None
    if maker and is_import_string(text):
        return Path(text)
    if (found := hub_folder(text)) is not None:
        return found
    hub = f"; {hint}" if (hint := hub_mend(text)) else ""
    raise ModelError(f"there is nothing at {path}{hub}. {mend}")


def download(url: str, say: Callable[[str], None] = _silent) -> Path:
    """Where on this machine a model from elsewhere lies.

    Every call asks what is there: each file's size, date and tag as far as the place tells them. The copy lies among
    this user's temporary files, for all sessions.

    Args:
        url: of a file or folder, of any kind that fsspec knows.
        say: is told before anything is copied.

    Raises:
        ModelError: there is nothing, it cannot be read or kept, or a package is missing.
    """
    with wrap_access_errors(url, "fetched", "Try again, or download it and give its path", ModelError):
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        files, place = url_to_fs(url.rstrip("/"))
        try:
            return _existing(Path(place)) if isinstance(files, LocalFileSystem) else _copy(files, place, url, say)
        except FileNotFoundError as error:
            if isinstance(error.__cause__, OSError):  # of a web server, everything is called not found
                raise error.__cause__ from None
            raise ModelError(f"there is nothing at {redact_url(url)}") from None


def origin(path: Path) -> str:
    """The URL that a path is the copy of, or the path itself."""
    if path.parent.parent != user_temp_path() / "models":
        return str(path)
    try:
        return read_regular(path.parent / _ORIGIN, METADATA_BYTES).decode()
    except (OSError, ValueError):
        return str(path)


def _existing(path: Path) -> Path:
    try:
        there = find_path(path, Path())
    except ValueError as error:
        raise ModelError(f"{path} {error}") from None
    if there is None:
        raise FileNotFoundError(path)
    return there


def _copy(files: AbstractFileSystem, place: str, url: str, say: Callable[[str], None]) -> Path:
    """The copy of what is there now."""
    from filelock import FileLock

    there, now = _there(files, place), time.time()
    # A web address may be led to another one, signed anew for everybody who asks. Only where a tag tells contents apart
    # may two addresses with one path be one file.
    tagged = not any(_CONTENT.isdisjoint(info) for info in there.values())
    seen = _seen(there)
    folder = user_temp_folder() / "models"
    folder.mkdir(exist_ok=True)
    # What replaced a young file since would have the same date, so that no earlier copy answers for it.
    young = not tagged and any(_is_young(info, now) for info in there.values())
    # Another session may still read what was there before, so that it stays.
    kept = folder / digest([redact_url(url) if tagged else url, seen, *([time.time_ns()] if young else [])])
    with FileLock(folder / f"{kept.name}.lock"):
        if not kept.exists():
            size = sum(int(info.get("size") or 0) for info in there.values())
            say(f"fetching {printable(redact_url(url))} ({size / 2**20:,.0f} MiB)")
            _fetch(files, place, there, kept, url)
    return kept / _name(place)


def _seen(there: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """What tells files from others at the same place."""
    return {name: {k: str(v) for k, v in info.items() if k not in ("url", "name")} for name, info in there.items()}


def _is_young(info: Mapping[str, Any], now: float) -> bool:
    """Whether a file whose date is in whole seconds is so young that another one may get the same date."""
    dates = [date for name in _DATES if (date := _date(info.get(name))) is not None]
    return any(date % 1 == 0 and date > now - SETTLE_NS / 10**9 for date in dates)


def _date(told: object) -> float | None:
    """A date as places tell it, in seconds since the epoch; None for none."""
    if isinstance(told, str):
        try:
            told = parsedate_to_datetime(told)
        except ValueError:
            return None
    if isinstance(told, datetime):
        return told.timestamp()
    return float(told) if isinstance(told, (int, float)) and math.isfinite(told) else None


def _there(files: AbstractFileSystem, place: str) -> Mapping[str, Mapping[str, Any]]:
    """What is known of every file, by its name relative to the place; an empty name stands for the place itself."""
    files.invalidate_cache()
    info = files.info(place)
    if info["type"] == "file":
        if str(place).startswith("http") and (_CONTENT | {"Last-Modified"}).isdisjoint(info):
            raise ModelError(
                f"{redact_url(place)} has neither tag nor date, so nobody can tell when it changes: download it"
            )
        return {"": info}
    found = files.find(place, detail=True)
    if not found:
        raise FileNotFoundError(place)
    return {str(path)[len(place) :].lstrip("/"): about for path, about in sorted(found.items())}


def _name(place: str) -> str:
    return PurePosixPath(urlsplit(place).path).name or "model"


def _fetch(files: AbstractFileSystem, place: str, there: Mapping[str, Any], kept: Path, url: str) -> None:
    """Copy every file into a folder that appears when it is complete."""
    with tempfile.TemporaryDirectory(dir=kept.parent) as begun:
        whole = Path(begun) / "whole"
        target = whole / _name(place)
        names = {f"{place}/{name}" if name else place: target / name for name in there}
        for path in names.values():
            if not path.resolve().is_relative_to(whole.resolve()):
                raise ModelError(f"{path.name!r} is no name inside a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
        files.get(list(names), [str(path) for path in names.values()])
        if _seen(_there(files, place)) != _seen(there):
            raise ModelError(f"{redact_url(url)} changed as it was fetched: try again when nobody writes it")
        (whole / _ORIGIN).write_text(redact_url(url))
        whole.rename(kept)
