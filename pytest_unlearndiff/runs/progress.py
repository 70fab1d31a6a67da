"""Progress of a running campaign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..core.outcome import Counts
from ..core.registry import registry
from .campaign import Campaign
from .local_backend import PromptEngine


@dataclass(frozen=True)
class Snapshot:
    """State of a running campaign.

    Attributes:
        concept: name of the concept.
        attack: title of the attack.
        counts: outcomes so far, those from the store included.
        active: prompts being attacked now.
        known: number of outcomes from the store.
        seconds: since this campaign began.
        workers: processes that attack; 0 if this one does.
        left_alone: prompts that will not be attacked.
        rounds: current round of each prompt under attack, from 1, as far as that is known.
        last_round: last round of a prompt that resists; 0 if unknown.
        measures: whether images are measured and nothing decided on each.
        seconds_left: until the campaign ends, as ``TimeForecast`` expects; None before that can be told.
    """

    concept: str
    attack: str
    counts: Counts
    active: int
    known: int
    seconds: float
    workers: int = 0
    left_alone: int = 0
    rounds: tuple[int, ...] = ()
    last_round: int = 0
    seconds_left: float | None = None
    measures: bool = False

    @classmethod
    def of(
        cls,
        campaign: Campaign,
        counts: Counts,
        engine: PromptEngine,
        *,
        known: int,
        seconds: float,
        seconds_left: float | None,
    ) -> Snapshot:
        """Describe a campaign that an engine is attacking; arguments are attributes of the same names."""
        attack = campaign.attack
        return cls(
            campaign.concept.name,
            attack.title,
            counts,
            engine.active,
            known,
            seconds,
            engine.worker_count,
            campaign.left_alone,
            engine.state.rounds,
            attack.last_round,
            seconds_left,
            registry().judges[campaign.concept.judge.kind].measures,
        )

    @property
    def pace(self) -> float | None:
        """Prompts a minute that one worker finishes; None without workers, or before anything is finished."""
        fresh = self.counts.total - self.counts.missing - self.known
        return 60 * fresh / self.seconds / self.workers if fresh and self.workers else None


class Progress(Protocol):
    """Receives snapshots of a running campaign."""

    def __call__(self, snapshot: Snapshot) -> None:
        """Take in a snapshot; called often, so it has to be quick."""
        ...
