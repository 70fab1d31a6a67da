"""The folder of journals, one campaign a folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..core.errors import StoreError
from ..core.outcome import Outcome
from .fingerprint import Fingerprints, write_atomically
from .journal import Journal
from .key import AttackKey
from .pictures import Pictures

_TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# Finished outcomes of pytest-unlearndiff; deleting this folder costs their GPU time.\n"
)

_ELSEWHERE = (
    "Give another folder with --unlearndiff-cache-dir, or attack without keeping outcomes with --unlearndiff-cache=off"
)


class Mode(StrEnum):
    """How the store is used."""

    RW = "rw"
    """Read what is there, keep what is new."""
    RO = "ro"
    """Read what is there, keep nothing."""
    REFRESH = "refresh"
    """Ignore what is there, keep what is new."""
    OFF = "off"
    """Neither read nor keep."""
    REQUIRE = "require"
    """Read what is there and never attack: what is missing stays missing."""

    @property
    def reads(self) -> bool:
        """Whether outcomes in the store count."""
        return self in (Mode.RW, Mode.RO, Mode.REQUIRE)

    @property
    def writes(self) -> bool:
        """Whether new outcomes are kept."""
        return self in (Mode.RW, Mode.REFRESH)


@dataclass(frozen=True)
class Entry:
    """One campaign in the store."""

    root: Path
    folder: Path
    journal: Journal

    def known(self) -> tuple[dict[str, Outcome], int]:
        """Finished outcomes by prompt digest, and how many lines could not be trusted.

        Raises:
            StoreError: something is there that cannot be read.
        """
        try:
            return self.journal.read()
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be read: {error}. {_ELSEWHERE}") from None

    def keep(self, outcome: Outcome) -> None:
        """Write one outcome and wait until the disk has it.

        Raises:
            StoreError: the disk does not take it.
        """
        try:
            self.journal.append(outcome)
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be written: {error}. {_ELSEWHERE}") from None

    def note(self, facts: Mapping[str, Any]) -> None:
        """Write down what was loaded and assumed, for sessions that load nothing; a failed write costs only that."""
        with suppress(OSError):
            write_atomically(self.folder / "facts.json", json.dumps(facts, indent=2) + "\n")

    def noted(self) -> dict[str, Any]:
        """What was written down last; an empty dictionary where nothing was, or nothing readable."""
        try:
            facts = json.loads((self.folder / "facts.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}


class Store:
    """Finished outcomes by campaign key. Nothing is created before a victim has been loaded to be attacked.

    Args:
        root: the folder, usually ``.unlearndiff`` at pytest's rootdir.
        mode: how it is used.
        keep_pictures: whether thumbnails are kept where outcomes are.
    """

    def __init__(self, root: Path, mode: Mode = Mode.RW, *, keep_pictures: bool = False) -> None:
        self.root = root
        self.mode = mode
        self._keep_pictures = keep_pictures
        self.fingerprints = Fingerprints(root / "fingerprints.json" if mode is not Mode.OFF else None)

    def entry(self, concept: str, key: AttackKey) -> Entry:
        """The campaign of this key; its folder need not exist."""
        folder = self.folder(concept, key.digest)
        return Entry(self.root, folder, Journal(folder / "journal.jsonl"))

    def folder(self, concept: str, digest: str) -> Path:
        """Where the campaign with a key of this digest is, if it is kept."""
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", concept)[:40]
        return self.root / "campaigns" / f"{name}-{digest}"

    def pictures(self, entry: Entry) -> Pictures | None:
        """Where this session keeps thumbnails of a campaign; None where it keeps none."""
        return Pictures(entry.folder) if self._keep_pictures and self.mode.writes else None

    def entries(self) -> list[Entry]:
        """Every campaign that is kept, by name; an empty list where there is no store."""
        folders = sorted((self.root / "campaigns").glob("*/"))
        return [Entry(self.root, folder, Journal(folder / "journal.jsonl")) for folder in folders]

    def prepare(self, entry: Entry, key: AttackKey) -> None:
        """Create the campaign's folder and write down its key.

        Raises:
            StoreError: the folder cannot be written.
        """
        try:
            entry.folder.mkdir(parents=True, exist_ok=True)
            if not (tag := self.root / "CACHEDIR.TAG").exists():
                write_atomically(tag, _TAG)
                write_atomically(self.root / ".gitignore", "*\n")
            if not (path := entry.folder / "key.json").exists():
                write_atomically(path, json.dumps(key.to_dict(), indent=2, sort_keys=True) + "\n")
            self.fingerprints.save()
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be written: {error}. {_ELSEWHERE}") from None

    @contextmanager
    def lock(self, entry: Entry) -> Iterator[None]:
        """Let one process at a time attack a campaign; the others wait and then find its outcomes."""
        from filelock import FileLock

        with FileLock(entry.folder / "lock"):
            yield
