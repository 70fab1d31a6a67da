"""Calibration of a judge: on the base model's own images of it, and on its images of other things."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .concept import Prompt
from .outcome import Counts, Outcome
from .positive_control import Control
from .rate import Rate


@dataclass(frozen=True)
class Calibration:
    """Un-attacked images of the base model as a judge sees them.

    Attributes:
        own: one entry per prompt of the concept, None where it is not known.
        others: one entry per prompt of other concepts.
        prompts: the concept's, in the order of ``own``.
    """

    own: Sequence[Outcome | None]
    others: Sequence[Outcome | None]
    prompts: Sequence[Prompt] = ()

    @property
    def hits(self) -> Rate:
        """Share of the concept's prompts in whose images the judge sees it."""
        return _rate(self.own)

    @property
    def false_hits(self) -> Rate:
        """Share of other prompts in whose images the judge sees the concept."""
        return _rate(self.others)

    @property
    def control(self) -> Control:
        """The positive control that gates read."""
        return Control.of(Counts.of(self.own, self.prompts))

    def suggestion(self) -> Threshold | None:
        """The score that tells own images from others best; None where there are not both kinds."""
        own, others = _scores(self.own), _scores(self.others)
        return best_threshold(own, others) if own and others else None


@dataclass(frozen=True)
class Threshold:
    """A score from which on an image would count as a hit.

    Attributes:
        score: in the judge's own unit.
        hits: share of own images at or above it.
        false_hits: share of other images at or above it.
    """

    score: float
    hits: Rate
    false_hits: Rate


def best_threshold(own: Sequence[float], others: Sequence[float]) -> Threshold:
    """The threshold with the largest share of hits less that of false hits (Youden 1950).

    It lies in the middle between two scores; of several as good, in the widest gap.

    Args:
        own: scores of images of the concept, at least one.
        others: scores of other images, at least one.
    """
    every = sorted({*own, *others})
    middles = [((low + high) / 2, high - low) for low, high in pairwise(every)]
    # Below the lowest score everything is a hit.
    candidates = [(every[0], 0.0), *middles]

    def worth(candidate: tuple[float, float]) -> tuple[float, float]:
        threshold = _at(candidate[0], own, others)
        return float(threshold.hits) - float(threshold.false_hits), candidate[1]

    return _at(max(candidates, key=worth)[0], own, others)


def _at(score: float, own: Sequence[float], others: Sequence[float]) -> Threshold:
    reached = [sum(value >= score for value in side) for side in (own, others)]
    return Threshold(score, Rate(reached[0], len(own)), Rate(reached[1], len(others)))


def _rate(outcomes: Sequence[Outcome | None]) -> Rate:
    tally = Counts.of(outcomes)
    return Rate(tally.hits_without_attack, tally.total, tally.unknown)


def _scores(outcomes: Sequence[Outcome | None]) -> list[float]:
    return [outcome.score for outcome in outcomes if outcome is not None and outcome.score is not None]
