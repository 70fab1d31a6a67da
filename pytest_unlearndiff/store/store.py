"""The store: finished outcomes by campaign key, one folder per campaign, and the report of its last session."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from ..core.attack_config import is_unattacked
from ..core.errors import StoreError, one_line
from ..core.outcome import Outcome, Status
from .campaign_dir import CampaignDir, campaign_name, is_campaign_name
from .files import read_json_object, read_regular, write_atomically
from .journal import JournalContent, StoredOutcomes
from .key import AttackKey, Fingerprints, key_differences
from .thumbnails import Thumbnails


class Mode(StrEnum):
    """Use of a store."""

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
        """True where outcomes in the store count."""
        return self in (Mode.RW, Mode.RO, Mode.REQUIRE)

    @property
    def writes(self) -> bool:
        """True where new outcomes are kept."""
        return self in (Mode.RW, Mode.REFRESH)


class Store:
    """Finished outcomes in a folder, used as its mode says.

    A mode that does not read answers every question as an empty store does; one that does not write ignores what it is
    told to keep. Nothing is created before a victim has been loaded to be attacked. ``SharedStore`` extends this class
    by a store at a URL.

    Attributes:
        root: the folder, usually ``.unlearndiff`` at pytest's rootdir.
        mode: use of the store.
        fingerprints: hashes of this machine's files, remembered in the folder.

    Args:
        root: the folder.
        mode: use of the store.
        keep_images: whether thumbnails are kept where outcomes are.
    """

    def __init__(self, root: Path, mode: Mode = Mode.RW, *, keep_images: bool = False) -> None:
        self.root = root
        self.mode = mode
        self.fingerprints = Fingerprints(root / "fingerprints.json" if mode is not Mode.OFF else None)
        self._keep_images = keep_images
        self._attempts: dict[str, dict[str, int]] = {}

    @property
    def disabled(self) -> Store:
        """The same folder for a victim that may neither be answered from it nor kept in it."""
        return Store(self.root, Mode.OFF)

    def campaign(self, concept: str, key: AttackKey) -> CampaignDir:
        """Folder of the campaign with this key; it need not exist."""
        return self.campaign_by_digest(concept, key.digest)

    def campaign_by_digest(self, concept: str, key_digest: str) -> CampaignDir:
        """Folder of the campaign whose key has this digest; it need not exist."""
        return CampaignDir(self.root, campaign_name(concept, key_digest))

    def campaigns(self) -> list[CampaignDir]:
        """Every campaign that is kept, by name."""
        folders = sorted((self.root / "campaigns").glob("*/"))
        return [CampaignDir(self.root, folder.name) for folder in folders if is_campaign_name(folder.name)]

    def outcomes(self, campaign: CampaignDir) -> StoredOutcomes:
        """Read a campaign's finished outcomes, and what could not be believed.

        Raises:
            StoreError: something is there that cannot be read.
        """
        if not self.mode.reads:
            return StoredOutcomes({})
        content = self._read(campaign)
        self._attempts[campaign.name] = content.attempts
        return content.outcomes()

    def _read(self, campaign: CampaignDir) -> JournalContent:
        return campaign.read()

    def metadata(self, campaign: CampaignDir) -> dict[str, Any]:
        """Read what was loaded and assumed when the campaign ran; empty if nothing readable was written.

        Raises:
            StoreError: a shared store cannot be read.
        """
        return campaign.metadata if self.mode.reads else {}

    def write_metadata(self, campaign: CampaignDir, metadata: Mapping[str, Any]) -> None:
        """Write what was loaded and assumed; a failed write costs only that."""
        if self.mode.writes:
            campaign.write_metadata(metadata)

    def create(self, campaign: CampaignDir, key: AttackKey) -> None:
        """Create the campaign's folder and write its key.

        Raises:
            StoreError: the folder cannot be written.
        """
        if self.mode.writes:
            campaign.create(key.to_dict())
            self.fingerprints.save()

    @contextmanager
    def lock(self, campaign: CampaignDir) -> Iterator[None]:
        """Hold the lock of a campaign that is kept, so that one process at a time attacks it.

        Raises:
            StoreError: the folder cannot be written.
        """
        with campaign.lock() if self.mode.writes else nullcontext():
            yield

    def append(self, campaign: CampaignDir, outcome: Outcome) -> None:
        """Write one outcome and wait until it is on disk; a shared store may learn of it a little later.

        The outcome replaces what was known of its prompt when this store last read the campaign, but not what another
        process has written since: that has to agree.

        Raises:
            StoreError: the disk does not take it.
        """
        if not self.mode.writes:
            return
        if campaign.name not in self._attempts:
            self._attempts[campaign.name] = self._last_attempts(campaign)
        attempt = self._attempts[campaign.name].get(outcome.prompt, 0) + 1
        campaign.append(outcome, attempt)
        if outcome.status is not Status.ERROR:
            self._attempts[campaign.name][outcome.prompt] = attempt

    def _last_attempts(self, campaign: CampaignDir) -> dict[str, int]:
        return self._read(campaign).attempts

    @contextmanager
    def sharing(self, campaign: CampaignDir) -> Iterator[None]:
        """Send a shared store, at the end, what is kept in the meantime; there is none here.

        Raises:
            StoreError: at the end, the shared store cannot be written.
        """
        yield

    def push_pending(self) -> str:
        """Send a shared store what only this one has; there is none here.

        Returns:
            Reason of a failure, for people; else empty.
        """
        return ""

    def explain_missing(self, campaign: CampaignDir, key: AttackKey) -> str:
        """Reason why a shared store knows nothing of a campaign; empty if it does, or there is none.

        Raises:
            StoreError: it cannot be read.
        """
        return ""

    def closest_campaign(self, concept: str, key: AttackKey) -> tuple[CampaignDir, list[str]] | None:
        """Find the kept campaign over a concept whose key differs least, and name the differences; None without one."""
        if not self.mode.reads:
            return None
        kept = ((campaign, campaign.key) for campaign in self.campaigns() if campaign.belongs_to(concept))
        return closest_key(key, ((campaign, other) for campaign, other in kept if other is not None))

    def thumbnails(self, concept: str, key_digest: str) -> Thumbnails:
        """Thumbnails of the campaign whose key has this digest, to be shown."""
        campaign = self.campaign_by_digest(concept, key_digest)
        return Thumbnails(None if campaign.misplaced else campaign.folder)

    def writable_thumbnails(self, campaign: CampaignDir) -> Thumbnails | None:
        """Thumbnails of a campaign that this session adds to; None if it keeps none."""
        return Thumbnails(campaign.folder) if self._keep_images and self.mode.writes else None

    def save_fingerprints(self) -> None:
        """Save new file hashes, if there is a store to keep them in."""
        if self.mode.writes and self.fingerprints.unsaved and self.root.is_dir():
            self.fingerprints.save()


_T = TypeVar("_T")


def closest_key(key: AttackKey, others: Iterable[tuple[_T, Mapping[str, Any]]]) -> tuple[_T, list[str]] | None:
    """Choose the item whose key differs least, and name the differences; None if no key differs."""
    wanted = json.loads(json.dumps(key.to_dict()))
    candidates = [
        (item, key_differences(wanted, other), other.get("attack") != key.attack)
        for item, other in others
        # Images that nothing attacked, such as the base's, say nothing of an attack.
        if is_unattacked(key.attack) or not is_unattacked(str(other.get("attack")))
    ]
    # Another attack is further away than any other settings of this one.
    closest = min((c for c in candidates if c[1]), key=lambda c: (c[2], len(c[1])), default=None)
    return closest and closest[:2]


_LARGEST = 2**30
"""Bytes of a report that is read; it has some hundred bytes per prompt."""


class LastSession:
    """Last session of a store.

    Args:
        root: the store's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / "gates"
        self._running = self._folder / "running.json"
        self.path = self._folder / "session.json"

    def begin(self, run: str) -> bool:
        """Note that a session runs, until it is kept.

        Args:
            run: name of the session.

        Returns:
            True where it is noted: not where there is no store yet, which then holds no session before it either.
        """
        if not self._root.is_dir():
            return False
        with suppress(OSError):
            self._folder.mkdir(exist_ok=True)
            began = datetime.now(UTC).isoformat(timespec="seconds")
            write_atomically(self._running, json.dumps({"run": run, "began": began}) + "\n")
        return True

    def running(self) -> str:
        """Return when the session began that began last, if it has not ended; else an empty string."""
        return str((read_json_object(self._running) or {}).get("began", ""))

    def keep(self, report: str, run: str = "") -> None:
        """Write a session's report. Nothing is written where there is no store yet: then there are no outcomes either.

        Args:
            report: the session's JSON report.
            run: name of the session, where it noted that it runs.

        Raises:
            StoreError: the folder cannot be written.
        """
        if not self._root.is_dir():
            return
        try:
            self._folder.mkdir(exist_ok=True)
            write_atomically(self.path, report)
            if (read_json_object(self._running) or {}).get("run") == run:
                self._running.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self._folder} cannot be written, so that reports cannot be written again: {error}"
            ) from None

    def read(self) -> bytes:
        """Return the JSON report that was kept last.

        Raises:
            StoreError: none was kept, or it cannot be read.
        """
        if not self.path.exists():
            raise StoreError(f"{self._root} holds no session's gates: run pytest with this store first")
        try:
            return read_regular(self.path, _LARGEST)
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be read: {one_line(error)}. Run pytest with this store again"
            ) from None
