"""A store shared between machines, at any URL that fsspec knows: file, s3, gs, hf and others."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import StoreError
from ..core.urls import reaching, shown
from .hashing import write_atomically
from .journal import LARGEST, Distrusted, Known, Line, Lines, parse, superseded
from .key import digest_in, is_campaign, read_facts, read_key
from .regular_files import METADATA, is_regular, read_regular
from .thumbnails import LARGEST as LARGEST_IMAGE
from .thumbnails import is_name, is_whole

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_EVERY_SECONDS = 30.0

_MOST_IMAGES = 5_000
_JOURNAL, _KEY, _FACTS, _IMAGES = "journal.jsonl", "key.json", "facts.json", "images"
_ASIDE = "distrusted.jsonl"


class Misplaced(StoreError):
    """Something is there that no store has in this place."""


class Remote:
    """Campaigns at a URL. Whatever is read there is checked as if a stranger had written it.

    Object stores cannot append, so a journal is read and written as a whole. Where two machines write at once, the
    lines of one may be overwritten; it has them in its own store, and its next write brings them back.

    Args:
        url: of the folder.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._written = time.monotonic()
        self._own: set[str] = set()

    def __str__(self) -> str:
        """The place, without what may let others in."""
        return f"the shared store {shown(self.url)}"

    @property
    def due(self) -> bool:
        """Whether the last write is a while ago."""
        return time.monotonic() - self._written > _EVERY_SECONDS

    def look(self) -> list[str] | None:
        """Names of all campaigns there; None where nothing is at the place.

        Raises:
            StoreError: the place cannot be reached or read.
        """
        with self._reaching("read"):
            files, root = self._files()
            files.invalidate_cache()
            try:
                found = files.ls(f"{root}/campaigns", detail=True)
            except FileNotFoundError:
                return [] if self._is_there(files, root) else None
            names = (_last(str(info["name"])) for info in found if info["type"] == "directory")
            return sorted(name for name in names if is_campaign(name))

    def campaigns(self) -> list[str]:
        """Names of all campaigns there.

        Raises:
            StoreError: the place cannot be reached or read.
        """
        return self.look() or []

    def lines(self, campaign: str) -> Lines:
        """The lines of a campaign that belong to it, and the count of those that do not.

        Raises:
            StoreError: the place cannot be reached or read.
        """
        with self._reaching("read"):
            content = self._get(f"{campaign}/{_JOURNAL}", LARGEST)
            if content is None:
                return Lines()
            if not self._is_own(campaign):
                note = f"{self}: campaigns/{campaign}/{_KEY} is not this campaign's, so that nothing there is believed"
                lines = sum(1 for text in content.split(b"\n") if text.strip())
                return Lines((), Distrusted(misplaced=lines, notes=(f"{note}: remove that folder",)))
            return parse(content, digest_in(campaign))

    def known(self, campaign: str) -> Known:
        """Finished outcomes of a campaign by prompt digest, and what could not be trusted.

        Raises:
            StoreError: the place cannot be reached or read.
        """
        return self.lines(campaign).known()

    def key(self, campaign: str) -> dict[str, Any] | None:
        """What a campaign's key was made from; None where that is not there, or says something else.

        Raises:
            StoreError: the place cannot be reached or read.
        """
        with self._reaching("read"):
            content = self._described(campaign, _KEY)
            return read_key(content, digest_in(campaign)) if content is not None else None

    def facts(self, campaign: str) -> dict[str, Any]:
        """What was loaded and assumed; an empty dictionary where that is not there, or not readable.

        Raises:
            StoreError: the place cannot be reached or read.
        """
        with self._reaching("read"):
            return read_facts(self._described(campaign, _FACTS) or b"", digest_in(campaign))

    def thumbnails(self, campaign: str) -> dict[str, bytes]:
        """Thumbnails of a campaign by the names of their files; what is none is left out.

        Raises:
            StoreError: the place cannot be reached or read.
        """
        with self._reaching("read"):
            files, _ = self._files()
            names = sorted(self._images(campaign).items())[:_MOST_IMAGES]
            if not names:
                return {}
            sizes = [size for _, (_, size) in names]
            found = files.cat_ranges([path for _, (path, _) in names], [0] * len(sizes), sizes, on_error="return")
            pairs = zip((name for name, _ in names), found, strict=True)
            return {name: data for name, data in pairs if isinstance(data, bytes) and is_whole(name, data)}

    def add(self, campaign: str, lines: Iterable[Line]) -> int:
        """Write the lines that are not there yet, or only of an earlier attempt, which they replace.

        Returns:
            How many were added.

        Raises:
            StoreError: the place cannot be reached, read or written.
        """
        with self._reaching("read"):
            content = self._get(f"{campaign}/{_JOURNAL}", LARGEST) or b""
            own = self._is_own(campaign)
        if not own:
            self._set_aside(campaign, content)
            content = b""
        known = parse(content, digest_in(campaign)).attempts
        new = [line for line in lines if line.attempt > known.get(line.outcome.prompt, 0)]
        if new:
            self._put(f"{campaign}/{_JOURNAL}", superseded(content, new, digest_in(campaign)))
        self._written = time.monotonic()
        return len(new)

    def describe(self, campaign: str, key: bytes | None, facts: bytes | None, *, replace: bool = False) -> None:
        """Write what a campaign's key was made from, and what was loaded and assumed, where that is not there.

        Args:
            campaign: which.
            key: content of its ``key.json``.
            facts: content of its ``facts.json``.
            replace: whether these facts take the place of others.

        Raises:
            StoreError: the place cannot be reached, read or written.
        """
        if key is not None and campaign not in self._own and self.key(campaign) is None:
            self._put(f"{campaign}/{_KEY}", key)
        if facts is not None and (replace or not self.facts(campaign)):
            self._put(f"{campaign}/{_FACTS}", facts)

    def lend(self, campaign: str, thumbnails: Mapping[str, bytes]) -> None:
        """Write the thumbnails that are not there yet.

        Raises:
            StoreError: the place cannot be reached, read or written.
        """
        if not thumbnails:
            return
        with self._reaching("read"):
            there = self._images(campaign)
        for name, data in thumbnails.items():
            if name not in there:
                self._put(f"{campaign}/{_IMAGES}/{name}", data)

    def _is_own(self, campaign: str) -> bool:
        """Whether a campaign's folder says nothing else than that it is this campaign's."""
        if campaign not in self._own:
            try:
                content = self._get(f"{campaign}/{_KEY}", METADATA)
            except Misplaced:
                return False
            if content is None:
                return True
            if read_key(content, digest_in(campaign)) is None:
                return False
            self._own.add(campaign)
        return True

    def _described(self, campaign: str, name: str) -> bytes | None:
        """A file that describes a campaign; None where it is not there, or something else is."""
        try:
            return self._get(f"{campaign}/{name}", METADATA)
        except Misplaced:
            return None

    def _set_aside(self, campaign: str, content: bytes) -> None:
        """Put away what is in a folder that says it is another campaign's; its lines may be of use to somebody."""
        if content:
            self._put(f"{campaign}/{_ASIDE}", content)
        with self._reaching("written"):
            files, root = self._files()
            for name in (_JOURNAL, _KEY, _FACTS):
                if files.exists(path := f"{root}/campaigns/{campaign}/{name}"):
                    files.rm(path, recursive=True)

    def _images(self, campaign: str) -> dict[str, tuple[str, int]]:
        """Path and size of every thumbnail by its name."""
        files, root = self._files()
        try:
            found = files.ls(f"{root}/campaigns/{campaign}/{_IMAGES}", detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        paths = ((str(info["name"]), info) for info in found if info["type"] == "file")
        sizes = {_last(path): (path, int(info.get("size") or 0)) for path, info in paths}
        return {name: (path, size) for name, (path, size) in sizes.items() if is_name(name) and size <= LARGEST_IMAGE}

    def _get(self, name: str, limit: int) -> bytes | None:
        """The content of a file below ``campaigns``; None where it is not there."""
        files, root = self._files()
        path = f"{root}/campaigns/{name}"
        files.invalidate_cache()
        if _is_local(files):
            here = Path(path)
            try:
                size = here.stat().st_size
            except FileNotFoundError:
                return None
            self._check(name, "file" if is_regular(here) else "other", size, limit)
            return read_regular(here, limit)
        try:
            info = files.info(path)
            self._check(name, info["type"], info.get("size"), limit)
            return bytes(files.cat_file(path))
        except FileNotFoundError:
            return None

    def _check(self, name: str, kind: str, size: object, limit: int) -> None:
        if kind != "file":
            raise Misplaced(f"{self} cannot be used: campaigns/{name} there is not a regular file: remove it")
        if not isinstance(size, int) or size > limit:
            raise Misplaced(
                f"{self} cannot be used: campaigns/{name} there has {size} bytes where at most {limit:,} can be: "
                "remove it"
            )

    def _put(self, name: str, content: bytes) -> None:
        """Write a file below ``campaigns``."""
        with self._reaching("written"):
            files, root = self._files()
            path = f"{root}/campaigns/{name}"
            if not _is_local(files):
                files.makedirs(path.rpartition("/")[0], exist_ok=True)
                files.pipe_file(path, content)
                return
            # A mistyped path, or a share that is not mounted, is not to be made up here.
            if not (above := Path(root).parent).is_dir():
                raise StoreError(f"{self} cannot be written: there is no folder {above}. Make it, or give another URL")
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(Path(path), content)

    def _is_there(self, files: AbstractFileSystem, root: str) -> bool:
        try:
            files.info(root)
        except FileNotFoundError:
            return False
        return True

    def _reaching(self, verb: str) -> AbstractContextManager[None]:
        mend = "Give another place with --unlearndiff-cache-dir"
        return reaching(self.url, verb, mend, StoreError, what="the store")

    def _files(self) -> tuple[AbstractFileSystem, str]:
        from fsspec.core import url_to_fs

        files, root = url_to_fs(self.url)
        return files, str(root).rstrip("/")


def _is_local(files: AbstractFileSystem) -> bool:
    return "file" in files.protocol


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
