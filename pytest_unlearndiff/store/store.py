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
from .fingerprint import Fingerprints, mark_as_cache, write_atomically
from .journal import Journal
from .key import AttackKey, differences
from .pictures import Pictures
from .remote import Remote

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

    def key(self) -> dict[str, Any] | None:
        """What its key was made from, as written down beside the journal; None where that cannot be read."""
        try:
            key = json.loads((self.folder / "key.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        return key if isinstance(key, dict) else None

    def belongs_to(self, concept: str) -> bool:
        """Whether it is over a concept of this name."""
        return re.fullmatch(re.escape(_folder_name(concept)) + "-[0-9a-f]{16}", self.folder.name) is not None

    @property
    def written(self) -> float:
        """When an outcome was last kept, in seconds since the epoch; 0 where none was."""
        try:
            return self.journal.path.stat().st_mtime
        except OSError:
            return 0.0

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


def _folder_name(concept: str) -> str:
    """A concept's name as part of a folder's."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", concept)[:40]


class Store:
    """Finished outcomes by campaign key. Nothing is created before a victim has been loaded to be attacked.

    Args:
        root: the folder, usually ``.unlearndiff`` at pytest's rootdir.
        mode: how it is used.
        remote: a store shared between machines, whose outcomes count as this one's and which is told of new ones.
        keep_pictures: whether thumbnails are kept where outcomes are.
    """

    def __init__(
        self, root: Path, mode: Mode = Mode.RW, remote: Remote | None = None, *, keep_pictures: bool = False
    ) -> None:
        self.root = root
        self.mode = mode
        self._remote = remote
        self._keep_pictures = keep_pictures
        self.fingerprints = Fingerprints(root / "fingerprints.json" if mode is not Mode.OFF else None)

    @property
    def unused(self) -> Store:
        """The same folder for what may neither be answered from it nor kept in it."""
        return Store(self.root, Mode.OFF)

    def entry(self, concept: str, key: AttackKey) -> Entry:
        """The campaign of this key; its folder need not exist."""
        return self.named(f"{_folder_name(concept)}-{key.digest}")

    def folder(self, concept: str, digest: str) -> Path:
        """Where the campaign with a key of this digest is, if it is kept."""
        return self.named(f"{_folder_name(concept)}-{digest}").folder

    def pictures(self, entry: Entry) -> Pictures | None:
        """Where this session keeps thumbnails of a campaign; None where it keeps none."""
        return Pictures(entry.folder) if self._keep_pictures and self.mode.writes else None

    def named(self, campaign: str) -> Entry:
        """The campaign in the folder of this name, which need not exist.

        Raises:
            StoreError: no campaign's folder is named so.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-]*-[0-9a-f]{16}", campaign):
            raise StoreError(f"{campaign!r} is not the name of a campaign, such as church-00e6f3defe4388f3")
        folder = self.root / "campaigns" / campaign
        return Entry(self.root, folder, Journal(folder / "journal.jsonl"))

    def known(self, entry: Entry) -> tuple[dict[str, Outcome], int]:
        """Finished outcomes of a campaign, here or shared, and how many lines could not be trusted.

        Raises:
            StoreError: something is there that cannot be read.
        """
        found, distrusted = entry.known()
        if self._remote is None:
            return found, distrusted
        shared, more = self._remote.known(entry.folder.name)
        return shared | found, distrusted + more

    def keep(self, entry: Entry, outcome: Outcome) -> None:
        """Write one outcome and wait until the disk has it; the shared store may learn of it a little later.

        Raises:
            StoreError: the disk does not take it.
        """
        entry.keep(outcome)
        if self._remote is not None and self._remote.due:
            self.share(entry)

    def share(self, entry: Entry) -> None:
        """Tell the shared store of every outcome of a campaign; without one, do nothing.

        Raises:
            StoreError: it cannot be written; nothing is lost, since this store has the outcomes.
        """
        if self._remote is not None:
            self._remote.add(entry.folder.name, entry.known()[0].values())

    @contextmanager
    def sharing(self, entry: Entry) -> Iterator[None]:
        """Tell the shared store what is kept in the meantime, at the end or when it is cut short.

        Raises:
            StoreError: at the end, the shared store cannot be written.
        """
        try:
            yield
        except BaseException:
            with suppress(StoreError):
                self._share_new(entry)
            raise
        self._share_new(entry)

    def _share_new(self, entry: Entry) -> None:
        if self.mode.writes:
            self.share(entry)

    def entries(self) -> list[Entry]:
        """Every campaign that is kept, by name; an empty list where there is no store."""
        folders = sorted((self.root / "campaigns").glob("*/"))
        return [Entry(self.root, folder, Journal(folder / "journal.jsonl")) for folder in folders]

    def remove(self, entry: Entry) -> None:
        """Delete a campaign; whoever is attacking it now finishes first.

        Raises:
            StoreError: it cannot be deleted.
        """
        import shutil

        try:
            with self.lock(entry):
                shutil.rmtree(entry.folder)
        except OSError as error:
            raise StoreError(f"{entry.folder} cannot be deleted: {error}") from None

    def nearest(self, concept: str, key: AttackKey) -> tuple[Entry, list[str]] | None:
        """The kept campaign over a concept whose key differs least from this one, and in what; None for no other."""
        wanted = json.loads(json.dumps(key.to_dict()))
        others = [
            (entry, differences(wanted, other), other.get("attack") != key.attack)
            for entry in self.entries()
            if entry.belongs_to(concept) and (other := entry.key()) is not None
            # Pictures that nothing attacked, such as the base's, say nothing of an attack.
            if key.attack == "none" or other.get("attack") != "none"
        ]
        # Another attack is further away than any other settings of this one.
        found = min((each for each in others if each[1]), key=lambda each: (each[2], len(each[1])), default=None)
        return found and found[:2]

    def prepare(self, entry: Entry, key: AttackKey) -> None:
        """Create the campaign's folder and write down its key.

        Raises:
            StoreError: the folder cannot be written.
        """
        try:
            entry.folder.mkdir(parents=True, exist_ok=True)
            mark_as_cache(self.root)
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
