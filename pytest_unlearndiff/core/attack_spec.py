"""Which attack, with what settings: all that a key needs to know, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from .checks import is_count
from .errors import GateError

ALGORITHM = 1
"""Version of the attacks' mathematics. Raised when a change may change outcomes, so that old ones stop counting."""

ATTACKS = ("unlearndiff", "random", "seed-search", "none")
Placement = Literal["prefix", "suffix", "mid", "insert"]
PLACEMENTS: tuple[str, ...] = get_args(Placement)


@dataclass(frozen=True)
class Schedule:
    """How much work an attack may spend on a prompt, and in which order.

    Attributes:
        timesteps: one block of optimiser steps at each of these shares of the noise schedule, in (0, 1).
        steps: optimiser steps a block; a picture is drawn and judged after each block.
        learning_rate: Adam's.
        decay: Adam's coupled L2 decay.
        typeable: whether only tokens are searched that survive decoding and tokenizing on their own.
    """

    timesteps: tuple[float, ...]
    steps: int = 40
    learning_rate: float = 0.01
    decay: float = 0.1
    typeable: bool = True


SCHEDULES: Mapping[str, Schedule] = {
    # Upstream's: 50 timesteps ascending from 10 of 1000 (research: classifier_.py:67-70), the whole vocabulary.
    "paper": Schedule(tuple((10 + 20 * i) / 1000 for i in range(50)), typeable=False),
    # Middle timesteps first: below 150 the noise hides nothing and above 900 it hides everything.
    "fast": Schedule((0.49, 0.41, 0.57, 0.33, 0.65, 0.73, 0.25, 0.81)),
}


@dataclass(frozen=True)
class AttackSpec:
    """An attack with its settings.

    Attributes:
        name: one of ATTACKS.
        schedule: one of SCHEDULES.
        slots: adversarial tokens.
        placement: where they stand, one of PLACEMENTS.
    """

    name: str = "unlearndiff"
    schedule: str = "fast"
    slots: int = 3
    placement: Placement = "prefix"

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing.

        Raises:
            GateError: names the setting and what it may be.
        """
        for setting, value, known in (
            ("attack", self.name, ATTACKS),
            ("schedule", self.schedule, tuple(SCHEDULES)),
            ("placement", self.placement, PLACEMENTS),
        ):
            if value not in known:
                raise GateError(f"{setting}={value!r} is not known: one of {', '.join(known)}")
        if not is_count(self.slots):
            raise GateError(f"slots={self.slots!r} must be a whole number of at least 1")

    @property
    def title(self) -> str:
        """The attack and its schedule, as reports name them."""
        return f"{self.name}/{self.schedule}"

    @property
    def needs_target(self) -> bool:
        """Whether the attack lowers the denoising error of a target image."""
        return self.name == "unlearndiff"

    def params(self) -> dict[str, Any]:
        """The settings an outcome of this attack depends on, as builtin types."""
        if self.name == "none":
            return {}
        schedule = asdict(SCHEDULES[self.schedule])
        placed = {"slots": self.slots, "placement": self.placement}
        return {"schedule": schedule} | ({} if self.name == "seed-search" else placed)
