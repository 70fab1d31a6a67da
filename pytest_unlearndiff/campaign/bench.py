"""A worker's side: victim, base and judge in a process of their own, which attacks what it is handed."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.concept import Prompt
from ..core.errors import ModelError
from ..core.outcome import Outcome
from ..store.fingerprint import Fingerprints
from ..store.judge_weights import judge_weights
from ..store.pictures import Pictures
from ..store.store import Entry, Mode, Store
from .parts import Fingerprint, Parts, VictimSource

if TYPE_CHECKING:
    from collections.abc import Generator

    from .campaign import Campaign

PATIENCE = 5.0
"""Seconds after which a worker reports although no prompt ended."""


@dataclass(frozen=True)
class Order:
    """What workers are asked to do.

    Attributes:
        campaign: whose prompts they will be handed.
        source: where the victim comes from; the same paths lead to the same files on every machine.
        lanes: prompts that a worker attacks together.
        pictures: whether thumbnails are wanted.
    """

    campaign: Campaign
    source: VictimSource
    lanes: int
    pictures: bool = False


@dataclass(frozen=True)
class Thumbnail:
    """A picture for people, as ``Pictures.put`` takes it."""

    digest: str
    data: bytes
    base: bool


@dataclass(frozen=True)
class Report:
    """What a worker says.

    Attributes:
        lanes: prompts it can attack together.
        outcomes: of prompts that came to their end.
        watched: what the judge said of the base's own pictures.
        thumbnails: pictures to keep.
        described: what was loaded, in the first report only.
    """

    lanes: int
    outcomes: Sequence[Outcome] = ()
    watched: Sequence[Outcome] = ()
    thumbnails: Sequence[Thumbnail] = ()
    described: dict[str, Any] = field(default_factory=dict)


class Packed(Pictures):
    """Thumbnails that travel instead of being written."""

    def __init__(self) -> None:
        self._packed: list[Thumbnail] = []

    def put(self, digest: str, data: bytes, *, base: bool = False) -> None:
        """Have one travel with the next report."""
        self._packed.append(Thumbnail(digest, data, base))

    def unpack(self) -> list[Thumbnail]:
        """What came since this was last asked."""
        packed, self._packed = self._packed, []
        return packed


class NoStore(Store):
    """Keeps nothing: only the process that hands out prompts writes the store.

    Args:
        packed: takes thumbnails; None where none are wanted.
    """

    def __init__(self, packed: Packed | None) -> None:
        super().__init__(Path(), Mode.OFF)
        self._packed = packed

    def pictures(self, entry: Entry) -> Packed | None:
        """Where thumbnails go."""
        return self._packed


class Bench:
    """Attacks prompts in turns: between any two it can be handed more, or be left."""

    def __init__(self) -> None:
        self._parts = Parts()
        self._fingerprints = Fingerprints()

    def ready(self) -> str:
        """Where this process lives, which says that it does."""
        return platform.node()

    def open(self, order: Order) -> Report:
        """Load what a campaign needs, each part once, and forget the campaign before.

        Raises:
            UnlearnDiffError: the files here are not those of the order, or cannot be loaded.
        """
        check_files(order, self._fingerprints)
        self._arrived: list[Prompt] = []
        self._watched: dict[str, Outcome] = {}
        self._packed = Packed()
        store = NoStore(self._packed if order.pictures else None)
        self._engine, described = order.campaign.engine(order.source, self._parts, order.lanes, store, self._watched)
        self._work: Generator[Outcome | None] = self._engine.serve(self._take)
        return Report(self._engine.lanes, described=described)

    def turn(self, prompts: Sequence[Prompt], patience: float = PATIENCE) -> Report:
        """Attack what is in hand and these, until something ends or ``patience`` seconds are over.

        Raises:
            UnlearnDiffError: the victim or the judge cannot be used.
            Exception: what several prompts in a row failed with.
        """
        self._arrived += prompts
        ended, started = list[Outcome](), time.monotonic()
        for outcome in self._work:
            if outcome is not None:
                ended.append(outcome)
            elif ended or time.monotonic() - started > patience:
                break
        watched, thumbnails = list(self._watched.values()), self._packed.unpack()
        self._seen(watched)
        return Report(self._engine.lanes, ended, watched, thumbnails)

    def _take(self) -> list[Prompt]:
        arrived, self._arrived = self._arrived, []
        return arrived

    def _seen(self, watched: Sequence[Outcome]) -> None:
        for outcome in watched:
            del self._watched[outcome.prompt]


def check_files(order: Order, fingerprints: Fingerprints) -> None:
    """Compare the files of this machine with those of the machine that sent the order.

    Raises:
        ModelError: a path leads to other content here.
        StoreError: a path leads nowhere.
    """
    source, campaign = order.source, order.campaign
    here, there = Fingerprint.of(source, fingerprints, campaign.concept.images), campaign.fingerprint
    if here.victim != there.victim:
        raise ModelError(
            f"{source.title}, with its base, holds other weights here than where pytest runs (fingerprint "
            f"{here.victim}, there {there.victim}): give every machine the same files under the same paths"
        )
    if campaign.concept.images and here.target != there.target:
        raise ModelError(
            f"the target images of concept {campaign.concept.name!r} are others here than where pytest runs: give "
            "every machine the same files under the same paths"
        )
    if judge_weights(campaign.concept.judge, fingerprints) != campaign.judge:
        raise ModelError(
            f"the judge of concept {campaign.concept.name!r} has other weights here than where pytest runs: give every "
            "machine the same files under the same paths"
        )
