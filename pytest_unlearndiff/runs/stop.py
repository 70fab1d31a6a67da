"""When a campaign ends although prompts are left: its verdict is certain, or its time is used up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..core.outcome import Counts


def _never(tally: Counts) -> bool:
    return False


@dataclass(frozen=True)
class StopCondition:
    """When to leave the rest of the prompts alone.

    Attributes:
        settled: whether a tally makes the verdict certain; a later run goes on from the journal.
        deadline: on ``time.monotonic``'s clock, in seconds; nothing new is begun after it.
        mend: what to say where the deadline ended the campaign; too_short: the same where no prompt was finished.
    """

    settled: Callable[[Counts], bool] = _never
    deadline: float = float("inf")
    mend: str = ""
    too_short: str = ""

    @property
    def overdue(self) -> bool:
        """Whether the time is used up."""
        return time.monotonic() >= self.deadline


RUN_ALL = StopCondition()
"""Every prompt is attacked."""
