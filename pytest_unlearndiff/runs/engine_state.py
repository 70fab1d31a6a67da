"""State of an engine, from which the work before it follows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineState:
    """Prompts of an engine by how far they are, and how many it attacks together.

    Attributes:
        untested: prompts whose un-attacked image is still to be drawn.
        waiting: prompts that wait for their attack.
        rounds: current round of each prompt under attack, from 1.
        batch_size: prompts attacked together; 0 until the first worker has loaded its models.
        image_forwards: forward passes of the network that an image costs; 0 until the model is loaded.
        processes: of its workers, as they said last; empty where this process attacks.
    """

    untested: int = 0
    waiting: int = 0
    rounds: tuple[int, ...] = ()
    batch_size: int = 0
    image_forwards: int = 0
    processes: tuple[EngineState, ...] = ()

    @property
    def prompts(self) -> int:
        """Number of its prompts."""
        return self.untested + self.waiting + len(self.rounds)
