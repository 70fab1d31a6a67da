"""Which attack, with what settings: all that a key needs to know, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from .checks import is_count
from .concept import Prompt
from .errors import GateError
from .known_prompts import NOTHING_KNOWN, KnownPrompts
from .registry import plugged
from .untrusted import MOST_SLOTS, shown, whole_form

ALGORITHM = 3
"""Version of the attacks' mathematics. Raised when a change may change outcomes, so that old ones stop counting."""

SEARCHES = ("unlearndiff", "p4d", "ring-a-bell")
ATTACKS = (*SEARCHES, "random", "seed-search", "transfer", "none")
"""The built-in ones."""
_UNSCHEDULED = ("transfer", "none")
LOSSES = ("denoise", "classifier")
Placement = Literal["prefix", "suffix", "mid", "insert"]
PLACEMENTS: tuple[str, ...] = get_args(Placement)


@dataclass(frozen=True)
class TargetImages:
    """How the un-erased model draws target images, where not as images are evaluated.

    Attributes:
        steps: denoising steps.
        guidance: classifier-free guidance scale, whatever a prompt's own.
    """

    steps: int
    guidance: float


@dataclass(frozen=True)
class SimplexSchedule:
    """Gradient descent on distributions over tokens, as upstream searches.

    Attributes:
        timesteps: one block of optimiser steps at each of these shares of the noise schedule, in (0, 1).
        steps: optimiser steps a block; a image is drawn and judged after each block.
        learning_rate: Adam's.
        decay: Adam's coupled L2 decay.
        typeable: whether only tokens are searched that survive decoding and tokenizing on their own.
        targets: how target images are drawn; None for as images are evaluated.
    """

    timesteps: tuple[float, ...]
    steps: int = 40
    learning_rate: float = 0.01
    decay: float = 0.1
    typeable: bool = True
    targets: TargetImages | None = None

    @property
    def rounds(self) -> int:
        """How often a image is drawn and judged: after each block."""
        return len(self.timesteps)

    def work(self, image: int) -> int:
        """UNet forward passes on a prompt that resists, where one image costs ``image``."""
        return self.rounds * (2 * self.steps + image)


@dataclass(frozen=True)
class RepeatedNoiseSchedule(SimplexSchedule):
    """The same with a quirk of upstream's program, on which numbers that were published with it may depend.

    There every evaluation seeds the global random stream anew, so that each block meets the noise and samples with the
    random numbers of the first (research: classifier_.py:142).
    """

    repeated_noise: bool = True


@dataclass(frozen=True)
class TokenSwapSchedule:
    """Coordinate descent on tokens: one is swapped a round.

    Attributes:
        timesteps: shares of the noise schedule, in (0, 1), at which the error is measured, each with noise of its own.
        rounds: how often a token is swapped, and the image drawn and judged.
        screened: swaps measured a round at one of the timesteps; the gradient names them.
        measured: how many of these are measured at all of them.
        restart: rounds after which the search begins again at other random tokens, with other noise; 0 for never.
    """

    timesteps: tuple[float, ...]
    rounds: int
    screened: int
    measured: int
    restart: int = 0

    def work(self, image: int) -> int:
        """UNet forward passes on a prompt that resists, where one image costs ``image``."""
        return self.rounds * ((2 + self.measured) * len(self.timesteps) + self.screened + image)


@dataclass(frozen=True)
class EmbeddingSchedule:
    """Gradient descent on token embeddings, each step at the nearest tokens.

    Attributes:
        timesteps: as ``SimplexSchedule``'s.
        steps: as ``SimplexSchedule``'s; each also asks the un-erased model.
        learning_rate: Adam's.
        decay: Adam's coupled L2 decay.
        typeable: as ``SimplexSchedule``'s.
        targets: as ``SimplexSchedule``'s.
    """

    timesteps: tuple[float, ...]
    steps: int
    learning_rate: float = 0.01
    decay: float = 0.1
    typeable: bool = True
    targets: TargetImages | None = None

    @property
    def rounds(self) -> int:
        """How often a image is drawn and judged: after each block."""
        return len(self.timesteps)

    def work(self, image: int) -> int:
        """UNet forward passes on a prompt that resists, where one image costs ``image``."""
        return self.rounds * (3 * self.steps + image)


@dataclass(frozen=True)
class GeneticSchedule:
    """A genetic search on the text encoder, which costs no UNet forward passes but those of its images.

    Attributes:
        rounds: how often the best of the population is drawn and judged.
        generations: generations a round.
        population: candidates alive.
        crossover: probability that a child has two parents.
        mutation: probability that one token of a child is changed.
        strength: how far the wanted text states lie in the concept's direction.
    """

    rounds: int
    generations: int
    population: int = 200
    crossover: float = 0.5
    mutation: float = 0.25
    strength: float = 3.0

    def work(self, image: int) -> int:
        """UNet forward passes on a prompt that resists, where one image costs ``image``."""
        return self.rounds * image


Settings = SimplexSchedule | TokenSwapSchedule | EmbeddingSchedule | GeneticSchedule

_PAPER = tuple((10 + 20 * i) / 1000 for i in range(50))
# Upstream draws them once for all attacks, with a program of its own that reads no guidance from these prompt sets
# (research: generate_dataset.py:85, 157, 161).
_UPSTREAMS = TargetImages(steps=25, guidance=7.5)

SCHEDULES: Mapping[str, SimplexSchedule | TokenSwapSchedule] = {
    # Upstream's: 50 timesteps ascending from 10 of 1000 (research: classifier_.py:67-70), the whole vocabulary.
    "paper": SimplexSchedule(_PAPER, typeable=False, targets=_UPSTREAMS),
    "paper+repeated-noise": RepeatedNoiseSchedule(_PAPER, typeable=False, targets=_UPSTREAMS),
    # Below 150 of 1000 the noise hides nothing and above 900 it hides everything.
    "fast": TokenSwapSchedule((0.35, 0.5, 0.65, 0.8), rounds=12, screened=30, measured=4, restart=3),
}
"""What UnlearnDiffAtk does under each schedule, and what the controls do as much work as."""

BASELINES: Mapping[str, Mapping[str, Settings]] = {
    "p4d": {
        # As upstream runs P4D beside its own attack (attacks.md 4.1): same timesteps, steps, rate and decay.
        "paper": EmbeddingSchedule(_PAPER, steps=40, typeable=False, targets=_UPSTREAMS),
        # About the UNet forward passes of UnlearnDiffAtk's fast schedule, in as many images.
        "fast": EmbeddingSchedule(tuple((60 + 80 * i) / 1000 for i in range(12)), steps=18),
    },
    "ring-a-bell": {
        # 3,000 generations, as its authors run (attacks.md 4.2), drawn as often as UnlearnDiffAtk's blocks.
        "paper": GeneticSchedule(rounds=50, generations=60),
        "fast": GeneticSchedule(rounds=12, generations=20),
    },
}
"""What the baselines do under each schedule."""


def attacks() -> tuple[str, ...]:
    """The names of all attacks, those that plugins add among them."""
    return (*ATTACKS, *plugged().attacks)


@dataclass(frozen=True)
class AttackConfig:
    """An attack with its settings.

    Attributes:
        name: one of ``attacks()``.
        schedule: one of SCHEDULES.
        slots: adversarial tokens.
        placement: where they stand, one of PLACEMENTS.
        loss: what UnlearnDiffAtk lowers, one of LOSSES.
        word: what the concept is called, for attacks that look for its direction.
        known: what ``transfer`` replays.
    """

    name: str = "unlearndiff"
    schedule: str = "fast"
    slots: int = 3
    placement: Placement = "prefix"
    loss: str = "denoise"
    word: str = ""
    known: KnownPrompts = NOTHING_KNOWN

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing.

        Raises:
            GateError: names the setting and what it may be.
        """
        given: tuple[tuple[str, object, tuple[str, ...]], ...] = (  # as annotated, or whatever a marker gave
            ("attack", self.name, attacks()),
            ("schedule", self.schedule, tuple(SCHEDULES)),
            ("placement", self.placement, PLACEMENTS),
            ("loss", self.loss, LOSSES),
        )
        for setting, value, known in given:
            if not isinstance(value, str) or value not in known:
                raise GateError(f"{setting}={shown(value)} is not known: one of {', '.join(known)}")
        if not is_count(self.slots, MOST_SLOTS):
            raise GateError(f"slots={shown(self.slots)} must be {whole_form(1, MOST_SLOTS)}")
        if isinstance(SCHEDULES[self.schedule], RepeatedNoiseSchedule) and self.name not in (
            "unlearndiff",
            *_UNSCHEDULED,
        ):
            raise GateError(f"schedule={self.schedule!r} goes with attack='unlearndiff', not {self.name}: give 'paper'")
        if self.loss != "denoise" and (self.name != "unlearndiff" or not isinstance(self.settings, TokenSwapSchedule)):
            raise GateError(f"loss={self.loss!r} goes with attack='unlearndiff' and schedule='fast', not {self.title}")

    @property
    def settings(self) -> Settings:
        """What the schedule prescribes."""
        return BASELINES.get(self.name, SCHEDULES)[self.schedule]

    @property
    def title(self) -> str:
        """The attack, its schedule if it has one, and its loss where that is not the usual, as reports name them."""
        loss = f"/{self.loss}" if self.loss != "denoise" else ""
        return self.name if self.name in _UNSCHEDULED else f"{self.name}/{self.schedule}{loss}"

    @property
    def searches(self) -> bool:
        """Whether it does the work that its schedule prescribes, which of a plugin's attack is not known."""
        return self.name in ATTACKS and self.name not in _UNSCHEDULED

    @property
    def last_round(self) -> int:
        """How many rounds a prompt that resists is attacked; 0 where another measure of work ends it."""
        return self.settings.rounds if self.name in SEARCHES else 0

    @property
    def needs_target(self) -> bool:
        """Whether the attack needs the un-erased model, most often for target images."""
        kind = plugged().attacks.get(self.name)
        return self.name in SEARCHES if kind is None else kind.needs_targets or kind.needs_base

    @property
    def targets(self) -> TargetImages | None:
        """How target images are drawn; None where they are the base's images of the prompts as they are evaluated."""
        if self.name not in ("unlearndiff", "p4d") or not isinstance(
            self.settings, (SimplexSchedule, EmbeddingSchedule)
        ):
            return None
        return self.settings.targets

    @property
    def draws_targets(self) -> bool:
        """Whether the base's image of every prompt that is attacked is made as a target, which the judge then sees.

        A target image that is drawn otherwise than images are evaluated is no such image.
        """
        kind = plugged().attacks.get(self.name)
        targeted = self.name in ("unlearndiff", "p4d") if kind is None else kind.needs_targets
        return targeted and self.targets is None

    def reaches(self, prompt: Prompt) -> bool:
        """Whether there is anything to attack a prompt with; one without must stay without an outcome."""
        return self.name != "transfer" or bool(self.known.of(prompt))

    @property
    def needs_base(self) -> bool:
        """Whether images of the user's own cannot stand in for the un-erased model."""
        kind = plugged().attacks.get(self.name)
        return self.name in ("p4d", "ring-a-bell") if kind is None else kind.needs_base

    def params(self) -> dict[str, Any]:
        """The settings an outcome of this attack depends on, as builtin types."""
        if self.name == "none":
            return {}
        if self.name == "transfer":
            return {"known": self.known.content}
        params: dict[str, Any] = {"schedule": asdict(self.settings)}
        if self.name != "seed-search":
            params |= {"slots": self.slots, "placement": self.placement}
        if self.loss != "denoise":  # not named where it is the usual, so that outcomes from before it was one count
            params["loss"] = self.loss
        kind = plugged().attacks.get(self.name)
        if kind is not None:
            params["version"] = kind.version
        if self.name == "ring-a-bell" or kind is not None:
            params["word"] = self.word
        return params
