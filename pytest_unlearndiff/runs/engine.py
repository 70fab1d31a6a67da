"""The engine: first the sweep without attack, then prompts that are refilled as prompts finish."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from ..core.concept import Prompt
from ..core.drawing import GenerationRequest
from ..core.errors import UnlearnDiffError, UnusableTargets, one_line
from ..core.judgement import Evaluated, Judgement
from ..core.outcome import Outcome, Status
from .begun import Begun, Packer
from .evaluation import Evaluation
from .queue import Queue

if TYPE_CHECKING:
    from ..attacks.base import Attack, PromptState
    from ..models.diffusion_model import DiffusionModel
    from ..models.memory import MemoryMeter
    from ..models.target_images import Targets


_LOG = logging.getLogger(__name__)

MAX_FAILURES = 3
"""Prompts that may fail one after the other, each attacked alone, before the fault must lie elsewhere."""


@dataclass(frozen=True)
class PendingPrompt:
    """A prompt that waits to be attacked.

    Attributes:
        prompt: which.
        first: judgement on its un-attacked image.
        image: digest of that image; None where it was blocked.
        seconds: what attempts that failed have cost.
    """

    prompt: Prompt
    first: Judgement
    image: str | None = None
    seconds: float = 0.0


@dataclass
class RunningPrompt:
    """A lane in progress, with what its prompt has cost so far, and how many of its images were blocked."""

    state: PromptState
    entry: PendingPrompt
    evaluations: int = 1
    blocked: int = 0
    seconds: float = 0.0
    last: tuple[GenerationRequest, Judgement] | None = field(default=None)


class ErrorAction(Enum):
    """What to do about an exception."""

    SMALLER = auto()
    """Try again; less memory is needed now."""
    ALONE = auto()
    """Try again, each prompt alone."""
    GIVE_UP = auto()
    """The one prompt concerned ends in an error."""


class Engine:
    """Attacks prompts, at most ``prompts`` at a time, and yields each outcome as it is known.

    Where memory runs out, it goes on with half as many prompts, in smaller batches. Where anything else goes wrong, the
    prompts concerned are tried again, each alone, and one that fails then ends in an error. Whatever is tried again
    starts afresh, so that its outcome is what it would have been.

    Args:
        attack: how tokens are searched.
        victim: what is attacked.
        targets: where target images come from; None for attacks that need none.
        evaluation: draws and judges.
        batch_size: prompts attacked together; 0 for as many as a GPU's memory has room for, told by the first round.
        seed: run seed.
        around: holds while it works, such as the device's arithmetic.
    """

    def __init__(
        self,
        attack: Attack[Any],
        victim: DiffusionModel,
        targets: Targets | None,
        evaluation: Evaluation,
        batch_size: int,
        seed: int,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._attack = attack
        self._victim = victim
        self._targets = targets
        self._evaluate = evaluation
        self._grows = not batch_size
        self._batch_size = batch_size or _start()
        self._seed = seed
        self._around = around
        self._failures = 0
        self._packer = Packer(victim, targets)
        self._queue = Queue[PendingPrompt](())
        self._seats: list[RunningPrompt] = []
        self.active = 0

    def run(self, prompts: Sequence[Prompt]) -> Generator[Outcome | None]:
        """Outcomes of prompts as they finish, which is not their order; None after each round of work without one.

        Raises:
            UnlearnDiffError: the victim or the judge cannot be used.
            Exception: what MAX_FAILURES prompts in a row failed with; the rest is not attacked.
        """
        self._failures = 0
        waiting: list[PendingPrompt] = []
        try:
            yield from self._computed(self._sweep(prompts, waiting))
            yield from self._computed(self._attacked(waiting))
        finally:
            self.active = 0
            self._seats = []

    @property
    def rounds(self) -> tuple[int, ...]:
        """The round of its search that each prompt in a lane is in, from 1."""
        return tuple(seat.evaluations for seat in self._seats)

    @property
    def batch_size(self) -> int:
        """Prompts attacked together; fewer than at first where memory ran out."""
        return self._batch_size

    def serve(self, arrived: Callable[[], Sequence[Prompt | Begun]]) -> Generator[Outcome | None]:
        """Outcomes of prompts that come in one after the other; it never ends by itself.

        Args:
            arrived: what came since it was last asked; it is asked before every round of work.

        Raises:
            UnlearnDiffError: as ``run``.
            Exception: as ``run``.
        """
        self._failures = 0
        yield from self._computed(self._served(arrived))

    def give_back(self) -> list[Begun]:
        """What is in prompts, between two rounds, for other processes to go on with.

        What cannot be packed stays, and so does a prompt that is tried alone because something failed.
        """
        if self._queue.careful:
            return []
        begun = [(seat, packed) for seat in self._seats if (packed := self._packer.pack(seat)) is not None]
        for seat, _ in begun:
            self._seats.remove(seat)
        return [packed for _, packed in begun]

    def _computed(self, work: Generator[Outcome | None]) -> Generator[Outcome | None]:
        """The same, each piece in the engine's arithmetic, which whoever takes it in between must not see."""
        with closing(work):
            while True:
                with self._around():
                    try:
                        piece = next(work)
                    except StopIteration:
                        return
                yield piece

    def _served(self, arrived: Callable[[], Sequence[Prompt | Begun]]) -> Generator[Outcome | None]:
        queue = self._queue = Queue[PendingPrompt](())
        self._seats = []
        while True:
            waiting: list[PendingPrompt] = []
            came = arrived()
            self._seats += [self._packer.unpack(each) for each in came if isinstance(each, Begun)]
            if prompts := [each for each in came if isinstance(each, Prompt)]:
                yield from self._sweep(prompts, waiting)
                queue.add(waiting)
            if queue or self._seats:
                yield from self._turn(queue, self._seats)
            else:
                yield None

    def _sweep(self, prompts: Sequence[Prompt], waiting: list[PendingPrompt]) -> Generator[Outcome | None]:
        """Judge the un-attacked images; those without the concept wait to be attacked."""
        queue = Queue(prompts)
        while queue:
            part, started = queue.take(self._batch_size), time.monotonic()
            ended: list[Outcome] = []
            try:
                evaluated = self._evaluate([GenerationRequest(p.text, p.seed, p.guidance) for p in part])
            except Exception as error:
                if (remedy := self._remedy(error, len(part))) is ErrorAction.GIVE_UP:
                    queue.done()
                    ended = [self._lost(part[0], error)]
                else:
                    queue.put_back(part, alone=remedy is ErrorAction.ALONE)
            else:
                queue.done()
                self._failures = 0
                share = (time.monotonic() - started) / len(part)
                for prompt, each in zip(part, evaluated, strict=True):
                    if each.judgement is None or each.judgement.hit:
                        ended.append(self._unattacked(prompt, each, share))
                    else:
                        waiting.append(PendingPrompt(prompt, each.judgement, each.image))
            yield from ended
            yield None

    def _unattacked(self, prompt: Prompt, evaluated: Evaluated, seconds: float) -> Outcome:
        """The outcome of a prompt that its un-attacked image ends: a hit, or no evidence of anything."""
        judgement = evaluated.judgement
        return Outcome(
            prompt.digest,
            Status.ERROR if judgement is None else Status.HIT_WITHOUT_ATTACK,
            seed=prompt.seed,
            evaluations=1,
            forwards=self._victim.forwards_per_image,
            score=judgement.score if judgement is not None else None,
            detail=judgement.detail if judgement is not None else "",
            seconds=seconds,
            error=evaluated.problem,
            tokens=self._victim.tokens(prompt.text),
            image=evaluated.image,
        )

    def _lost(self, prompt: Prompt, error: Exception) -> Outcome:
        tokens = self._victim.tokens(prompt.text)
        return Outcome(prompt.digest, Status.ERROR, seed=prompt.seed, error=_said(error), tokens=tokens)

    def _attacked(self, waiting: Sequence[PendingPrompt]) -> Generator[Outcome | None]:
        """Attack what waits, in prompts that are refilled as prompts finish."""
        queue, self._seats = Queue(waiting), []
        while queue or self._seats:
            yield from self._turn(queue, self._seats)

    def _turn(self, queue: Queue[PendingPrompt], seats: list[RunningPrompt]) -> Iterator[Outcome | None]:
        """One round of work on the prompts, and what becomes of it."""
        taken, started = queue.take(self._batch_size, len(seats)), time.monotonic()
        self.active = len(seats) + len(taken)
        try:
            ended = self._round(queue, seats, taken)
        except Exception as error:
            remedy = self._remedy(error, len({*(seat.entry for seat in seats), *taken}))
            back = self._unseated(seats, taken, time.monotonic() - started)
            if remedy is ErrorAction.GIVE_UP:
                ended = [self._failed(back[0], _said(error))]
                queue.done()
            else:
                ended = []
                queue.put_back(back, alone=remedy is ErrorAction.ALONE)
        for outcome in ended:
            self.active -= 1
            yield outcome
        yield None

    def _round(
        self, queue: Queue[PendingPrompt], seats: list[RunningPrompt], taken: Sequence[PendingPrompt]
    ) -> list[Outcome]:
        """Seat what was taken from the queue, then one block on every lane; returns outcomes of those that ended."""
        meter = self._meter()
        new, lost = self._started(taken)
        seats += new
        ended = self._advance(seats) if seats else []
        if meter is not None and seats:
            self._grows, self._batch_size = False, meter.fitting(len(seats), self._batch_size)
        for seat, _ in ended:
            seats.remove(seat)
        for _ in (*ended, *lost):
            queue.done()
            self._failures = 0
        return [*lost, *(outcome for _, outcome in ended)]

    def _started(self, taken: Sequence[PendingPrompt]) -> tuple[list[RunningPrompt], list[Outcome]]:
        """Seats for what was taken from the queue, and errors of those prompts whose target image cannot be used."""
        lost: list[Outcome] = []
        while taken:
            try:
                batch_size = self._attack.start(
                    [entry.prompt for entry in taken], self._victim, self._targets, self._seed
                )
            except UnusableTargets as error:
                lost += [self._failed(e, said) for e in taken if (said := error.problems.get(e.prompt.digest))]
                rest = [entry for entry in taken if entry.prompt.digest not in error.problems]
                if len(rest) == len(taken):
                    raise
                taken = rest
            else:
                return [_seat(state, entry) for state, entry in zip(batch_size, taken, strict=True)], lost
        return [], lost

    def _meter(self) -> MemoryMeter | None:
        """What measures this round, where the number of prompts follows from it."""
        if not self._grows:
            return None
        from ..models.memory import MemoryMeter

        return MemoryMeter(self._victim.device)

    def _unseated(
        self, seats: list[RunningPrompt], taken: Sequence[PendingPrompt], seconds: float
    ) -> list[PendingPrompt]:
        """Clear the prompts; returns their prompts, and those that did not get as far as a lane, to start afresh."""
        spent = {seat.entry.prompt: seat.seconds for seat in seats}
        entries = list(dict.fromkeys([*(seat.entry for seat in seats), *taken]))
        seats.clear()
        share = seconds / len(entries)
        return [replace(entry, seconds=spent.get(entry.prompt, entry.seconds) + share) for entry in entries]

    def _failed(self, entry: PendingPrompt, error: str) -> Outcome:
        return Outcome(
            entry.prompt.digest,
            Status.ERROR,
            seed=entry.prompt.seed,
            evaluations=1,
            forwards=self._victim.forwards_per_image,
            score=_score(entry.first),
            detail=entry.first.detail,
            seconds=entry.seconds,
            error=error,
            tokens=self._victim.tokens(entry.prompt.text),
            image=entry.image,
        )

    def _remedy(self, error: Exception, concerned: int) -> ErrorAction:
        """What to do about an exception that this many prompts were in.

        Raises:
            Exception: this one, where nothing helps.
        """
        from ..models.batches import out_of_memory

        if isinstance(error, UnlearnDiffError):
            raise error
        if out_of_memory(error) and self._shrink():
            _LOG.warning("out of memory: going on with %d prompts at a time, in smaller batches", self._batch_size)
            return ErrorAction.SMALLER
        if concerned > 1:
            return ErrorAction.ALONE
        if isinstance(error, UnusableTargets):  # it says itself that the fault is the prompt's
            return ErrorAction.GIVE_UP
        self._failures += 1
        if self._failures == MAX_FAILURES:
            raise error
        return ErrorAction.GIVE_UP

    def _shrink(self) -> bool:
        """Halve prompts and batches; returns whether there was anything to halve."""
        from ..models.batches import halve_batches

        self._grows, fewer, self._batch_size = False, self._batch_size > 1, max(1, self._batch_size // 2)
        return halve_batches() or fewer

    def _advance(self, seats: Sequence[RunningPrompt]) -> list[tuple[RunningPrompt, Outcome]]:
        """One block on every lane, then the judge; returns the prompts that came to an end."""
        started = time.monotonic()
        drawings = self._attack.advance([seat.state for seat in seats], self._victim)
        evaluated = iter(self._evaluate([drawing for drawing in drawings if drawing is not None]))
        share = (time.monotonic() - started) / len(seats)
        ended = []
        for seat, drawing in zip(seats, drawings, strict=True):
            seat.seconds += share
            if drawing is None:
                ended.append((seat, self._outcome(seat, self._exhausted(seat), seat.state.error)))
                continue
            found = next(evaluated)
            seat.evaluations += 1
            if found.judgement is None:
                said = f"in round {seat.evaluations - 1} of its attack, {found.problem}"
                ended.append((seat, self._outcome(seat, Status.ERROR, said)))
                continue
            seat.last = drawing, found.judgement
            seat.blocked += found.judgement.blocked
            if found.judgement.hit:
                ended.append((seat, self._outcome(seat, Status.HIT_UNDER_ATTACK)))
        return ended

    def _exhausted(self, seat: RunningPrompt) -> Status:
        """Decide how a prompt ends whose attack has nothing more to try."""
        if seat.state.error:
            return Status.ERROR
        return Status.BLOCKED if seat.blocked else Status.RESISTED

    def _outcome(self, seat: RunningPrompt, status: Status, error: str | None = None) -> Outcome:
        state = seat.state
        drawing, judgement = seat.last or (None, seat.entry.first)
        broken = status is Status.HIT_UNDER_ATTACK
        detail = judgement.detail
        if status is Status.BLOCKED:
            detail = f"the model's own safety checker blocked {seat.blocked} of {seat.evaluations} images"
        return Outcome(
            state.prompt.digest,
            status,
            adversarial=drawing.text if broken and drawing else None,
            inserted=state.inserted if broken else None,
            seed=drawing.seed if drawing else state.prompt.seed,
            evaluations=seat.evaluations,
            steps=state.steps,
            forwards=state.forwards + seat.evaluations * self._victim.forwards_per_image,
            score=_score(judgement),
            detail=detail,
            seconds=seat.seconds,
            error=error,
            timestep=state.timestep if broken else None,
            tokens=self._victim.tokens(state.prompt.text),
            image=seat.entry.image,
        )


def _start() -> int:
    from ..models.memory import START

    return START


def _seat(state: PromptState, entry: PendingPrompt) -> RunningPrompt:
    return RunningPrompt(state, entry, blocked=int(entry.first.blocked), seconds=entry.seconds)


def _score(judgement: Judgement) -> float | None:
    """What the judge said; None where nobody asked it."""
    return None if judgement.blocked else judgement.score


def _said(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {one_line(error)}"
