"""One campaign's folder in a store: ``key.json``, ``journal.jsonl``, ``facts.json``, ``figures.json``, ``images/``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..core.errors import StoreError
from ..core.outcome import Outcome
from .files import (
    METADATA_BYTES,
    is_regular,
    mark_as_cache,
    parse_json_object,
    read_json_object,
    read_regular,
    write_atomically,
)
from .journal import Journal, JournalContent, RejectedLines, Rejection, StoredOutcomes
from .key import digest

JOURNAL, KEY, METADATA, IMAGES, FIGURES = "journal.jsonl", "key.json", "facts.json", "images", "figures.json"

_NAME = re.compile(r"(?P<concept>[A-Za-z0-9_-]*)-(?P<digest>[0-9a-f]{16})")
_OWNER = "campaign"
"""Field of ``facts.json`` with the digest of the campaign's key, so that no other campaign's metadata is believed."""

_REMEDY = (
    "Give another folder with --unlearndiff-cache-dir, or attack without keeping outcomes with --unlearndiff-cache=off"
)


def campaign_name(concept: str, key_digest: str) -> str:
    """Name of a campaign's folder: its concept, as far as a file name can hold it, and its key's digest."""
    return f"{_concept_part(concept)}-{key_digest}"


def _concept_part(concept: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", concept)[:40]


def is_campaign_name(name: str) -> bool:
    """Tell whether a campaign's folder can have this name."""
    return _NAME.fullmatch(name) is not None


def digest_in(name: str) -> str:
    """Digest of the key in a campaign folder's name; empty for another name."""
    match = _NAME.fullmatch(name)
    return match["digest"] if match is not None else ""


def same_concept(name: str, other: str) -> bool:
    """Tell whether two campaign folders are over one concept."""
    match, other_match = _NAME.fullmatch(name), _NAME.fullmatch(other)
    return match is not None and other_match is not None and match["concept"] == other_match["concept"]


def encode_key(key: Mapping[str, Any]) -> bytes:
    """Content of ``key.json``."""
    return (json.dumps(key, indent=2, sort_keys=True) + "\n").encode()


def parse_key(content: bytes, key_digest: str) -> dict[str, Any] | None:
    """Parse ``key.json``; None if it is not the key with this digest."""
    key = parse_json_object(content)
    return key if key is not None and digest(key) == key_digest else None


def encode_metadata(metadata: Mapping[str, Any], key_digest: str) -> bytes:
    """Content of ``facts.json``."""
    return (json.dumps({**metadata, _OWNER: key_digest}, indent=2) + "\n").encode()


def parse_metadata(content: bytes, key_digest: str) -> dict[str, Any]:
    """Parse ``facts.json``; an empty dictionary if it is not this campaign's."""
    metadata = parse_json_object(content) or {}
    return metadata if metadata.pop(_OWNER, None) == key_digest else {}


class CampaignDir:
    """A campaign's folder, which need not exist.

    Attributes:
        folder: the folder.
        name: the folder's name.
        journal: its outcomes.

    Args:
        root: the store's folder.
        name: as ``campaign_name`` gives it.

    Raises:
        StoreError: no campaign's folder has such a name.
    """

    def __init__(self, root: Path, name: str) -> None:
        if not is_campaign_name(name):
            raise StoreError(f"{name!r} is not the name of a campaign, such as church-00e6f3defe4388f3")
        self._root = root
        self.name = name
        self.folder = root / "campaigns" / name
        self.journal = Journal(self.folder / JOURNAL, digest_in(name))

    def read(self) -> JournalContent:
        """Read the lines that belong to this campaign, and count the others.

        Raises:
            StoreError: something is there that cannot be read.
        """
        try:
            content = self.journal.read()
        except OSError as error:
            raise StoreError(f"the store {self._root} cannot be read: {error}. {_REMEDY}") from None
        if not self.misplaced:
            return content
        if not content.lines and not content.rejected.lines:
            return JournalContent()
        note = (
            f"{self.folder} is not believed, since its key.json is not this campaign's: delete the folder, or put back "
            "where it came from"
        )
        return JournalContent(
            (), content.rejected + RejectedLines({Rejection.MISPLACED: len(content.lines)}, notes=(note,))
        )

    def outcomes(self) -> StoredOutcomes:
        """Read the finished outcomes, whatever the store's mode.

        Raises:
            StoreError: something is there that cannot be read.
        """
        return self.read().outcomes()

    @property
    def key(self) -> dict[str, Any] | None:
        """The campaign's key as builtin types; None if it is missing, unreadable, or another campaign's."""
        try:
            return parse_key(read_regular(self.folder / KEY, METADATA_BYTES), self.journal.campaign)
        except OSError:
            return None

    @property
    def misplaced(self) -> bool:
        """True where ``key.json`` is another campaign's; without one, the lines themselves tell."""
        try:
            content = read_regular(self.folder / KEY, METADATA_BYTES)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return False
        except OSError:
            return True
        return parse_key(content, self.journal.campaign) is None

    @property
    def metadata(self) -> dict[str, Any]:
        """Provenance of the campaign's models and judge; empty if nothing readable was written."""
        try:
            return parse_metadata(read_regular(self.folder / METADATA, METADATA_BYTES), self.journal.campaign)
        except OSError:
            return {}

    def write_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Write what was loaded and assumed, for sessions that load nothing; a failed write costs only that."""
        with suppress(OSError):
            write_atomically(self.folder / METADATA, encode_metadata(metadata, self.journal.campaign))

    def figures(self, of: str) -> dict[str, Any] | None:
        """Read figures that were computed from outcomes; None where there are none, or they were altered.

        Args:
            of: hash of everything that they were computed from.
        """
        entry = (read_json_object(self.folder / FIGURES, METADATA_BYTES) or {}).get(of)
        if not isinstance(entry, dict) or entry.get("check") != digest([of, entry.get("figures")]):
            return None
        return entry["figures"] if isinstance(entry["figures"], dict) else None

    def write_figures(self, of: str, figures: Mapping[str, Any]) -> None:
        """Keep figures for sessions that compute nothing; a failed write costs only that."""
        kept = read_json_object(self.folder / FIGURES, METADATA_BYTES) or {}
        kept[of] = {"figures": figures, "check": digest([of, figures])}
        with suppress(OSError):
            write_atomically(self.folder / FIGURES, json.dumps(kept, indent=1) + "\n")

    def belongs_to(self, concept: str) -> bool:
        """Tell whether the campaign is over a concept of this name."""
        return self.name == campaign_name(concept, self.journal.campaign)

    @property
    def last_written(self) -> float:
        """Time of the last outcome, in seconds since the epoch; 0 if there is none."""
        try:
            return self.journal.path.stat().st_mtime
        except OSError:
            return 0.0

    def append(self, outcome: Outcome, attempt: int = 1) -> None:
        """Write one outcome and wait until it is on disk.

        Raises:
            StoreError: the disk does not take it.
        """
        with self._write_errors():
            self.journal.append(outcome, attempt)

    def create(self, key: Mapping[str, Any] | None = None) -> None:
        """Create the folder, and set another campaign's files in it aside.

        Args:
            key: the campaign's key, written if it is not there yet.

        Raises:
            StoreError: the folder cannot be written.
        """
        with self._write_errors():
            self.folder.mkdir(parents=True, exist_ok=True)
            mark_as_cache(self._root)
            if self.misplaced:
                self._set_aside()
            if key is not None and not (self.folder / KEY).exists():
                write_atomically(self.folder / KEY, encode_key(key))

    def _set_aside(self) -> None:
        """Move the folder's files to ``distrusted/``, where somebody may still want them."""
        import shutil

        aside = self.folder / "distrusted"
        if aside.exists():
            shutil.rmtree(aside)
        aside.mkdir()
        for path in [path for path in self.folder.iterdir() if path.name not in ("lock", aside.name)]:
            os.replace(path, aside / path.name)

    def remove(self) -> None:
        """Delete the folder; a process that is attacking the campaign finishes first.

        Raises:
            StoreError: it cannot be deleted.
        """
        import shutil

        try:
            with self.lock():
                shutil.rmtree(self.folder)
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be deleted: {error}") from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the campaign's lock: one process attacks it, the others wait and then find its outcomes.

        Raises:
            StoreError: the folder cannot be written.
        """
        from filelock import FileLock

        path = self.folder / "lock"
        if path.exists() and not is_regular(path):
            raise StoreError(f"{path} is not a regular file: remove it")
        lock = FileLock(path)
        with self._write_errors():
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _write_errors(self) -> Iterator[None]:
        """Turn errors of the disk into one that names the store and the remedy."""
        try:
            yield
        except OSError as error:
            raise StoreError(f"the store {self._root} cannot be written: {error}. {_REMEDY}") from None
