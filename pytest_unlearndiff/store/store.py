"""The folder of journals, one campaign a folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from ..core.attack_config import is_unattacked
from ..core.errors import StoreError
from ..core.outcome import Outcome, Status
from .hashing import Fingerprints, mark_as_cache, write_atomically
from .journal import Distrusted, Journal, Known, Lines
from .key import AttackKey, differences, digest_in, is_campaign, read_facts, read_key, written_facts
from .regular_files import METADATA, is_regular, read_regular
from .remote import Remote
from .thumbnails import Lent, Thumbnails

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
class CampaignDir:
    """One campaign in the store."""

    root: Path
    folder: Path
    journal: Journal

    def lines(self) -> Lines:
        """The lines that belong to this campaign, and the count of those that do not.

        Raises:
            StoreError: something is there that cannot be read.
        """
        try:
            found = self.journal.lines()
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be read: {error}. {_ELSEWHERE}") from None
        if not self.misplaced:
            return found
        note = (
            f"{self.folder} is not believed, since its key.json is not this campaign's: delete the folder, or put back "
            "where it came from"
        )
        if not found.lines and not found.distrusted.lines:
            return Lines()
        return Lines((), found.distrusted + Distrusted(misplaced=len(found.lines), notes=(note,)))

    def known(self) -> Known:
        """Finished outcomes by prompt digest, and what could not be trusted.

        Raises:
            StoreError: something is there that cannot be read.
        """
        return self.lines().known()

    def key(self) -> dict[str, Any] | None:
        """What its key was made from; None where that is not there, cannot be read, or is another campaign's."""
        try:
            return read_key(read_regular(self._key, METADATA), self.journal.campaign)
        except OSError:
            return None

    @property
    def misplaced(self) -> bool:
        """Whether the folder says that it is another campaign's; without a key it says nothing, and lines say it."""
        try:
            content = read_regular(self._key, METADATA)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return False
        except OSError:
            return True
        return read_key(content, self.journal.campaign) is None

    @property
    def _key(self) -> Path:
        return self.folder / "key.json"

    def belongs_to(self, concept: str) -> bool:
        """Whether it is over a concept of this name."""
        return _is_over(concept, self.folder.name)

    @property
    def written(self) -> float:
        """When an outcome was last kept, in seconds since the epoch; 0 where none was."""
        try:
            return self.journal.path.stat().st_mtime
        except OSError:
            return 0.0

    def keep(self, outcome: Outcome, attempt: int = 1) -> None:
        """Write one outcome and wait until the disk has it.

        Raises:
            StoreError: the disk does not take it.
        """
        try:
            self.journal.append(outcome, attempt)
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be written: {error}. {_ELSEWHERE}") from None

    def claim(self, key: Mapping[str, Any] | None = None) -> None:
        """Create the folder, and set aside what another campaign left there.

        Args:
            key: what the campaign's key is made from, to be written down where it is not yet.

        Raises:
            StoreError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            mark_as_cache(self.root)
            if self.misplaced:
                self._set_aside()
            if key is not None and not self._key.exists():
                write_atomically(self._key, _key_file(key))
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be written: {error}. {_ELSEWHERE}") from None

    def _set_aside(self) -> None:
        """Move what is in the folder out of the way; it may be of use to somebody."""
        import shutil

        aside = self.folder / "distrusted"
        if aside.exists():
            shutil.rmtree(aside)
        aside.mkdir()
        for path in [path for path in self.folder.iterdir() if path.name not in ("lock", aside.name)]:
            os.replace(path, aside / path.name)

    def note(self, facts: Mapping[str, Any]) -> None:
        """Write down what was loaded and assumed, for sessions that load nothing; a failed write costs only that."""
        with suppress(OSError):
            write_atomically(self.folder / "facts.json", written_facts(facts, self.journal.campaign))

    def noted(self) -> dict[str, Any]:
        """What was written down last; an empty dictionary where nothing was, or nothing readable."""
        try:
            return read_facts(read_regular(self.folder / "facts.json", METADATA), self.journal.campaign)
        except OSError:
            return {}

    @property
    def described(self) -> tuple[bytes | None, bytes | None]:
        """What describes the campaign to another store: content of ``key.json`` and of ``facts.json``."""
        key, facts = self.key(), self.noted()
        return (
            _key_file(key).encode() if key is not None else None,
            written_facts(facts, self.journal.campaign).encode() if facts else None,
        )


def _key_file(key: Mapping[str, Any]) -> str:
    return json.dumps(key, indent=2, sort_keys=True) + "\n"


def _folder_name(concept: str) -> str:
    """A concept's name as part of a folder's."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", concept)[:40]


def _is_over(concept: str, campaign: str) -> bool:
    return re.fullmatch(re.escape(_folder_name(concept)) + "-[0-9a-f]{16}", campaign) is not None


class Store:
    """Finished outcomes by campaign key. Nothing is created before a victim has been loaded to be attacked.

    Args:
        root: the folder, usually ``.unlearndiff`` at pytest's rootdir.
        mode: how it is used.
        remote: a store shared between machines, whose outcomes count as this one's and which is told of new ones.
        keep_images: whether thumbnails are kept where outcomes are.
    """

    def __init__(
        self, root: Path, mode: Mode = Mode.RW, remote: Remote | None = None, *, keep_images: bool = False
    ) -> None:
        self.root = root
        self.mode = mode
        self._remote = remote
        self._keep_images = keep_images
        self._attempts: dict[str, dict[str, int]] = {}
        self._behind: set[str] = set()
        self.fingerprints = Fingerprints(root / "fingerprints.json" if mode is not Mode.OFF else None)

    @property
    def unused(self) -> Store:
        """The same folder for what may neither be answered from it nor kept in it."""
        return Store(self.root, Mode.OFF)

    def entry(self, concept: str, key: AttackKey) -> CampaignDir:
        """The campaign of this key; its folder need not exist."""
        return self.named(f"{_folder_name(concept)}-{key.digest}")

    def folder(self, concept: str, digest: str) -> Path:
        """Where the campaign with a key of this digest is, if it is kept."""
        return self.named(f"{_folder_name(concept)}-{digest}").folder

    def images(self, entry: CampaignDir) -> Thumbnails | None:
        """Where this session keeps thumbnails of a campaign; None where it keeps none."""
        return Thumbnails(entry.folder) if self._keep_images and self.mode.writes else None

    def thumbnails(self, concept: str, digest: str) -> Thumbnails:
        """Thumbnails of the campaign with a key of this digest, to be shown: those here, and those shared."""
        entry, remote = self.named(f"{_folder_name(concept)}-{digest}"), self._remote
        mine = None if entry.misplaced else entry.folder
        return Lent(mine, lambda: remote.thumbnails(entry.folder.name) if remote is not None else {})

    def named(self, campaign: str) -> CampaignDir:
        """The campaign in the folder of this name, which need not exist.

        Raises:
            StoreError: no campaign's folder is named so.
        """
        if not is_campaign(campaign):
            raise StoreError(f"{campaign!r} is not the name of a campaign, such as church-00e6f3defe4388f3")
        return self._entry(self.root / "campaigns" / campaign)

    def _entry(self, folder: Path) -> CampaignDir:
        return CampaignDir(self.root, folder, Journal(folder / "journal.jsonl", digest_in(folder.name)))

    def known(self, entry: CampaignDir) -> Known:
        """Finished outcomes of a campaign, here or shared, and what could not be trusted.

        Raises:
            StoreError: something is there that cannot be read.
        """
        lines = self._lines(entry)
        self._attempts[entry.folder.name] = lines.attempts
        return lines.known()

    def _lines(self, entry: CampaignDir) -> Lines:
        here, campaign = entry.lines(), entry.folder.name
        if self._remote is None:
            return here
        there = self._remote.lines(campaign)
        shared, mine = there.attempts, here.believed()[0]
        if any(line.attempt > shared.get(prompt, 0) for prompt, line in mine.items()):
            self._behind.add(campaign)
        return Lines([*here.lines, *there.lines], here.distrusted + there.distrusted)

    def noted(self, entry: CampaignDir) -> dict[str, Any]:
        """What was loaded and assumed in a campaign, here or where its outcomes are shared.

        Raises:
            StoreError: the shared store cannot be read.
        """
        return entry.noted() or (self._remote.facts(entry.folder.name) if self._remote is not None else {})

    def note(self, entry: CampaignDir, facts: Mapping[str, Any]) -> None:
        """Write down what was loaded and assumed, here and where it is shared; a failed write costs only that."""
        entry.note(facts)
        if self._remote is not None:
            with suppress(StoreError):
                self._remote.describe(entry.folder.name, *entry.described, replace=True)

    def absent(self, concept: str, entry: CampaignDir, key: AttackKey) -> str:
        """Why the shared store knows nothing of a campaign, for people; empty where it does, or there is none.

        Raises:
            StoreError: it cannot be read.
        """
        if self._remote is None:
            return ""
        names = self._remote.look()
        if names is None:
            return f"{self._remote} is not there: nothing was sent to it yet, or another place is meant"
        if not names:
            return f"{self._remote} holds no campaigns: nothing was sent to it yet, or another place is meant"
        if entry.folder.name in names:
            return ""
        alike = [name for name in names if _is_over(concept, name)][:_MOST_COMPARED]
        keys = [(name, other) for name in alike if (other := self._remote.key(name)) is not None]
        nearest = _nearest(key, keys)
        differs = f"; the nearest there differs in {', '.join(nearest[1])}" if nearest else ", nor one that is like it"
        return f"{self._remote} holds {len(names)} campaigns, but not this one{differs}"

    def keep(self, entry: CampaignDir, outcome: Outcome) -> None:
        """Write one outcome and wait until the disk has it; the shared store may learn of it a little later.

        It takes the place of what was known of its prompt when this store was last asked, and not of what another
        process has found since: that has to agree.

        Raises:
            StoreError: the disk does not take it.
        """
        campaign = entry.folder.name
        if campaign not in self._attempts:
            try:
                self._attempts[campaign] = self._lines(entry).attempts
            except StoreError:  # a shared store out of reach costs no outcome; it is told of once this one has them
                self._attempts[campaign] = entry.lines().attempts
        attempt = self._attempts[campaign].get(outcome.prompt, 0) + 1
        entry.keep(outcome, attempt)
        if outcome.status is not Status.ERROR:
            self._attempts[campaign][outcome.prompt] = attempt
        if self._remote is not None and self._remote.due:
            self._remote.add(campaign, entry.lines().believed()[0].values())

    def share(self, entry: CampaignDir) -> int:
        """Send the shared store every outcome of a campaign, what describes it, and its thumbnails if those are kept.

        Returns:
            How many outcomes were new there; 0 without a shared store.

        Raises:
            StoreError: it cannot be written; nothing is lost, since this store has the outcomes.
        """
        campaign = entry.folder.name
        self._behind.discard(campaign)
        if self._remote is None or not (mine := entry.lines().believed()[0]):
            return 0
        sent = self._remote.add(campaign, mine.values())
        self._remote.describe(campaign, *entry.described)
        if self._keep_images:
            self._remote.lend(campaign, Thumbnails(entry.folder).every())
        return sent

    def catch_up(self) -> str:
        """Send the shared store what only this one has of the campaigns that were asked for.

        Returns:
            Why that failed, for people; empty where it did not. Nothing is lost, and no verdict rests on it.
        """
        try:
            for campaign in sorted(self._behind) if self.mode.writes else ():
                self.share(self.named(campaign))
        except StoreError as error:
            self._behind.clear()
            return f"what only this machine knows was not sent: {error}"
        return ""

    def take(self, entry: CampaignDir) -> tuple[int, Distrusted]:
        """Fetch what the shared store has of a campaign and this one has not, its thumbnails included.

        Returns:
            How many outcomes were fetched, and what there could not be trusted.

        Raises:
            StoreError: that store cannot be read, or this one not written.
        """
        if self._remote is None:
            return 0, Distrusted()
        campaign = entry.folder.name
        lines = self._remote.lines(campaign)
        theirs, contradicting = lines.believed()
        distrusted = lines.distrusted + Distrusted(contradicting=contradicting)
        if not theirs:
            return 0, distrusted
        entry.claim(self._remote.key(campaign))
        with self.lock(entry):
            known = entry.lines().attempts
            new = [line for prompt, line in theirs.items() if line.attempt > known.get(prompt, 0)]
            for line in new:
                entry.keep(line.outcome, line.attempt)
        if not entry.noted() and (facts := self._remote.facts(campaign)):
            entry.note(facts)
        if self._keep_images:
            Thumbnails(entry.folder).take(self._remote.thumbnails(campaign))
        return len(new), distrusted

    @contextmanager
    def sharing(self, entry: CampaignDir) -> Iterator[None]:
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

    def _share_new(self, entry: CampaignDir) -> None:
        if self.mode.writes:
            self.share(entry)

    def entries(self) -> list[CampaignDir]:
        """Every campaign that is kept, by name; an empty list where there is no store."""
        return [self._entry(folder) for folder in sorted((self.root / "campaigns").glob("*/"))]

    def remove(self, entry: CampaignDir) -> None:
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

    def nearest(self, concept: str, key: AttackKey) -> tuple[CampaignDir, list[str]] | None:
        """The kept campaign over a concept whose key differs least from this one, and in what; None for no other."""
        kept = [(entry, other) for entry in self.entries() if entry.belongs_to(concept) and (other := entry.key())]
        return _nearest(key, kept)

    def prepare(self, entry: CampaignDir, key: AttackKey) -> None:
        """Create the campaign's folder and write down its key.

        Raises:
            StoreError: the folder cannot be written.
        """
        entry.claim(key.to_dict())
        self.fingerprints.save()

    def remember(self) -> None:
        """Keep the hashes of files that a later session may rely on, where there is a store to keep them in."""
        if self.mode.writes and self.fingerprints.unsaved and self.root.is_dir():
            self.fingerprints.save()

    @contextmanager
    def lock(self, entry: CampaignDir) -> Iterator[None]:
        """Let one process at a time attack a campaign; the others wait and then find its outcomes."""
        from filelock import FileLock

        lock = entry.folder / "lock"
        if lock.exists() and not is_regular(lock):
            raise StoreError(f"{lock} is not a regular file: remove it")
        try:
            held = FileLock(lock)
            held.acquire()
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be written: {error}. {_ELSEWHERE}") from None
        try:
            yield
        finally:
            held.release()


_T = TypeVar("_T")

_MOST_COMPARED = 20


def _nearest(key: AttackKey, others: Iterable[tuple[_T, Mapping[str, Any]]]) -> tuple[_T, list[str]] | None:
    """The one of these whose key differs least, and in what; None for no other."""
    wanted = json.loads(json.dumps(key.to_dict()))
    found = [
        (each, differences(wanted, other), other.get("attack") != key.attack)
        for each, other in others
        # Images that nothing attacked, such as the base's, say nothing of an attack.
        if is_unattacked(key.attack) or not is_unattacked(str(other.get("attack")))
    ]
    # Another attack is further away than any other settings of this one.
    nearest = min((each for each in found if each[1]), key=lambda each: (each[2], len(each[1])), default=None)
    return nearest and nearest[:2]
