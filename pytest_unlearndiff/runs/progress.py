"""What a running campaign says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..core.outcome import Counts


@dataclass(frozen=True)
class Snapshot:
    """Where a campaign stands.

    Attributes:
        concept: what is attacked.
        attack: how.
        tally: outcomes so far, those from the store included.
        active: prompts being attacked now.
        known: how many outcomes came from the store.
        seconds: since this campaign began.
        workers: how many processes attack; 0 where it is this one.
        left_alone: prompts that will not be attacked.
        rounds: the round of its search that each prompt is in which this process attacks, from 1.
        last_round: of a prompt that resists; 0 where that is not known.
    """

    concept: str
    attack: str
    tally: Counts
    active: int
    known: int
    seconds: float
    workers: int = 0
    left_alone: int = 0
    rounds: tuple[int, ...] = ()
    last_round: int = 0

    @property
    def pace(self) -> float | None:
        """Prompts a minute that one worker finishes; None without workers, or before anything is finished."""
        fresh = self.tally.total - self.tally.missing - self.known
        return 60 * fresh / self.seconds / self.workers if fresh and self.workers else None

    @property
    def seconds_left(self) -> float | None:
        """Time left if the rest goes as what this session finished; None before anything is finished."""
        done = self.tally.total - self.tally.missing
        fresh = done - self.known
        return self.seconds / fresh * max(self.tally.missing - self.left_alone, 0) if fresh else None


class Progress(Protocol):
    """Somebody who wants to know."""

    def __call__(self, snapshot: Snapshot) -> None:
        """Take note; called often, so be quick."""
        ...
