"""A worker's side: victim, base and judge in a process of their own, which attacks what it is handed."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.concept import Prompt
from ..core.errors import ModelError
from ..core.forward_passes import computed_forwards
from ..core.judge_options import with_weights
from ..core.outcome import Outcome
from ..core.registry import Info, Registry, set_registry
from ..runs.begun import Begun
from ..runs.model_cache import Fingerprint, ModelCache, ModelSpec, located
from ..sources.judge_files import judge_weights
from ..store.campaign_dir import CampaignDir
from ..store.hashing import Fingerprints
from ..store.store import Mode, Store
from ..store.thumbnails import Thumbnails

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..runs.campaign import Campaign
    from ..runs.engine import Engine

POLL_SECONDS = 5.0
"""Seconds after which a worker reports although no prompt ended."""


@dataclass(frozen=True)
class JobSpec:
    """What workers are asked to do.

    Attributes:
        campaign: whose prompts they will be handed.
        source: where the victim comes from, on the machine that sent the order.
        batch_size: prompts that a worker attacks together.
        keep_images: whether thumbnails are wanted.
        files: every file and folder it needs, with its content hash; what a machine lacks is sent to it.
        rows: of the registry, that plugins add where pytest runs; workers import what they need of them.
    """

    campaign: Campaign
    source: ModelSpec
    batch_size: int
    keep_images: bool = False
    files: Mapping[Path, str] = field(default_factory=dict)
    rows: tuple[Info, ...] = ()

    def moved(self, places: Mapping[Path, Path]) -> JobSpec:
        """The same order where files lie elsewhere."""
        model, base = (places.get(path, path) if path else None for path in (self.source.model, self.source.base))
        named, concept = {str(old): str(new) for old, new in places.items()}, self.campaign.concept
        target_images = {prompt: named.get(path, path) for prompt, path in concept.images.items()}
        concept = replace(concept, judge=with_weights(concept.judge, named), images=target_images)
        source = replace(self.source, model=model, base=base)
        return replace(self, campaign=replace(self.campaign, concept=concept), source=source)


@dataclass(frozen=True)
class Thumbnail:
    """A image for people, as ``Thumbnails.write`` takes it."""

    digest: str
    data: bytes
    base: bool


@dataclass(frozen=True)
class Report:
    """What a worker says.

    Attributes:
        batch_size: prompts it can attack together.
        outcomes: of prompts that came to their end.
        begun: prompts that it gives back unfinished.
        watched: what the judge said of the base's own images.
        thumbnails: images to keep.
        described: what was loaded, in the first report only.
        lacks: files of the order that are not there; nothing was loaded, and nothing can be attacked without them.
        computed: UNet forward passes that were computed since the report before.
    """

    batch_size: int
    outcomes: Sequence[Outcome] = ()
    begun: Sequence[Begun] = ()
    watched: Sequence[Outcome] = ()
    thumbnails: Sequence[Thumbnail] = ()
    described: dict[str, Any] = field(default_factory=dict)
    lacks: Sequence[Path] = ()
    computed: int = 0


class ThumbnailBuffer(Thumbnails):
    """Thumbnails that travel instead of being written."""

    def __init__(self) -> None:
        self._packed: list[Thumbnail] = []

    def write(self, digest: str, data: bytes, *, base: bool = False) -> None:
        """Have one travel with the next report."""
        self._packed.append(Thumbnail(digest, data, base))

    def unpack(self) -> list[Thumbnail]:
        """What came since this was last asked."""
        packed, self._packed = self._packed, []
        return packed


class NullStore(Store):
    """Keeps nothing: only the process that hands out prompts writes the store.

    Args:
        packed: takes thumbnails; None where none are wanted.
    """

    def __init__(self, packed: ThumbnailBuffer | None) -> None:
        super().__init__(Path(), Mode.OFF)
        self._packed = packed

    def writable_thumbnails(self, entry: CampaignDir) -> ThumbnailBuffer | None:
        """Where thumbnails go."""
        return self._packed


@dataclass
class WorkerJob:
    """One campaign on a bench, between its turns."""

    engine: Engine
    watched: dict[str, Outcome]
    packed: ThumbnailBuffer
    arrived: list[Prompt | Begun] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._work: Generator[Outcome | None] = self.engine.serve(self._take)

    def _take(self) -> list[Prompt | Begun]:
        arrived, self.arrived = self.arrived, []
        return arrived

    def turn(self, patience: float, *, brief: bool = False) -> Report:
        """Attack what is in hand until something ends or ``patience`` seconds are over; see ``Worker.turn``."""
        ended, started, before = list[Outcome](), time.monotonic(), computed_forwards()
        while True:
            if (outcome := next(self._work)) is not None:
                ended.append(outcome)
            elif ended or time.monotonic() - started > patience:
                break
        begun = self.engine.give_back() if brief else []
        watched, thumbnails = list(self.watched.values()), self.packed.unpack()
        for outcome in watched:
            del self.watched[outcome.prompt]
        computed = computed_forwards() - before
        return Report(self.engine.batch_size, ended, begun, watched, thumbnails, computed=computed)


class Worker:
    """Attacks prompts in turns: between any two it can be handed more, be left, or work for somebody else.

    Whoever hands out prompts gives a name, and has one campaign here at a time; models are loaded once for all of them.
    """

    def __init__(self) -> None:
        self._fingerprints = Fingerprints()
        self._parts = ModelCache(self._fingerprints)
        self._sittings: dict[str, WorkerJob] = {}
        self._sent: dict[tuple[Path, str], Path] = {}

    def ready(self) -> str:
        """Where this process lives, which says that it does."""
        return platform.node()

    def open(self, order: JobSpec, sender: str = "") -> Report:
        """Load what a campaign needs, each part once, and forget the sender's campaign before.

        Raises:
            UnlearnDiffError: the files here are not those of the order, or cannot be loaded.
        """
        self._sittings.pop(sender, None)
        set_registry(Registry(order.rows))
        sent = {path: self._sent[path, digest] for path, digest in order.files.items() if (path, digest) in self._sent}
        if lacks := [path for path in order.files if path not in sent and not path.exists()]:
            return Report(order.batch_size, lacks=lacks)
        here = order.moved(sent)
        check_files(order, here, self._fingerprints)
        watched, packed = dict[str, Outcome](), ThumbnailBuffer()
        store = NullStore(packed if order.keep_images else None)
        # The files are compared before that: what a device is good for is no part of what they are.
        engine, described = here.campaign.engine(located(here.source), self._parts, order.batch_size, store, watched)
        self._sittings[sender] = WorkerJob(engine, watched, packed)
        return Report(engine.batch_size, described=described)

    def turn(
        self,
        prompts: Sequence[Prompt | Begun],
        sender: str = "",
        patience: float = POLL_SECONDS,
        *,
        brief: bool = False,
    ) -> Report:
        """Attack what is in the sender's hand and these, until something ends or ``patience`` seconds are over.

        Args:
            prompts: further ones, fresh or begun by another worker.
            sender: whose campaign.
            patience: seconds; at least one round of work is done.
            brief: whether to give back what is then unfinished.

        Raises:
            UnlearnDiffError: the victim or the judge cannot be used.
            Exception: what several prompts in a row failed with.
        """
        sitting = self._sittings[sender]
        sitting.arrived += prompts
        return sitting.turn(patience, brief=brief)

    def arrived(self, path: Path, digest: str, place: Path) -> None:
        """From now on, what an order calls ``path``, with this content hash, lies at ``place``."""
        self._sent[path, digest] = place


def check_files(order: JobSpec, here: JobSpec, fingerprints: Fingerprints) -> None:
    """Compare the files of this machine with those of the machine that sent the order.

    Args:
        order: as it was sent, for people.
        here: with the places of files on this machine.
        fingerprints: of this machine's files.

    Raises:
        ModelError: a path leads to other content here.
        StoreError: a path leads nowhere.
    """
    concept, mine = order.campaign.concept, here.campaign.concept
    found, wanted = Fingerprint.of(here.source, fingerprints, mine.images), order.campaign.fingerprint
    if found.victim != wanted.victim:
        raise ModelError(
            f"{order.source.title}, with its base, has {_OTHER} (fingerprint {found.victim}, there {wanted.victim}): "
            f"{_SAME_FILES}"
        )
    if wanted.target and found.target != wanted.target:  # the victim's side of a retention gate has none
        what = f"the target images of concept {concept.name!r} have" if concept.images else "the base has"
        raise ModelError(f"{what} {_OTHER}: {_SAME_FILES}")
    if judge_weights(mine.judge, fingerprints) != order.campaign.judge:
        raise ModelError(f"the judge of concept {concept.name!r} has {_OTHER}: {_SAME_FILES}")


_OTHER = "other content here than where pytest runs"
_SAME_FILES = "give every machine the same files under the same paths, or none"
