"""The engine: first the sweep without attack, then lanes that are refilled as prompts finish."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..core.concept import Prompt
from ..core.drawing import Drawing
from ..core.judgement import Judgement
from ..core.outcome import Outcome, Status
from .evaluation import Evaluation

if TYPE_CHECKING:
    from ..attacks.lane import Attack, Lane
    from ..models.targets import Targets
    from ..models.victim import Victim


@dataclass
class Seat:
    """A lane in progress, with what its prompt has cost so far."""

    lane: Lane
    first: Judgement
    evaluations: int = 1
    seconds: float = 0.0
    last: tuple[Drawing, Judgement] | None = field(default=None)


class Engine:
    """Attacks prompts, at most ``lanes`` at a time, and yields each outcome as it is known.

    Args:
        attack: how tokens are searched.
        victim: what is attacked.
        targets: where target images come from; None for attacks that need none.
        evaluation: draws and judges.
        lanes: prompts attacked together.
        seed: run seed.
    """

    def __init__(
        self,
        attack: Attack[Any],
        victim: Victim,
        targets: Targets | None,
        evaluation: Evaluation,
        lanes: int,
        seed: int,
    ) -> None:
        self._attack = attack
        self._victim = victim
        self._targets = targets
        self._evaluate = evaluation
        self._lanes = lanes
        self._seed = seed
        self.active = 0

    def run(self, prompts: Sequence[Prompt]) -> Generator[Outcome | None]:
        """Outcomes of prompts as they finish, which is not their order; None after each round of work without one."""
        waiting: deque[tuple[Prompt, Judgement]] = deque()
        for first in range(0, len(prompts), self._lanes):
            yield from self._sweep(prompts[first : first + self._lanes], waiting)
            yield None
        seats: list[Seat] = []
        while waiting or seats:
            seats += self._seat([waiting.popleft() for _ in range(min(self._lanes - len(seats), len(waiting)))])
            self.active = len(seats)
            for seat, outcome in self._advance(seats):
                seats.remove(seat)
                self.active = len(seats)
                yield outcome
            yield None

    def _sweep(self, prompts: Sequence[Prompt], waiting: deque[tuple[Prompt, Judgement]]) -> Iterator[Outcome]:
        """Judge the un-attacked pictures; those without the concept wait to be attacked."""
        started = time.monotonic()
        judgements = self._evaluate([Drawing(p.text, p.seed, p.guidance) for p in prompts])
        for prompt, judgement in zip(prompts, judgements, strict=True):
            if not judgement.hit:
                waiting.append((prompt, judgement))
                continue
            yield Outcome(
                prompt.digest,
                Status.GENERATED,
                seed=prompt.seed,
                evaluations=1,
                forwards=self._victim.picture_forwards,
                score=judgement.score,
                detail=judgement.detail,
                seconds=(time.monotonic() - started) / len(prompts),
            )

    def _seat(self, entries: Sequence[tuple[Prompt, Judgement]]) -> list[Seat]:
        """Fresh lanes for waiting prompts."""
        if not entries:
            return []
        lanes = self._attack.start([prompt for prompt, _ in entries], self._victim, self._targets, self._seed)
        return [Seat(lane, judgement) for lane, (_, judgement) in zip(lanes, entries, strict=True)]

    def _advance(self, seats: Sequence[Seat]) -> list[tuple[Seat, Outcome]]:
        """One block on every lane, then the judge; returns the lanes that came to an end."""
        started = time.monotonic()
        drawings = self._attack.advance([seat.lane for seat in seats], self._victim)
        judgements = iter(self._evaluate([drawing for drawing in drawings if drawing is not None]))
        share = (time.monotonic() - started) / len(seats)
        ended = []
        for seat, drawing in zip(seats, drawings, strict=True):
            seat.seconds += share
            if drawing is None:
                ended.append((seat, self._outcome(seat, Status.ERROR if seat.lane.error else Status.RESISTED)))
                continue
            judgement = next(judgements)
            seat.evaluations += 1
            seat.last = drawing, judgement
            if judgement.hit:
                ended.append((seat, self._outcome(seat, Status.BROKEN)))
        return ended

    def _outcome(self, seat: Seat, status: Status) -> Outcome:
        lane = seat.lane
        drawing, judgement = seat.last or (None, seat.first)
        broken = status is Status.BROKEN
        return Outcome(
            lane.prompt.digest,
            status,
            adversarial=drawing.text if broken and drawing else None,
            inserted=lane.inserted if broken else None,
            seed=drawing.seed if drawing else lane.prompt.seed,
            evaluations=seat.evaluations,
            steps=lane.steps,
            forwards=lane.forwards + seat.evaluations * self._victim.picture_forwards,
            score=judgement.score,
            detail=judgement.detail,
            seconds=seat.seconds,
            error=lane.error,
        )
