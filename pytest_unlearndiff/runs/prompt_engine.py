"""The interface of engines: they attack prompts, in this process or in others."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Protocol

from ..core.concept import Prompt
from ..core.outcome import Outcome


class PromptEngine(Protocol):
    """Attacks prompts.

    Attributes:
        active: prompts being attacked now.
        worker_count: processes that attack; 0 where it is this one.
    """

    active: int
    worker_count: int

    @property
    def rounds(self) -> tuple[int, ...]:
        """Round of its search that each prompt is in which this process attacks, from 1."""
        ...

    def run(self, prompts: Sequence[Prompt], checkpoints: Mapping[str, bytes]) -> Generator[Outcome | None]:
        """Yield outcomes of prompts as they finish, which is not their order; None after each round of work.

        Args:
            prompts: the prompts.
            checkpoints: of prompts whose attack was interrupted, by prompt digest.

        Raises:
            UnlearnDiffError: the victim or the judge cannot be used.
            Exception: what several prompts in a row failed with; the rest is not attacked.
        """
        ...

    def take_checkpoints(self) -> dict[str, bytes]:
        """Checkpoints of prompts in progress, by prompt digest, that are new since the last call."""
        ...
