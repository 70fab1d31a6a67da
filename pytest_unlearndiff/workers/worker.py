"""A worker: victim, base and judge in a process of their own, which attacks the prompts that it is sent."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.concept import Prompt
from ..core.errors import AttackUnavailable, ModelError, UnlearnDiffError
from ..core.info import Info
from ..core.judge_options import weights_of
from ..core.outcome import Outcome, computed_forwards
from ..core.registry import Registry, set_registry
from ..runs.campaign import Campaign
from ..runs.engine_state import EngineState
from ..runs.local_backend import EngineRequest, LocalBackend
from ..runs.model_cache import ModelCache
from ..runs.model_spec import Fingerprint, ModelSpec, located
from ..runs.positive_control import ControlRecorder, control_campaign
from ..sources.resolve import judge_weights
from ..store.key import Fingerprints
from ..store.store import Mode, Store
from ..store.thumbnails import Thumbnails

if TYPE_CHECKING:
    from ..runs.engine import Engine

PACKAGES = ("pytest-unlearndiff", "torch", "diffusers", "transformers")
"""Packages of one version wherever prompts of a campaign are attacked."""


@dataclass(frozen=True)
class JobSpec:
    """The campaign that workers attack.

    Attributes:
        campaign: with its concept, attack and fingerprints.
        source: files of the victim, at paths that every machine shares.
        batch_size: prompts that a worker attacks together.
        rows: of the registry, added by plugins; workers import what they need of them.
        keep_images: whether thumbnails are wanted.
    """

    campaign: Campaign
    source: ModelSpec
    batch_size: int | None
    rows: tuple[Info, ...] = ()
    keep_images: bool = False

    def check_files(self, fingerprints: Fingerprints) -> None:
        """Compare the files of victim, base, judge and target images with those of the machine that sent the job.

        Raises:
            ModelError: a path leads nowhere here, or to other content.
        """
        source, concept, expected = self.source, self.campaign.concept, self.campaign.fingerprint
        for path in (source.model, *source.adapters, source.base, *weights_of(concept.judge), *concept.images.values()):
            if path is not None and not os.path.lexists(path):
                raise ModelError(
                    f"there is nothing at {path} on this machine: put it at a path that every machine shares, or into "
                    "every machine's Hub cache"
                )
        actual = Fingerprint.of(source, fingerprints, concept.images)
        if actual.victim != expected.victim:
            raise ModelError(
                f"{source.label}, with its base, has {_OTHER} (fingerprint {actual.victim}, there "
                f"{expected.victim}): {_SAME_FILES}"
            )
        # The victim's side of a retention gate has none.
        if expected.targets_digest and actual.targets_digest != expected.targets_digest:
            owner = f"the target images of concept {concept.name!r} have" if concept.images else "the base has"
            raise ModelError(f"{owner} {_OTHER}: {_SAME_FILES}")
        if judge_weights(concept.judge, fingerprints) != self.campaign.judge:
            raise ModelError(f"the judge of concept {concept.name!r} has {_OTHER}: {_SAME_FILES}")


_OTHER = "other content here than where pytest runs"
_SAME_FILES = "give every machine the same files"


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
        control: judgements on the base's own images.
        thumbnails: images to keep.
        description: of what was loaded, in the first update only.
        versions: of the installed PACKAGES, in the first update only.
        computed: forward passes computed since the update before.
        state: of its engine.
    """

    node: str
    batch_size: int
    outcomes: Sequence[Outcome] = ()
    checkpoints: Mapping[str, bytes] = field(default_factory=dict)
    control: Sequence[Outcome] = ()
    thumbnails: Sequence[Thumbnail] = ()
    description: dict[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    computed: int = 0
    state: EngineState = field(default_factory=EngineState)


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
            UnlearnDiffError: files or packages are missing here, files have other content, or cannot be loaded.
        """
        self._engine = None
        set_registry(Registry(job.rows))
        with _named_errors():
            job.check_files(self._fingerprints)
            # Only the process that hands out prompts keeps what the judge sees in target images.
            self._control = ControlRecorder(control_campaign(job.campaign), Store(Path(), Mode.OFF))
            self._thumbnails = ThumbnailBuffer()
            thumbnails = self._thumbnails if job.keep_images else None
            source = located(job.source)
            request = EngineRequest(job.campaign, source, self._models, job.batch_size, self._control, thumbnails)
            self._engine, description = LocalBackend().build(request)
        return WorkerUpdate(
            platform.node(),
            self._engine.batch_size,
            description=description,
            versions=installed_versions(),
            state=self._engine.state,
        )

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
        with _named_errors():
            outcomes = self._engine.step()
        control, self._control.outcomes = list(self._control.outcomes.values()), {}
        return WorkerUpdate(
            platform.node(),
            self._engine.batch_size,
            outcomes,
            self._engine.take_checkpoints(),
            control,
            self._thumbnails.drain(),
            computed=computed_forwards() - before,
            state=self._engine.state,
        )


@contextmanager
def _named_errors() -> Iterator[None]:
    """Name this machine in errors that no other worker would be spared."""
    try:
        yield
    except UnlearnDiffError as error:
        raise type(error)(f"worker on {platform.node()}: {error}") from None
    except ModuleNotFoundError as error:
        raise AttackUnavailable(
            f"worker on {platform.node()}: {error.name} is not installed: install the same packages everywhere"
        ) from None


def installed_versions() -> dict[str, str]:
    """Return the versions of those PACKAGES that are installed here."""
    versions = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions
