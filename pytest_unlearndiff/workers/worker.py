"""A worker's side: victim, base and judge in a process of their own, which attacks the prompts that it is sent."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.concept import Concept, Prompt
from ..core.errors import ModelError, UnlearnDiffError
from ..core.forward_passes import computed_forwards
from ..core.info import Info
from ..core.judge_options import weights_of, with_weights
from ..core.outcome import Outcome
from ..core.registry import Registry, set_registry
from ..runs.campaign import Campaign
from ..runs.local_backend import LocalBackend
from ..runs.model_cache import Fingerprint, ModelCache, ModelSpec, located
from ..runs.positive_control import ControlRecorder, control_campaign
from ..sources.download import download, source_url
from ..sources.import_string import judge_weights
from ..store.key import Fingerprints
from ..store.store import Mode, Store
from ..store.thumbnails import Thumbnails

if TYPE_CHECKING:
    from ..runs.engine import Engine


@dataclass(frozen=True)
class JobSpec:
    """The campaign that workers attack.

    Attributes:
        campaign: with its concept, attack and fingerprints.
        source: where the victim comes from, on the machine that sent the job.
        batch_size: prompts that a worker attacks together.
        keep_images: whether thumbnails are wanted.
        rows: of the registry, which plugins add where pytest runs; workers import what they need of them.
        urls: where files of the job were downloaded from, by their path on the machine that sent it.
    """

    campaign: Campaign
    source: ModelSpec
    batch_size: int
    rows: tuple[Info, ...] = ()
    keep_images: bool = False
    urls: Mapping[Path, str] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """Every file and folder that victim, base, judge and target images are loaded from."""
        return files_of(self.source, self.campaign.concept)

    def moved(self, places: Mapping[Path, Path]) -> JobSpec:
        """The same job where files lie at other paths."""
        model, base = (places.get(path, path) if path else None for path in (self.source.model, self.source.base))
        names, concept = {str(old): str(new) for old, new in places.items()}, self.campaign.concept
        images = {prompt: names.get(path, path) for prompt, path in concept.images.items()}
        concept = replace(concept, judge=with_weights(concept.judge, names), images=images)
        source = replace(self.source, model=model, base=base)
        return replace(self, campaign=replace(self.campaign, concept=concept), source=source)

    def check_files(self, original: JobSpec, fingerprints: Fingerprints) -> None:
        """Compare the content of files with what it is on the machine that sent the job.

        Args:
            original: the job as it was sent; its paths are those that a user knows.
            fingerprints: hashes files of this machine.

        Raises:
            ModelError: a path leads to other content here.
            StoreError: a path leads nowhere.
        """
        concept, expected = self.campaign.concept, self.campaign.fingerprint
        actual = Fingerprint.of(self.source, fingerprints, concept.images)
        if actual.victim != expected.victim:
            raise ModelError(
                f"{original.source.title}, with its base, has {_OTHER} (fingerprint {actual.victim}, there "
                f"{expected.victim}): {_SAME_FILES}"
            )
        if expected.target and actual.target != expected.target:  # the victim's side of a retention gate has none
            owner = f"the target images of concept {concept.name!r} have" if concept.images else "the base has"
            raise ModelError(f"{owner} {_OTHER}: {_SAME_FILES}")
        if judge_weights(concept.judge, fingerprints) != self.campaign.judge:
            raise ModelError(f"the judge of concept {concept.name!r} has {_OTHER}: {_SAME_FILES}")


_OTHER = "other content here than where pytest runs"
_SAME_FILES = "give every machine the same files"


def files_of(source: ModelSpec, concept: Concept) -> list[Path]:
    """Every file and folder that victim, base, judge and target images are loaded from."""
    named = [source.model, source.base, *map(Path, weights_of(concept.judge)), *map(Path, concept.images.values())]
    return [path for path in dict.fromkeys(named) if path is not None]


def urls_of(files: Sequence[Path]) -> dict[Path, str]:
    """The URLs that files of this machine were downloaded from; others are left out."""
    return {path: url for path in files if "://" in (url := source_url(path))}


@dataclass(frozen=True)
class Thumbnail:
    """An image for people, as ``Thumbnails.write`` takes it."""

    digest: str
    data: bytes
    base: bool


@dataclass(frozen=True)
class WorkerUpdate:
    """A worker's answer.

    Attributes:
        node: name of its machine.
        batch_size: prompts it can attack together.
        outcomes: of prompts that came to their end.
        checkpoints: of prompts in progress, by prompt digest.
        control: what the judge saw in the base's own images.
        thumbnails: images to keep.
        description: of what was loaded, in the first update only.
        computed: forward passes that were computed since the update before.
    """

    node: str
    batch_size: int
    outcomes: Sequence[Outcome] = ()
    checkpoints: Mapping[str, bytes] = field(default_factory=dict)
    control: Sequence[Outcome] = ()
    thumbnails: Sequence[Thumbnail] = ()
    description: dict[str, Any] = field(default_factory=dict)
    computed: int = 0


class ThumbnailBuffer(Thumbnails):
    """Thumbnails that travel with the next update instead of being written."""

    def __init__(self) -> None:
        self._images: list[Thumbnail] = []

    def write(self, digest: str, data: bytes, *, base: bool = False) -> None:
        """Buffer a thumbnail."""
        self._images.append(Thumbnail(digest, data, base))

    def drain(self) -> list[Thumbnail]:
        """Remove and return what was buffered."""
        images, self._images = self._images, []
        return images


class Worker:
    """Attacks the prompts of one job at a time; models are loaded once for all jobs."""

    def __init__(self) -> None:
        self._fingerprints = Fingerprints()
        self._models = ModelCache(self._fingerprints)
        self._engine: Engine | None = None

    def load(self, job: JobSpec) -> WorkerUpdate:
        """Load victim, base and judge of a job, and forget the job before.

        Raises:
            UnlearnDiffError: files are missing here, have other content, or cannot be loaded.
        """
        self._engine = None
        set_registry(Registry(job.rows))
        try:
            here = job.moved({path: _locate(path, job.urls.get(path)) for path in job.files})
            here.check_files(job, self._fingerprints)
            # Only the process that hands out prompts keeps what the judge sees in target images.
            self._control = ControlRecorder(control_campaign(here.campaign), Store(Path(), Mode.OFF))
            self._thumbnails = ThumbnailBuffer()
            thumbnails = self._thumbnails if job.keep_images else None
            # The device comes last: it makes files no other ones.
            source = located(here.source)
            self._engine, description = LocalBackend().build(
                here.campaign, source, self._models, job.batch_size, self._control, thumbnails
            )
        except UnlearnDiffError as error:
            raise type(error)(f"worker on {platform.node()}: {error}") from None
        return WorkerUpdate(platform.node(), self._engine.batch_size, description=description)

    def step(self, prompts: Sequence[Prompt], checkpoints: Mapping[str, bytes]) -> WorkerUpdate:
        """Take on prompts, and do one piece of work on all that are in hand.

        Args:
            prompts: further ones.
            checkpoints: of those whose attack was interrupted, by prompt digest.

        Raises:
            UnlearnDiffError: the victim or the judge cannot be used.
            Exception: what several prompts in a row failed with.
        """
        assert self._engine is not None
        before = computed_forwards()
        self._engine.add(prompts, checkpoints)
        try:
            outcomes = self._engine.step()
        except UnlearnDiffError as error:
            raise type(error)(f"worker on {platform.node()}: {error}") from None
        control, self._control.outcomes = list(self._control.outcomes.values()), {}
        return WorkerUpdate(
            platform.node(),
            self._engine.batch_size,
            outcomes,
            self._engine.take_checkpoints(),
            control,
            self._thumbnails.drain(),
            computed=computed_forwards() - before,
        )


def _locate(path: Path, url: str | None) -> Path:
    """Find a file of a job on this machine, by its path or, where it came from a URL, by that.

    Raises:
        ModelError: it is not here, or cannot be downloaded.
    """
    if os.path.lexists(path):
        return path
    if url is not None:
        return download(url)
    raise ModelError(
        f"there is nothing at {path} on this machine: put it at a path that every machine shares, into every machine's "
        "Hub cache, or give a URL, which each machine downloads"
    )
