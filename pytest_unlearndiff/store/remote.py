"""Campaigns at any URL that fsspec knows: file, s3, gs, hf and others."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import StoreError, redact_url, wrap_access_errors
from .campaign_dir import IMAGES, JOURNAL, KEY, METADATA, digest_in, is_campaign_name, parse_key, parse_metadata
from .files import METADATA_BYTES, is_regular, read_regular, write_atomically
from .journal import JOURNAL_BYTES, JournalContent, JournalLine, RejectedLines, Rejection, merge_lines, parse_journal
from .thumbnails import THUMBNAIL_BYTES, is_thumbnail, is_thumbnail_name

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_WRITE_INTERVAL_SECONDS = 30.0
_MAX_IMAGES = 5_000
_ASIDE = "distrusted.jsonl"


class MisplacedFile(StoreError):
    """Something is there that no store has in this place."""


class Remote:
    """Campaigns at a URL. Everything read there is checked as if a stranger had written it.

    Object stores cannot append, so a journal is read and written as a whole. If two machines write at once, the lines
    of one may be overwritten; it has them in its own store, and its next write brings them back.

    Args:
        url: of the folder.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._written_at = time.monotonic()
        self._verified: set[str] = set()

    def __str__(self) -> str:
        """Describe the place without its secrets."""
        return f"the shared store {redact_url(self.url)}"

    @property
    def is_due(self) -> bool:
        """True where the last write is so long ago that another should follow."""
        return time.monotonic() - self._written_at > _WRITE_INTERVAL_SECONDS

    def campaigns(self) -> list[str] | None:
        """List the names of all campaigns; None if nothing is at the URL.

        Raises:
            StoreError: the place cannot be reached or read.
        """
        with self._access("read"):
            files, root = self._open()
            files.invalidate_cache()
            try:
                infos = files.ls(f"{root}/campaigns", detail=True)
            except FileNotFoundError:
                return [] if _exists(files, root) else None
            names = (_last_part(str(info["name"])) for info in infos if info["type"] == "directory")
            return sorted(name for name in names if is_campaign_name(name))

    def read(self, campaign: str) -> JournalContent:
        """Read the lines that belong to a campaign, and count the others.

        Raises:
            StoreError: the place cannot be reached or read.
        """
        with self._access("read"):
            content = self._get(f"{campaign}/{JOURNAL}", JOURNAL_BYTES)
            if content is None:
                return JournalContent()
            if self._is_own(campaign):
                return parse_journal(content, digest_in(campaign))
            note = (
                f"{self}: campaigns/{campaign}/{KEY} is not this campaign's, so that nothing there is believed: "
                "remove that folder"
            )
            lines = sum(1 for text in content.split(b"\n") if text.strip())
            return JournalContent((), RejectedLines({Rejection.MISPLACED: lines}, notes=(note,)))

    def key(self, campaign: str) -> dict[str, Any] | None:
        """Read a campaign's key; None if it is missing or another campaign's.

        Raises:
            StoreError: the place cannot be reached or read.
        """
        with self._access("read"):
            content = self._get_description(campaign, KEY)
            return parse_key(content, digest_in(campaign)) if content is not None else None

    def metadata(self, campaign: str) -> dict[str, Any]:
        """Read what was loaded and assumed; empty if it is missing or not readable.

        Raises:
            StoreError: the place cannot be reached or read.
        """
        with self._access("read"):
            return parse_metadata(self._get_description(campaign, METADATA) or b"", digest_in(campaign))

    def thumbnails(self, campaign: str) -> dict[str, bytes]:
        """Read a campaign's thumbnails by file name; files that are none are left out.

        Raises:
            StoreError: the place cannot be reached or read.
        """
        with self._access("read"):
            files, _ = self._open()
            images = sorted(self._list_images(campaign).items())[:_MAX_IMAGES]
            if not images:
                return {}
            sizes = [size for _, (_, size) in images]
            contents = files.cat_ranges([path for _, (path, _) in images], [0] * len(sizes), sizes, on_error="return")
            pairs = zip((name for name, _ in images), contents, strict=True)
            return {name: data for name, data in pairs if isinstance(data, bytes) and is_thumbnail(name, data)}

    def add(self, campaign: str, lines: Iterable[JournalLine]) -> int:
        """Write the lines that are not there yet, replacing earlier attempts.

        Returns:
            Number of lines added.

        Raises:
            StoreError: the place cannot be reached, read or written.
        """
        with self._access("read"):
            content = self._get(f"{campaign}/{JOURNAL}", JOURNAL_BYTES) or b""
            own = self._is_own(campaign)
        if not own:
            self._set_aside(campaign, content)
            content = b""
        attempts = parse_journal(content, digest_in(campaign)).attempts
        new = [line for line in lines if line.attempt > attempts.get(line.outcome.prompt, 0)]
        if new:
            self._put(f"{campaign}/{JOURNAL}", merge_lines(content, new, digest_in(campaign)))
        self._written_at = time.monotonic()
        return len(new)

    def describe(self, campaign: str, key: bytes | None, metadata: bytes | None, *, replace: bool = False) -> None:
        """Write a campaign's key and metadata if they are not there.

        Args:
            campaign: its name.
            key: content of its ``key.json``.
            metadata: content of its ``facts.json``.
            replace: whether this metadata replaces the metadata there.

        Raises:
            StoreError: the place cannot be reached, read or written.
        """
        if key is not None and campaign not in self._verified and self.key(campaign) is None:
            self._put(f"{campaign}/{KEY}", key)
        if metadata is not None and (replace or not self.metadata(campaign)):
            self._put(f"{campaign}/{METADATA}", metadata)

    def add_thumbnails(self, campaign: str, thumbnails: Mapping[str, bytes]) -> None:
        """Write the thumbnails that are not there yet.

        Raises:
            StoreError: the place cannot be reached, read or written.
        """
        if not thumbnails:
            return
        with self._access("read"):
            present = self._list_images(campaign)
        for name, data in thumbnails.items():
            if name not in present:
                self._put(f"{campaign}/{IMAGES}/{name}", data)

    def _is_own(self, campaign: str) -> bool:
        """Tell whether a campaign's folder has this campaign's key, or none."""
        if campaign not in self._verified:
            try:
                content = self._get(f"{campaign}/{KEY}", METADATA_BYTES)
            except MisplacedFile:
                return False
            if content is None:
                return True
            if parse_key(content, digest_in(campaign)) is None:
                return False
            self._verified.add(campaign)
        return True

    def _get_description(self, campaign: str, name: str) -> bytes | None:
        """Read a file that describes a campaign; None if it or a regular file is not there."""
        try:
            return self._get(f"{campaign}/{name}", METADATA_BYTES)
        except MisplacedFile:
            return None

    def _set_aside(self, campaign: str, content: bytes) -> None:
        """Put another campaign's files out of the way; somebody may still want the lines."""
        if content:
            self._put(f"{campaign}/{_ASIDE}", content)
        with self._access("written"):
            files, root = self._open()
            for name in (JOURNAL, KEY, METADATA):
                if files.exists(path := f"{root}/campaigns/{campaign}/{name}"):
                    files.rm(path, recursive=True)

    def _list_images(self, campaign: str) -> dict[str, tuple[str, int]]:
        """List path and size of every thumbnail by file name."""
        files, root = self._open()
        try:
            infos = files.ls(f"{root}/campaigns/{campaign}/{IMAGES}", detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        paths = ((str(info["name"]), int(info.get("size") or 0)) for info in infos if info["type"] == "file")
        images = {_last_part(path): (path, size) for path, size in paths if size <= THUMBNAIL_BYTES}
        return {name: image for name, image in images.items() if is_thumbnail_name(name)}

    def _get(self, name: str, limit: int) -> bytes | None:
        """Read a file below ``campaigns``; None if it is not there."""
        files, root = self._open()
        path = f"{root}/campaigns/{name}"
        files.invalidate_cache()
        if _is_local(files):
            local = Path(path)
            try:
                size = local.stat().st_size
            except FileNotFoundError:
                return None
            self._check(name, "file" if is_regular(local) else "other", size, limit)
            return read_regular(local, limit)
        try:
            info = files.info(path)
            self._check(name, info["type"], info.get("size"), limit)
            return bytes(files.cat_file(path))
        except FileNotFoundError:
            return None

    def _check(self, name: str, kind: str, size: object, limit: int) -> None:
        if kind != "file":
            raise MisplacedFile(f"{self} cannot be used: campaigns/{name} there is not a regular file: remove it")
        if not isinstance(size, int) or size > limit:
            raise MisplacedFile(
                f"{self} cannot be used: campaigns/{name} there has {size} bytes where at most {limit:,} can be: "
                "remove it"
            )

    def _put(self, name: str, content: bytes) -> None:
        """Write a file below ``campaigns``."""
        with self._access("written"):
            files, root = self._open()
            path = f"{root}/campaigns/{name}"
            if not _is_local(files):
                files.makedirs(path.rpartition("/")[0], exist_ok=True)
                files.pipe_file(path, content)
                return
            # A mistyped path, or a share that is not mounted, must not be created here.
            if not (parent := Path(root).parent).is_dir():
                raise StoreError(f"{self} cannot be written: there is no folder {parent}. Make it, or give another URL")
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(Path(path), content)

    def _access(self, verb: str) -> AbstractContextManager[None]:
        remedy = "Give another place with --unlearndiff-cache-dir"
        return wrap_access_errors(self.url, verb, remedy, StoreError, label="the store")

    def _open(self) -> tuple[AbstractFileSystem, str]:
        from fsspec.core import url_to_fs

        files, root = url_to_fs(self.url)
        return files, str(root).rstrip("/")


def _is_local(files: AbstractFileSystem) -> bool:
    return "file" in files.protocol


def _last_part(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _exists(files: AbstractFileSystem, path: str) -> bool:
    """Tell whether something is there; unlike fsspec's own, errors other than its absence are raised."""
    try:
        files.info(path)
    except FileNotFoundError:
        return False
    return True
