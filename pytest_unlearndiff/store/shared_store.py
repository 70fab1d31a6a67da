"""A local store joined to one at a URL: outcomes there count as this one's, and new ones are sent there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..core.errors import StoreError
from ..core.outcome import Outcome
from .campaign_dir import CampaignDir, encode_key, encode_metadata, same_concept
from .journal import JournalContent, RejectedLines
from .key import AttackKey
from .remote import Remote
from .store import Mode, Store, closest_key
from .thumbnails import SharedThumbnails, Thumbnails

_MAX_COMPARED = 20
"""Campaigns there whose keys are read to find the closest one."""


class SharedStore(Store):
    """A local store, and a remote one that other machines use too.

    Args:
        root: the local folder; every outcome is written here first.
        url: of the shared store, of any kind that fsspec knows.
        mode: use of both.
        keep_images: whether thumbnails are kept and sent.
    """

    def __init__(self, root: Path, url: str, mode: Mode = Mode.RW, *, keep_images: bool = False) -> None:
        super().__init__(root, mode, keep_images=keep_images)
        self.remote = Remote(url)
        self._unsent: set[str] = set()

    def _read(self, campaign: CampaignDir) -> JournalContent:
        local, remote = campaign.read(), self.remote.read(campaign.name)
        shared = remote.attempts
        if any(line.attempt > shared.get(prompt, 0) for prompt, line in local.resolve()[0].items()):
            self._unsent.add(campaign.name)
        return JournalContent([*local.lines, *remote.lines], local.rejected + remote.rejected)

    def _last_attempts(self, campaign: CampaignDir) -> dict[str, int]:
        try:
            return super()._last_attempts(campaign)
        except StoreError:  # a shared store out of reach costs no outcome; it is told once this one has them
            return campaign.read().attempts

    def metadata(self, campaign: CampaignDir) -> dict[str, Any]:
        """Read what was loaded and assumed, here or there.

        Raises:
            StoreError: the shared store cannot be read.
        """
        if not self.mode.reads:
            return {}
        return campaign.metadata or self.remote.metadata(campaign.name)

    def write_metadata(self, campaign: CampaignDir, metadata: Mapping[str, Any]) -> None:
        """Write what was loaded and assumed, here and there; a failed write costs only that."""
        super().write_metadata(campaign, metadata)
        if self.mode.writes:
            with suppress(StoreError):
                self._describe(campaign, replace=True)

    def append(self, campaign: CampaignDir, outcome: Outcome) -> None:
        """Write one outcome here, and from time to time all of them there.

        Raises:
            StoreError: the disk does not take it, or the shared store cannot be written.
        """
        super().append(campaign, outcome)
        if self.mode.writes and self.remote.is_due:
            self.remote.add(campaign.name, campaign.read().resolve()[0].values())

    @contextmanager
    def sharing(self, campaign: CampaignDir) -> Iterator[None]:
        """Send the shared store what is kept in the meantime, at the end or when it is cut short.

        Raises:
            StoreError: at the end, the shared store cannot be written.
        """
        try:
            yield
        except BaseException:
            with suppress(StoreError):
                self.push(campaign)
            raise
        self.push(campaign)

    def push(self, campaign: CampaignDir) -> int:
        """Send every outcome of a campaign, its key, its metadata, and its thumbnails if those are kept.

        Returns:
            Number of outcomes that were new there.

        Raises:
            StoreError: it cannot be written; nothing is lost, since this store has the outcomes.
        """
        self._unsent.discard(campaign.name)
        if not self.mode.writes or not (lines := campaign.read().resolve()[0]):
            return 0
        sent = self.remote.add(campaign.name, lines.values())
        self._describe(campaign)
        if self._keep_images:
            self.remote.add_thumbnails(campaign.name, Thumbnails(campaign.folder).files())
        return sent

    def _describe(self, campaign: CampaignDir, *, replace: bool = False) -> None:
        key, metadata = campaign.key, campaign.metadata
        self.remote.describe(
            campaign.name,
            encode_key(key) if key is not None else None,
            encode_metadata(metadata, campaign.journal.campaign) if metadata else None,
            replace=replace,
        )

    def push_pending(self) -> str:
        """Send what only this store has of the campaigns that were read.

        Returns:
            Reason of a failure, for people; else empty. Nothing is lost, and no verdict rests on it.
        """
        try:
            for name in sorted(self._unsent) if self.mode.writes else ():
                self.push(CampaignDir(self.root, name))
        except StoreError as error:
            self._unsent.clear()
            return f"what only this machine knows was not sent: {error}"
        return ""

    def pull(self, campaign: CampaignDir) -> tuple[int, RejectedLines]:
        """Fetch outcomes, key, metadata and thumbnails that only the shared store has.

        Returns:
            Number of outcomes fetched, and the lines there that were not believed.

        Raises:
            StoreError: that store cannot be read, or this one not written.
        """
        lines, rejected = self.remote.read(campaign.name).resolve()
        if not lines:
            return 0, rejected
        campaign.create(self.remote.key(campaign.name))
        with self.lock(campaign):
            attempts = campaign.read().attempts
            new = [line for prompt, line in lines.items() if line.attempt > attempts.get(prompt, 0)]
            for line in new:
                campaign.append(line.outcome, line.attempt)
        if not campaign.metadata and (metadata := self.remote.metadata(campaign.name)):
            campaign.write_metadata(metadata)
        if self._keep_images:
            Thumbnails(campaign.folder).add_files(self.remote.thumbnails(campaign.name))
        return len(new), rejected

    def explain_missing(self, campaign: CampaignDir, key: AttackKey) -> str:
        """Reason why the shared store knows nothing of a campaign; empty if it does.

        Raises:
            StoreError: it cannot be read.
        """
        if not self.mode.reads:
            return ""
        names = self.remote.campaigns()
        if names is None:
            return f"{self.remote} is not there: nothing was sent to it yet, or another place is meant"
        if not names:
            return f"{self.remote} holds no campaigns: nothing was sent to it yet, or another place is meant"
        if campaign.name in names:
            return ""
        alike = [name for name in names if same_concept(name, campaign.name)][:_MAX_COMPARED]
        keys = [(name, other) for name in alike if (other := self.remote.key(name)) is not None]
        closest = closest_key(key, keys)
        differs = f"; the nearest there differs in {', '.join(closest[1])}" if closest else ", nor one that is like it"
        return f"{self.remote} holds {len(names)} campaigns, but not this one{differs}"

    def thumbnails(self, concept: str, key_digest: str) -> Thumbnails:
        """Thumbnails of a campaign, to be shown: those here, and those there."""
        campaign = self.campaign_by_digest(concept, key_digest)
        folder = None if campaign.misplaced else campaign.folder
        return SharedThumbnails(folder, lambda: self.remote.thumbnails(campaign.name))
