"""The engine over many processes: hands prompts out, takes outcomes in, survives workers that are lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from types import MappingProxyType
from typing import Any, Protocol

from ..core.concept import Prompt
from ..core.errors import AttackUnavailable, ModelError, UnlearnDiffError, typed_line
from ..core.outcome import Outcome, Status, count_forwards
from ..core.registry import registry
from ..runs.engine_state import EngineState
from ..runs.local_backend import EngineRequest, PromptEngine
from .scheduler import Scheduler
from .worker import JobSpec, WorkerUpdate, installed_versions

_LOG = logging.getLogger(__name__)

MAX_LOSSES = 3
"""Losses, beyond one per worker, without a finished prompt in between, that end the campaign."""

HEARTBEAT_TIMEOUT = 1800.0
"""Default seconds without an update after which a worker is given up."""


@dataclass(frozen=True)
class WorkerEvent:
    """Update or error of a worker.

    Attributes:
        worker: its name.
        update: its answer; None if it failed.
        error: exception that it raised, or reason of its process's death.
        alive: True if its process still runs after the error.
    """

    worker: str
    update: WorkerUpdate | None = None
    error: Exception | None = None
    alive: bool = False


class WorkerBackend(Protocol):
    """Processes that attack. Every call of ``start``, ``restart`` and ``step`` leads to an event."""

    def start(self, job: JobSpec, most: int) -> Sequence[str]:
        """Have at most this many workers load a job; returns their names.

        Raises:
            AttackUnavailable: no machine has resources for a worker.
        """
        ...

    def step(self, worker: str, prompts: Sequence[Prompt], checkpoints: Mapping[str, bytes]) -> None:
        """Hand prompts to a worker, with their checkpoints, and have it do one piece of work on all that it has."""
        ...

    def restart(self, worker: str, *, alive: bool) -> None:
        """Have a fresh process take a lost worker's place and load the job; end the old one if it still runs."""
        ...

    def events(self, seconds: float) -> list[WorkerEvent]:
        """Wait at most this many seconds for events."""
        ...


@dataclass(frozen=True)
class WorkerPoolConfig:
    """A backend of campaigns: processes that attack instead of this one, which then needs no torch.

    Attributes:
        backend: the processes.
        heartbeat_timeout: seconds without an update after which a worker is given up.
    """

    backend: WorkerBackend
    heartbeat_timeout: float
    needs_torch: bool = False

    def build(self, request: EngineRequest) -> tuple[PromptEngine, dict[str, Any]]:
        """Have workers load victim, base and judge; what they report is kept here. See ``runs.Backend``.

        Raises:
            ModelError: the victim is a pipeline in this process.
        """
        spec, thumbnails = request.spec, request.thumbnails
        if spec.pipe is not None:
            raise ModelError(
                f"{spec.label} cannot be sent to workers: give the model by path, with --unlearndiff-model, or leave "
                "out --unlearndiff-workers"
            )
        if spec.device.startswith("cuda"):
            spec = replace(spec, device="cuda")  # a worker sees only its own GPU

        def on_update(update: WorkerUpdate) -> None:
            request.control.add(update.control)
            if thumbnails is not None:
                for image in update.thumbnails:
                    thumbnails.write(image.digest, image.data, base=image.base)

        job = JobSpec(request.campaign, spec, request.batch_size, registry().added, thumbnails is not None)
        engine = DistributedEngine(self, job, on_update)
        return engine, engine.description


@dataclass
class DistributedEngine:
    """Attacks prompts with many workers, and yields each outcome as it arrives.

    It has the engine's interface, so that a campaign is the same with and without workers: only the campaign's process
    writes the store.

    Attributes:
        pool: the workers.
        job: the campaign they attack.
        on_update: is told of every update, for what is neither outcome nor progress.
        active: prompts in workers' hands.
        worker_count: workers that were called.
        description: of what was loaded; empty until a worker has loaded it.
    """

    pool: WorkerPoolConfig
    job: JobSpec
    on_update: Callable[[WorkerUpdate], None]
    active: int = 0
    worker_count: int = 0
    description: dict[str, Any] = field(default_factory=dict)
    _new_checkpoints: dict[str, bytes] = field(default_factory=dict)
    _states: dict[str, EngineState] = field(default_factory=dict)

    def run(
        self, prompts: Sequence[Prompt], checkpoints: Mapping[str, bytes] = MappingProxyType({})
    ) -> Generator[Outcome | None]:
        """Yield outcomes of prompts as they arrive; None at least every second.

        Args:
            prompts: the prompts.
            checkpoints: of prompts whose attack was interrupted, by prompt digest.

        Raises:
            AttackUnavailable: there is no worker, one after the other is lost, or their packages differ.
            UnlearnDiffError: a worker cannot use the victim or the judge.
        """
        self._losses, self._last_check = 0, 0.0
        self._versions = installed_versions()
        self._idle, self._nodes = dict[str, int](), dict[str, str]()
        self._checkpoints = dict(checkpoints)
        workers = self.pool.backend.start(self.job, len(prompts))
        self.worker_count = len(workers)
        self._asked = dict.fromkeys(workers, time.monotonic())
        self._scheduler = Scheduler(prompts, len(workers))
        try:
            while self._scheduler:
                events = self.pool.backend.events(1.0)
                for event in [*events, *self._silent({event.worker for event in events})]:
                    yield from self._handle(event)
                self._hand_out()
                self.active = self._scheduler.held
                yield None
        finally:
            self.active = 0

    @property
    def state(self) -> EngineState:
        """How far all prompts are, those that no worker has among them, as workers said last."""
        states = self._states.values()
        rounds, waiting = tuple(chain.from_iterable(state.rounds for state in states)), sum(s.waiting for s in states)
        return EngineState(
            self._scheduler.left - waiting - len(rounds) if states else 0,
            waiting,
            rounds,
            sum(state.batch_size for state in states),
            max((state.image_forwards for state in states), default=0),
            tuple(states),
        )

    def take_checkpoints(self) -> dict[str, bytes]:
        """Checkpoints of prompts in progress, by prompt digest, that are new since the last call."""
        checkpoints, self._new_checkpoints = self._new_checkpoints, {}
        return checkpoints

    def _handle(self, event: WorkerEvent) -> Iterator[Outcome]:
        self._asked.pop(event.worker, None)
        if event.update is None:
            assert event.error is not None
            yield from self._lost(event.worker, event.error, alive=event.alive)
            return
        update = event.update
        self._check_versions(update)
        self._nodes[event.worker] = update.node
        self._idle[event.worker] = update.batch_size
        self.description |= update.description
        count_forwards(update.computed)
        self.on_update(update)
        self._checkpoints |= update.checkpoints
        self._new_checkpoints |= update.checkpoints
        self._states[event.worker] = update.state
        for outcome in update.outcomes:
            self._scheduler.done(event.worker, outcome.prompt)
            self._checkpoints.pop(outcome.prompt, None)
            self._new_checkpoints.pop(outcome.prompt, None)
            if outcome.status is not Status.ERROR:
                self._losses = 0
        yield from update.outcomes

    def _check_versions(self, update: WorkerUpdate) -> None:
        """Compare a worker's packages with those here; packages that only workers need, with the first worker's.

        Raises:
            AttackUnavailable: they differ.
        """
        expected = self._versions = {**update.versions, **self._versions}
        different = [f"{name} {v}, not {expected[name]}" for name, v in update.versions.items() if v != expected[name]]
        if different:
            raise AttackUnavailable(
                f"the worker on {update.node} has {', '.join(different)}: install the same versions everywhere"
            )

    def _hand_out(self) -> None:
        """Let every idle worker go on, if it has anything to do."""
        for worker, batch_size in list(self._idle.items()):
            prompts = self._scheduler.take(worker, batch_size)
            if prompts or self._scheduler.holds(worker):
                del self._idle[worker]
                self._asked[worker] = time.monotonic()
                saved = {p.digest: self._checkpoints[p.digest] for p in prompts if p.digest in self._checkpoints}
                self.pool.backend.step(worker, prompts, saved)

    def _silent(self, heard: set[str]) -> list[WorkerEvent]:
        """Return errors of workers whose last answer is overdue; checked once a second for up to a thousand workers."""
        now, timeout = time.monotonic(), self.pool.heartbeat_timeout
        if now < self._last_check + 1:
            return []
        self._last_check = now
        silent = [worker for worker, asked in self._asked.items() if asked < now - timeout and worker not in heard]
        error = TimeoutError(f"it gave no sign for {timeout:.0f} seconds")
        return [WorkerEvent(worker, error=error, alive=True) for worker in silent]

    def _lost(self, worker: str, error: Exception, *, alive: bool) -> list[Outcome]:
        """Replace a worker, and have what it had in hand tried again.

        Raises:
            UnlearnDiffError: the worker refuses the job, or too many were lost.
        """
        if isinstance(error, UnlearnDiffError):
            raise error
        node = self._nodes.get(worker, "a machine that never answered")
        reason = typed_line(error)
        _LOG.warning("a worker on %s is lost, its prompts are tried elsewhere: %s", node, reason)
        self._losses += 1
        if self._losses == self.worker_count + MAX_LOSSES:
            raise AttackUnavailable(
                f"{self._losses} workers were lost and none of them finished a prompt; the last, on {node}: {reason}"
            )
        self._states.pop(worker, None)
        self.pool.backend.restart(worker, alive=alive)
        self._asked[worker] = time.monotonic()
        return self._scheduler.lost(worker, f"{reason} (on {node})")
