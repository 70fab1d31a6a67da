"""Conditions under which a campaign ends although prompts are left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..core.outcome import Counts


def _never(counts: Counts) -> bool:
    return False


@dataclass(frozen=True)
class StopCondition:
    """When to leave the rest of the prompts alone.

    Attributes:
        is_decided: tells whether counts make the verdict certain; a later run goes on from the journal.
        deadline: on ``time.monotonic``'s clock, in seconds; nothing new is begun after it.
        message: what to say where the deadline ended the campaign.
        message_nothing_done: the same where nothing was finished or kept.
    """

    is_decided: Callable[[Counts], bool] = _never
    deadline: float = float("inf")
    message: str = ""
    message_nothing_done: str = ""

    @property
    def is_overdue(self) -> bool:
        """Whether the time is used up."""
        return time.monotonic() >= self.deadline

    @property
    def at_deadline(self) -> StopCondition:
        """The same deadline, whatever the counts are."""
        return replace(self, is_decided=_never)


RUN_ALL = StopCondition()
"""Every prompt is attacked."""
