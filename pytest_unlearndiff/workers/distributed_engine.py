"""The engine's interface over many processes: hands prompts out, takes outcomes in, survives workers that are lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..core.concept import Prompt
from ..core.errors import AttackUnavailable, UnlearnDiffError, one_line
from ..core.forward_passes import count_forwards
from ..core.outcome import Outcome, Status
from ..runs.begun import Begun
from .scheduler import Scheduler
from .worker import POLL_SECONDS, JobSpec, Report

_LOG = logging.getLogger(__name__)

MAX_LOSSES = 3
"""Workers beyond the first of each place that may be lost with no prompt finished between, before it is no accident."""

SILENCE = 1800.0
"""Seconds without a report after which a worker is given up, unless a session says otherwise."""


REPORT = 0.002
"""Seconds of this process that a report costs, as ``tests/benchmark/scheduling.py --ray`` measures."""


@dataclass(frozen=True)
class WorkerEvent:
    """What was heard of a worker.

    Attributes:
        worker: which.
        report: what it says; None for its first sign of life, and where ``error`` says what went wrong.
        error: what it raised, or that its process is gone.
        lives: whether it told the error itself, and could go on.
    """

    worker: str
    report: Report | None = None
    error: Exception | None = None
    lives: bool = False


class WorkerBackend(Protocol):
    """Processes that attack, wherever they are."""

    def gather(self, order: JobSpec, most: int) -> int:
        """Call at most this many workers, those that exist and new ones; each gives a sign of life when it is there.

        Returns:
            How many were called.

        Raises:
            CannotAttack: there is no place for any, or none that could do the work.
        """
        ...

    def open(self, worker: str) -> None:
        """Have a worker load what the order needs; it reports."""
        ...

    def send(self, worker: str, files: Mapping[Path, str]) -> None:
        """Send a worker's machine files it lacks, with their content hashes; the worker gives a sign of life again."""
        ...

    def turn(self, worker: str, prompts: Sequence[Prompt | Begun], patience: float, *, brief: bool) -> None:
        """Hand prompts to a worker, which goes on with those it has; it reports.

        Args:
            worker: which.
            prompts: fresh ones, and such as others have begun.
            patience: seconds after which it reports although no prompt ended.
            brief: whether it then gives back what it has begun.
        """
        ...

    def news(self, seconds: float) -> list[WorkerEvent]:
        """What was heard within this time; it waits only until there is something."""
        ...

    def replace(self, worker: str, *, lives: bool) -> None:
        """End a worker for good and call another one; or call one that lives again, where it also works for others."""
        ...

    def place(self, worker: str) -> str:
        """Where a worker is, for people."""
        ...


@dataclass(frozen=True)
class WorkerPoolConfig:
    """Who attacks, where it is not this process.

    Attributes:
        team: the processes.
        silence: seconds without a report after which a worker is given up.
    """

    team: WorkerBackend
    silence: float


@dataclass
class Workers:
    """Attacks prompts with many workers, and yields each outcome as it is heard of.

    It has the engine's interface, so that a campaign is the same with and without workers: only the campaign's process
    writes the store.

    Attributes:
        crew: who they are.
        order: what they do.
        received: told of every report, for what is neither outcome nor progress.
        active: prompts in workers' hands.
        rounds: none, for only workers know how far they are.
        count: workers that were called.
        described: what was loaded; empty until a worker has loaded it.
    """

    crew: WorkerPoolConfig
    order: JobSpec
    received: Callable[[Report], None]
    active: int = 0
    rounds: tuple[int, ...] = ()
    count: int = 0
    described: dict[str, Any] = field(default_factory=dict)

    def run(self, prompts: Sequence[Prompt]) -> Generator[Outcome | None]:
        """Outcomes of prompts as they are heard of; None at least every second.

        Raises:
            CannotAttack: there is no worker, or one after the other is lost.
            UnlearnDiffError: a worker cannot use the victim or the judge.
        """
        self._handout, self._idle, self._asked, self._losses = (
            Scheduler(prompts),
            dict[str, int](),
            dict[str, float](),
            0,
        )
        self._looked = 0.0
        try:
            self.count = self._handout.workers = self.crew.team.gather(self.order, len(prompts))
            while self._handout:
                heard = self.crew.team.news(1.0)
                for news in [*heard, *self._silent({news.worker for news in heard})]:
                    yield from self._take_in(news)
                self._hand_out()
                self.active = self._handout.held
                yield None
        finally:
            self.active = 0

    def _take_in(self, news: WorkerEvent) -> Iterator[Outcome]:
        self._asked.pop(news.worker, None)
        if news.error is not None:
            yield from self._lost(news.worker, news.error, lives=news.lives)
        elif news.report is None:
            self._ask(news.worker)
            self.crew.team.open(news.worker)
        elif news.report.lacks:
            self._ask(news.worker)
            self.crew.team.send(news.worker, {path: self.order.files[path] for path in news.report.lacks})
        else:
            self.described |= news.report.described
            count_forwards(news.report.computed)
            self.received(news.report)
            for outcome in news.report.outcomes:
                self._handout.done(news.worker, outcome.prompt)
                if outcome.status is not Status.ERROR:
                    self._losses = 0
                yield outcome
            self._handout.give_back(news.worker, news.report.begun)
            self._idle[news.worker] = news.report.batch_size

    def _hand_out(self) -> None:
        """Let every worker that waits go on, if it has anything to do."""
        for worker, batch_size in list(self._idle.items()):
            taken = self._handout.take(worker, batch_size)
            if taken or self._handout.holds(worker):
                del self._idle[worker]
                self._ask(worker)
                self._turn(worker, taken)

    def _turn(self, worker: str, taken: Sequence[Prompt | Begun]) -> None:
        """Brief turns last no less than it takes to hear of every worker once, or nobody would be heard in time."""
        brief = self._handout.brief(worker)
        self.crew.team.turn(worker, taken, self.count * REPORT if brief else POLL_SECONDS, brief=brief)

    def _ask(self, worker: str) -> None:
        self._asked[worker] = time.monotonic()

    def _silent(self, heard: set[str]) -> list[WorkerEvent]:
        """Workers that were asked too long ago; looked for at most once a second, since there may be a thousand."""
        now = time.monotonic()
        if now < self._looked + 1:
            return []
        self._looked, late = now, now - self.crew.silence
        silent = [worker for worker, asked in self._asked.items() if asked < late and worker not in heard]
        error = TimeoutError(f"it gave no sign for {self.crew.silence:.0f} seconds")
        return [WorkerEvent(worker, error=error) for worker in silent]

    def _lost(self, worker: str, error: Exception, *, lives: bool) -> list[Outcome]:
        """Call another worker and have what this one had in hand tried again.

        Raises:
            UnlearnDiffError: the worker refuses, or too many were lost.
        """
        place = self.crew.team.place(worker)
        if isinstance(error, UnlearnDiffError):
            raise type(error)(f"worker on {place}: {error}") from None
        reason = f"{type(error).__name__}: {one_line(error)}"
        _LOG.warning("a worker on %s is lost, its prompts are tried elsewhere: %s", place, reason)
        self._losses += 1
        if self._losses == self.count + MAX_LOSSES:
            raise AttackUnavailable(
                f"{self._losses} workers were lost and none of them finished a prompt; the last, on {place}: {reason}"
            )
        self.crew.team.replace(worker, lives=lives)
        return self._handout.lost(worker, f"{reason} (on {place})")
