"""Which attack, with what settings: all that a key needs to know, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from .checks import is_count
from .errors import GateError

ALGORITHM = 2
"""Version of the attacks' mathematics. Raised when a change may change outcomes, so that old ones stop counting."""

ATTACKS = ("unlearndiff", "random", "seed-search", "none")
Placement = Literal["prefix", "suffix", "mid", "insert"]
PLACEMENTS: tuple[str, ...] = get_args(Placement)


@dataclass(frozen=True)
class Simplex:
    """Gradient descent on distributions over tokens, as upstream searches.

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

    def work(self, picture: int) -> int:
        """UNet forward passes on a prompt that resists, where one picture costs ``picture``."""
        return len(self.timesteps) * (2 * self.steps + picture)


@dataclass(frozen=True)
class Swaps:
    """Coordinate descent on tokens: one is swapped a round.

    Attributes:
        timesteps: shares of the noise schedule, in (0, 1), at which the error is measured, each with noise of its own.
        rounds: how often a token is swapped, and the picture drawn and judged.
        screened: swaps measured a round at one of the timesteps; the gradient names them.
        measured: how many of these are measured at all of them.
    """

    timesteps: tuple[float, ...]
    rounds: int
    screened: int
    measured: int

    def work(self, picture: int) -> int:
        """UNet forward passes on a prompt that resists, where one picture costs ``picture``."""
        return self.rounds * ((2 + self.measured) * len(self.timesteps) + self.screened + picture)


SCHEDULES: Mapping[str, Simplex | Swaps] = {
    # Upstream's: 50 timesteps ascending from 10 of 1000 (research: classifier_.py:67-70), the whole vocabulary.
    "paper": Simplex(tuple((10 + 20 * i) / 1000 for i in range(50)), typeable=False),
    # Below 150 of 1000 the noise hides nothing and above 900 it hides everything.
    "fast": Swaps((0.35, 0.5, 0.65, 0.8), rounds=10, screened=32, measured=4),
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
    def settings(self) -> Simplex | Swaps:
        """What the schedule prescribes."""
        return SCHEDULES[self.schedule]

    @property
    def title(self) -> str:
        """The attack and its schedule, if it follows one, as reports name them."""
        return self.name if self.name == "none" else f"{self.name}/{self.schedule}"

    @property
    def needs_target(self) -> bool:
        """Whether the attack lowers the denoising error of a target image."""
        return self.name == "unlearndiff"

    def params(self) -> dict[str, Any]:
        """The settings an outcome of this attack depends on, as builtin types."""
        if self.name == "none":
            return {}
        schedule = asdict(self.settings)
        placed = {"slots": self.slots, "placement": self.placement}
        return {"schedule": schedule} | ({} if self.name == "seed-search" else placed)
