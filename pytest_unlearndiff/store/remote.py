"""A store shared between machines, at any URL that fsspec knows: file, s3, gs, hf and others."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ..core.errors import StoreError
from ..core.outcome import Outcome
from .elsewhere import reaching
from .journal import line, parse

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_EVERY_SECONDS = 30.0


class Remote:
    """Journals at a URL. Only outcomes travel, each checked by its checksum; no file is copied as it is.

    Object stores cannot append, so a journal is read and written as a whole. Where two machines write at once, the
    lines of one may be overwritten; it has them in its own store, and its next write brings them back.

    Args:
        url: of the folder.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._written = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last write is a while ago."""
        return time.monotonic() - self._written > _EVERY_SECONDS

    def known(self, campaign: str) -> tuple[dict[str, Outcome], int]:
        """Finished outcomes of a campaign by prompt digest, and how many lines could not be trusted.

        Raises:
            StoreError: the place cannot be reached or read.
        """
        return parse(self._read(campaign))

    def add(self, campaign: str, outcomes: Iterable[Outcome]) -> int:
        """Write the outcomes that are not there yet.

        Returns:
            How many were added.

        Raises:
            StoreError: the place cannot be reached, read or written.
        """
        content = self._read(campaign)
        there, _ = parse(content)
        new = [outcome for outcome in outcomes if outcome.prompt not in there]
        if new:
            joined = content if not content or content.endswith(b"\n") else content + b"\n"
            self._write(campaign, joined + b"".join(map(line, new)))
        self._written = time.monotonic()
        return len(new)

    def campaigns(self) -> list[str]:
        """Names of all campaigns there.

        Raises:
            StoreError: the place cannot be reached or read.
        """
        with self._reaching("read"):
            files, root = self._files()
            found = files.glob(f"{root}/campaigns/*/journal.jsonl")
            return sorted(str(path).rsplit("/", 2)[1] for path in found)

    def _read(self, campaign: str) -> bytes:
        with self._reaching("read"):
            files, root = self._files()
            files.invalidate_cache()
            try:
                return bytes(files.cat_file(f"{root}/campaigns/{campaign}/journal.jsonl"))
            except FileNotFoundError:
                return b""

    def _write(self, campaign: str, content: bytes) -> None:
        with self._reaching("written"):
            files, root = self._files()
            files.makedirs(f"{root}/campaigns/{campaign}", exist_ok=True)
            files.pipe_file(f"{root}/campaigns/{campaign}/journal.jsonl", content)

    def _reaching(self, verb: str) -> AbstractContextManager[None]:
        mend = "Give another place with --unlearndiff-cache-dir"
        return reaching(self.url, verb, mend, StoreError, what="the store")

    def _files(self) -> tuple[AbstractFileSystem, str]:
        from fsspec.core import url_to_fs

        files, root = url_to_fs(self.url)
        return files, str(root).rstrip("/")
