"""Models at a URL: copied to this machine, and copied again once something else is there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelError, one_line
from ..store.fingerprint import digest
from .machine import own_folder

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_ORIGIN = ".url"
_TAGS = {"ETag", "Content-MD5", "Digest", "Last-Modified"}


def fetched(url: str, say: Callable[[str], None] = lambda text: None) -> Path:
    """Where on this machine a model from elsewhere lies.

    Every call asks what is there: each file's size, date and tag as far as the place tells them. The copy lies among
    this user's temporary files, for all sessions.

    Args:
        url: of a file or folder, of any kind that fsspec knows.
        say: is told before anything is copied.

    Raises:
        ModelError: there is nothing, it cannot be read or kept, or a package is missing.
    """
    try:
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        files, place = url_to_fs(url.rstrip("/"))
        if isinstance(files, LocalFileSystem):
            return _existing(Path(place), url)
        return _copy(files, place, url, say)
    except ModelError:
        raise
    except FileNotFoundError as error:
        if isinstance(error.__cause__, OSError):  # of a web server, everything is called not found
            raise ModelError(f"{url} cannot be reached: {one_line(error.__cause__)}. Try again") from None
        raise ModelError(f"there is nothing at {url}") from None
    except ImportError as error:
        mend = f"pip install {error.name}" if error.name else one_line(error)
        raise ModelError(f"{url} needs another package: {mend}") from None
    except Exception as error:
        raise ModelError(
            f"{url} cannot be fetched: {type(error).__name__}: {one_line(error)}. Try again, or download it and give "
            "its path"
        ) from None


def origin(path: Path) -> str:
    """The URL that a path is the copy of, or the path itself."""
    try:
        return (path.parent / _ORIGIN).read_text()
    except (OSError, ValueError):
        return str(path)


def _existing(path: Path, url: str) -> Path:
    if not path.exists():
        raise ModelError(f"there is nothing at {url}")
    return path.resolve()


def _copy(files: AbstractFileSystem, place: str, url: str, say: Callable[[str], None]) -> Path:
    """The copy of what is there now."""
    from filelock import FileLock

    there = _there(files, place)
    # A web address may be led to another one, signed anew for everybody who asks.
    seen = {name: {k: str(v) for k, v in info.items() if k != "url"} for name, info in there.items()}
    folder = own_folder() / "models"
    folder.mkdir(exist_ok=True)
    kept = folder / digest([url, seen])  # another session may still read what was there before
    with FileLock(folder / f"{kept.name}.lock"):
        if not kept.exists():
            size = sum(int(info.get("size") or 0) for info in there.values())
            say(f"fetching {url} ({size / 2**20:,.0f} MiB)")
            _fetch(files, place, there, kept, url)
    return kept / _name(place)


def _there(files: AbstractFileSystem, place: str) -> Mapping[str, Mapping[str, Any]]:
    """What is known of every file, by its name relative to the place; an empty name stands for the place itself."""
    files.invalidate_cache()
    info = files.info(place)
    if info["type"] == "file":
        if str(place).startswith("http") and _TAGS.isdisjoint(info):
            raise ModelError(f"{place} has neither tag nor date, so nobody can tell when it changes: download it")
        return {"": info}
    found = files.find(place, detail=True)
    if not found:
        raise FileNotFoundError(place)
    return {str(path)[len(place) :].lstrip("/"): about for path, about in sorted(found.items())}


def _name(place: str) -> str:
    return place.rsplit("/", 1)[-1] or "model"


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
        (whole / _ORIGIN).write_text(url)
        whole.rename(kept)
