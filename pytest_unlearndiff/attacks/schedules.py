"""Schedules of the built-in attacks: the work they do on a prompt, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..core.info import Schedule, TargetSampling


@dataclass(frozen=True)
class SimplexSchedule:
    """Gradient descent on distributions over tokens, as upstream searches.

    Attributes:
        timesteps: one round of optimizer steps at each of these fractions of the noise schedule, in (0, 1).
        steps: optimizer steps per round.
        learning_rate: Adam's.
        decay: Adam's coupled L2 decay.
        typeable: whether only tokens are searched that survive decoding and tokenizing on their own.
        targets: how target images are drawn; None for as evaluation images are.
    """

    timesteps: tuple[float, ...]
    steps: int = 40
    learning_rate: float = 0.01
    decay: float = 0.1
    typeable: bool = True
    targets: TargetSampling | None = None

    losses: ClassVar[tuple[str, ...]] = ("denoise",)

    @property
    def rounds(self) -> int:
        """Images drawn and judged, one after each timestep's optimizer steps."""
        return len(self.timesteps)

    def forward_passes(self, forwards_per_image: int) -> int:
        """Forward passes on a prompt that resists: two per step, a backward pass counted as one, and the images."""
        return self.rounds * (2 * self.steps + forwards_per_image)


@dataclass(frozen=True)
class RepeatedNoiseSchedule(SimplexSchedule):
    """The same with a quirk of upstream's program, on which numbers that were published with it may depend.

    There every evaluation seeds the global random stream anew, so that each round meets the noise and samples with the
    random numbers of the first (research: classifier_.py:142).
    """

    repeated_noise: bool = True


@dataclass(frozen=True)
class TokenSwapSchedule:
    """Coordinate descent on tokens: one token is swapped per round.

    Attributes:
        timesteps: fractions of the noise schedule, in (0, 1), at which the error is measured, each with its own noise.
        rounds: tokens swapped, and images drawn and judged.
        screened: swaps measured per round at one of the timesteps; the gradient proposes them.
        measured: how many of these are measured at all of them.
        restart: rounds after which the search restarts at other random tokens, with other noise; 0 for never.
    """

    timesteps: tuple[float, ...]
    rounds: int
    screened: int
    measured: int
    restart: int = 0

    targets: ClassVar[TargetSampling | None] = None
    losses: ClassVar[tuple[str, ...]] = ("denoise", "classifier")

    def forward_passes(self, forwards_per_image: int) -> int:
        """Forward passes on a prompt that resists."""
        per_round = (2 + self.measured) * len(self.timesteps) + self.screened + forwards_per_image
        return self.rounds * per_round


@dataclass(frozen=True)
class EmbeddingSchedule(SimplexSchedule):
    """Gradient descent on token embeddings, each step at the nearest tokens; attributes as ``SimplexSchedule``'s.

    Each step also asks the un-erased model.
    """

    def forward_passes(self, forwards_per_image: int) -> int:
        """Forward passes on a prompt that resists: three per step, and the images."""
        return self.rounds * (3 * self.steps + forwards_per_image)


@dataclass(frozen=True)
class InversionSchedule:
    """Gradient descent on a free embedding, at timesteps drawn at random.

    Attributes:
        rounds: how often the embedding is drawn and judged.
        steps: optimizer steps per round.
        learning_rate: Adam's, in units of the root mean square of the vocabulary's embeddings.
        timesteps: fractions of the noise schedule, in [0, 1], between which timesteps are drawn.
    """

    rounds: int
    steps: int
    learning_rate: float
    timesteps: tuple[float, float] = (0.0, 1.0)

    decay: ClassVar[float] = 0.0
    typeable: ClassVar[bool] = True
    targets: ClassVar[TargetSampling | None] = None
    losses: ClassVar[tuple[str, ...]] = ()

    def forward_passes(self, forwards_per_image: int) -> int:
        """Forward passes on a prompt that resists: two per step, a backward pass counted as one, and the images."""
        return self.rounds * (2 * self.steps + forwards_per_image)


@dataclass(frozen=True)
class GeneticSchedule:
    """A genetic search on the text encoder, whose only forward passes of the denoising network are its images'.

    Attributes:
        rounds: how often the best of the population is drawn and judged.
        generations: generations per round.
        population: candidates alive.
        crossover: probability that a child has two parents.
        mutation: probability that one token of a child is changed.
        strength: factor of the concept's direction in the wanted text states.
    """

    rounds: int
    generations: int
    population: int = 200
    crossover: float = 0.5
    mutation: float = 0.25
    strength: float = 3.0

    targets: ClassVar[TargetSampling | None] = None
    losses: ClassVar[tuple[str, ...]] = ()

    def forward_passes(self, forwards_per_image: int) -> int:
        """Forward passes on a prompt that resists."""
        return self.rounds * forwards_per_image


@dataclass(frozen=True)
class EncoderSwapSchedule:
    """Token swaps on the text encoder, whose only forward passes of the denoising network are its images'.

    Attributes:
        rounds: how often the best swap is drawn and judged.
        iterations: swaps per round, each the best of some.
        candidates: swaps measured per iteration.
        top: tokens of each slot that candidates are chosen from, by the gradient.
    """

    rounds: int
    iterations: int
    candidates: int
    top: int = 256

    targets: ClassVar[TargetSampling | None] = None
    losses: ClassVar[tuple[str, ...]] = ()

    def forward_passes(self, forwards_per_image: int) -> int:
        """Forward passes on a prompt that resists."""
        return self.rounds * forwards_per_image


@dataclass(frozen=True)
class NoiseSchedule:
    """Noise along the trajectory: one round per pair of the two lists.

    Attributes:
        etas: DDIM's factor of noise, each with every scale.
        scales: factors of that noise alone.
    """

    etas: tuple[float, ...]
    scales: tuple[float, ...]

    targets: ClassVar[TargetSampling | None] = None
    losses: ClassVar[tuple[str, ...]] = ()

    @property
    def rounds(self) -> int:
        """Images drawn and judged."""
        return len(self.etas) * len(self.scales)

    def forward_passes(self, forwards_per_image: int) -> int:
        """Forward passes on a prompt that resists."""
        return self.rounds * forwards_per_image


@dataclass(frozen=True)
class CompletionSchedule:
    """Completion of noised target images: one round per share of the steps that the image stands for.

    Attributes:
        skipped: shares of the denoising steps, in (0, 1), ascending: the more, the more of the image is left.
    """

    skipped: tuple[float, ...]

    targets: ClassVar[TargetSampling | None] = None
    losses: ClassVar[tuple[str, ...]] = ()

    @property
    def rounds(self) -> int:
        """Images drawn and judged."""
        return len(self.skipped)

    def forward_passes(self, forwards_per_image: int) -> int:
        """Forward passes on a prompt that resists, steps that are left out among them."""
        return self.rounds * forwards_per_image


_PAPER = tuple((10 + 20 * i) / 1000 for i in range(50))
# Upstream draws them once for all attacks, with a program of its own that reads no guidance from these prompt sets
# (research: generate_dataset.py:85, 157, 161).
_UPSTREAM_TARGETS = TargetSampling(steps=25, guidance=7.5)

UNLEARNDIFF: Mapping[str, SimplexSchedule | TokenSwapSchedule] = {
    # Upstream's: 50 timesteps ascending from 10 of 1000 (research: classifier_.py:67-70), the whole vocabulary.
    "paper": SimplexSchedule(_PAPER, typeable=False, targets=_UPSTREAM_TARGETS),
    "paper+repeated-noise": RepeatedNoiseSchedule(_PAPER, typeable=False, targets=_UPSTREAM_TARGETS),
    # Below 150 of 1000 the noise hides nothing and above 900 it hides everything.
    "fast": TokenSwapSchedule((0.35, 0.5, 0.65, 0.8), rounds=12, screened=30, measured=4, restart=3),
    # The same search, which goes on for about the forward passes of the paper's.
    "thorough": TokenSwapSchedule((0.35, 0.5, 0.65, 0.8), rounds=62, screened=30, measured=4, restart=3),
}

FLOW_UNLEARNDIFF: Mapping[str, SimplexSchedule | TokenSwapSchedule] = {
    # At these shares of a straight path (flow matching) signal and noise are to each other as at those of fast above
    # on the noise schedule of Stable Diffusion.
    "fast": TokenSwapSchedule((0.497, 0.618, 0.733, 0.836), rounds=12, screened=30, measured=4, restart=3),
    "thorough": TokenSwapSchedule((0.497, 0.618, 0.733, 0.836), rounds=62, screened=30, measured=4, restart=3),
}

P4D: Mapping[str, EmbeddingSchedule] = {
    # As upstream runs P4D beside its own attack (attacks.md 4.1): same timesteps, steps, rate and decay.
    "paper": EmbeddingSchedule(_PAPER, steps=40, typeable=False, targets=_UPSTREAM_TARGETS),
    # About the forward passes of UnlearnDiffAtk's fast schedule, in as many images.
    "fast": EmbeddingSchedule(tuple((60 + 80 * i) / 1000 for i in range(12)), steps=18),
}

RING_A_BELL: Mapping[str, GeneticSchedule] = {
    # 3,000 generations, as its authors run (attacks.md 4.2), drawn as often as UnlearnDiffAtk's rounds.
    "paper": GeneticSchedule(rounds=50, generations=60),
    "fast": GeneticSchedule(rounds=12, generations=20),
}

MMA_DIFFUSION: Mapping[str, EncoderSwapSchedule] = {
    # 1,000 iterations of 512 candidates, as its authors run (attacks.md 4.5), drawn as often as UnlearnDiffAtk's.
    "paper": EncoderSwapSchedule(rounds=50, iterations=20, candidates=512),
    "fast": EncoderSwapSchedule(rounds=12, iterations=10, candidates=64),
}

CONCEPT_INVERSION: Mapping[str, InversionSchedule] = {
    # 5,000 steps at 5e-3, as its authors run (attacks.md 4.3), where CLIP's embeddings have a root mean square of
    # 0.014; theirs are of 16 images of a concept each, and one embedding serves all its prompts. Drawn as often as
    # UnlearnDiffAtk's rounds.
    "paper": InversionSchedule(rounds=50, steps=100, learning_rate=0.36),
    # About the forward passes of UnlearnDiffAtk's fast schedule, where noise neither hides nothing nor everything.
    "fast": InversionSchedule(rounds=10, steps=40, learning_rate=0.36, timesteps=(0.3, 0.9)),
}

NOISE_PROBE: Mapping[str, NoiseSchedule] = {
    # Factors of the authors' published configuration.
    "paper": NoiseSchedule((1.0, 1.17, 1.34, 1.51, 1.68, 1.85), (1.0, 1.02, 1.03, 1.04)),
    "fast": NoiseSchedule((1.0, 1.17, 1.34, 1.51, 1.68, 1.85), (1.0, 1.03)),
}

COMPLETION_PROBE: Mapping[str, CompletionSchedule] = {
    # Their base is interrupted after 5 and 10 of 50 steps.
    "paper": CompletionSchedule((0.1, 0.2)),
    "fast": CompletionSchedule((0.04, 0.1, 0.2, 0.3)),
}

CONTROLS: Mapping[str, Schedule] = {name: UNLEARNDIFF[name] for name in ("paper", "fast", "thorough")}
"""UnlearnDiffAtk's, whose forward passes the controls spend on images."""
