"""Copies of what lies at URLs: models among the user's temporary files, and prompt sets in the store.

A model is copied again once something else is at its URL. Prompt sets are fetched once per process, and those with a
known SHA-256 once for all sessions.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..core.errors import ConceptError, ModelError, redact_url, wrap_access_errors
from ..core.prompt_sets import has_sha256
from ..core.untrusted import CSV_BYTES, find_path, printable, read_bytes
from ..store.files import METADATA_BYTES, mark_as_cache, read_regular, write_atomically
from ..store.key import SETTLE_NS, digest
from .hub_datasets import fetch_from_hub

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

FileInfos = Mapping[str, Mapping[str, Any]]
"""Facts that fsspec tells of every file, by its path relative to the URL; an empty path stands for the URL itself."""

_URL_FILE = ".url"
_DATE_KEYS = ("Last-Modified", "LastModified", "last_modified", "modified", "mtime")
_CONTENT_KEYS = {"ETag", "Content-MD5", "Digest"}
"""Keys whose values change with a file's content."""


def user_temp_path() -> Path:
    """Path of the folder that ``user_temp_folder`` makes."""
    return Path(tempfile.gettempdir()) / f"pytest-unlearndiff-{os.getuid()}"


def user_temp_folder() -> Path:
    """Make a temporary folder that all processes of this user share and no other user can write.

    Raises:
        OSError: it cannot be made, or belongs or is open to others.
    """
    folder = user_temp_path()
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid():
        raise OSError(f"somebody else has made {folder}")
    if status.st_mode & 0o077:
        raise OSError(f"{folder} is open to others: remove it")
    return folder


def download(url: str, on_download: Callable[[str], None] | None = None) -> Path:
    """Return the local copy of a file or folder, which is downloaded if it is new or has changed.

    Every call asks the place for each file's size, date and tag. The copy lies among the user's temporary files, for
    all sessions.

    Args:
        url: of any kind that fsspec knows.
        on_download: told before anything is downloaded.

    Raises:
        ModelError: there is nothing, it cannot be read or kept, or a package is missing.
    """
    with wrap_access_errors(url, "fetched", "Try again, or download it and give its path", ModelError):
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        files, place = url_to_fs(url.rstrip("/"))
        try:
            if isinstance(files, LocalFileSystem):
                return _local_path(Path(place))
            return _update_copy(files, place, url, on_download)
        except FileNotFoundError as error:
            if isinstance(error.__cause__, OSError):  # fsspec calls every error of a web server "not found"
                raise error.__cause__ from None
            raise ModelError(f"there is nothing at {redact_url(url)}") from None


def source_url(path: Path) -> str:
    """URL that a path is the copy of, or the path itself."""
    if path.parent.parent != user_temp_path() / "models":
        return str(path)
    try:
        return read_regular(path.parent / _URL_FILE, METADATA_BYTES).decode()
    except (OSError, ValueError):
        return str(path)


def _local_path(path: Path) -> Path:
    try:
        existing = find_path(path, Path())
    except ValueError as error:
        raise ModelError(f"{path} {error}") from None
    if existing is None:
        raise FileNotFoundError(path)
    return existing


def _update_copy(files: AbstractFileSystem, place: str, url: str, on_download: Callable[[str], None] | None) -> Path:
    from filelock import FileLock

    infos, now = _list_files(files, place), time.time()
    # A web address may redirect to another one that is signed anew for everybody who asks. Only if tags tell contents
    # apart may two addresses with one path be one file.
    tagged = not any(_CONTENT_KEYS.isdisjoint(info) for info in infos.values())
    # A file that replaced a young one since would have the same date, so no earlier copy answers for it.
    young = not tagged and any(_is_young(info, now) for info in infos.values())
    name = digest([redact_url(url) if tagged else url, _signature(infos), *([time.time_ns()] if young else [])])
    folder = user_temp_folder() / "models"
    folder.mkdir(exist_ok=True)
    copy = folder / name  # an earlier copy stays, since another session may still read it
    with FileLock(folder / f"{name}.lock"):
        if not copy.exists():
            if on_download is not None:
                size = sum(int(info.get("size") or 0) for info in infos.values())
                on_download(f"fetching {printable(redact_url(url))} ({size / 2**20:,.0f} MiB)")
            _fetch(files, place, infos, copy, url)
    return copy / _file_name(place)


def _signature(infos: FileInfos) -> dict[str, dict[str, str]]:
    """Everything that tells files from others at the same place."""
    return {name: {k: str(v) for k, v in info.items() if k not in ("url", "name")} for name, info in infos.items()}


def _is_young(info: Mapping[str, Any], now: float) -> bool:
    """Tell whether a file's date is in whole seconds and so recent that another file may get the same date."""
    dates = [date for key in _DATE_KEYS if (date := _parse_date(info.get(key))) is not None]
    return any(date % 1 == 0 and date > now - SETTLE_NS / 10**9 for date in dates)


def _parse_date(value: object) -> float | None:
    """Convert a date as file systems give it to seconds since the epoch; None for none."""
    if isinstance(value, str):
        try:
            value = parsedate_to_datetime(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return value.timestamp()
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _list_files(files: AbstractFileSystem, place: str) -> FileInfos:
    files.invalidate_cache()
    info = files.info(place)
    if info["type"] == "file":
        if str(place).startswith("http") and (_CONTENT_KEYS | {"Last-Modified"}).isdisjoint(info):
            raise ModelError(
                f"{redact_url(place)} has neither tag nor date, so nobody can tell when it changes: download it"
            )
        return {"": info}
    infos = files.find(place, detail=True)
    if not infos:
        raise FileNotFoundError(place)
    return {str(path)[len(place) :].lstrip("/"): file_info for path, file_info in sorted(infos.items())}


def _file_name(place: str) -> str:
    return PurePosixPath(urlsplit(place).path).name or "model"


def _fetch(files: AbstractFileSystem, place: str, infos: FileInfos, copy: Path, url: str) -> None:
    """Copy every file into a folder that appears once it is complete."""
    with tempfile.TemporaryDirectory(dir=copy.parent) as temporary:
        complete = Path(temporary) / "complete"
        target = complete / _file_name(place)
        paths = {f"{place}/{name}" if name else place: target / name for name in infos}
        for path in paths.values():
            if not path.resolve().is_relative_to(complete.resolve()):
                raise ModelError(f"{path.name!r} is no name inside a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
        files.get(list(paths), [str(path) for path in paths.values()])
        if _signature(_list_files(files, place)) != _signature(infos):
            raise ModelError(f"{redact_url(url)} changed as it was fetched: try again when nobody writes it")
        (complete / _URL_FILE).write_text(redact_url(url))
        complete.rename(copy)


_TIMEOUT_SECONDS = 60.0


class PromptSetCache:
    """Reads prompt sets at URLs.

    Content with a known SHA-256 is kept in the store's folder under it, and a session that finds it there needs no
    network. Other content is fetched by every session, since it may have changed.

    Args:
        root: the store's folder; None to use no copies.
        keep: whether new copies may be kept there.
    """

    def __init__(self, root: Path | None, *, keep: bool = True) -> None:
        self._root = root
        self._keep = keep
        self._contents: dict[tuple[str, str], bytes] = {}

    def __call__(self, url: str, sha256: str = "") -> bytes:
        """Read the content of a file.

        Args:
            url: of any kind that fsspec knows, http(s), or ``hf://datasets/OWNER/NAME/FILE``; see ``fetch_from_hub``.
            sha256: of the content, in hex digits; empty if it is not known.

        Raises:
            ConceptError: it is not here and cannot be fetched.
        """
        key = url, sha256.lower()  # the pin decides where the content is looked for
        if key not in self._contents:
            path = self._root / "prompts" / f"{sha256.lower()}.csv" if self._root is not None and sha256 else None
            content = _read_copy(path, sha256) if path is not None else None
            if content is None:
                content = _fetch_prompt_set(url)
                if path is not None and self._keep and has_sha256(content, sha256):
                    self._write_copy(path, content)
            self._contents[key] = content
        return self._contents[key]

    def _write_copy(self, path: Path, content: bytes) -> None:
        """Keep a copy; if that fails, the next session fetches it again."""
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            mark_as_cache(path.parent.parent)
            write_atomically(path, content)


def _read_copy(path: Path, sha256: str) -> bytes | None:
    """Read the copy of this content; None if something else or nothing is there."""
    try:
        content = read_regular(path, CSV_BYTES)
    except OSError:
        return None
    return content if has_sha256(content, sha256) else None


def _fetch_prompt_set(url: str) -> bytes:
    """Read a URL.

    Raises:
        ConceptError: it cannot be read, for whatever reason a library gives.
    """
    remedy = "Try again, or download it and give the file"
    with wrap_access_errors(url, "fetched", remedy, ConceptError, label="prompt set"):
        if url.startswith("hf://"):
            return fetch_from_hub(url)
        if re.match(r"https?://", url):
            # fsspec's own http needs aiohttp, which nothing else here does.
            from urllib.request import urlopen

            with urlopen(url, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310  # the scheme is http or https
                return bytes(response.read(CSV_BYTES + 1))  # PromptSource refuses more
        from fsspec.core import url_to_fs

        files, path = url_to_fs(url)
        if isinstance(files.protocol, tuple) and "file" in files.protocol:
            return read_bytes(Path(path), CSV_BYTES)  # never a device or a pipe
        with files.open(path, "rb") as file:
            return bytes(file.read(CSV_BYTES + 1))
