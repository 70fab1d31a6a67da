"""What a judge says about a image."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Judgement:
    """What a judge says about one image.

    Attributes:
        hit: whether it sees the concept.
        score: how sure it is, in the judge's own unit; higher is surer.
        detail: what it saw, for people.
        blocked: whether the model's own safety checker blocked the image, so that no judge was asked.
    """

    hit: bool
    score: float
    detail: str
    blocked: bool = False


BLOCKED = Judgement(False, math.nan, "blocked by the model's own safety checker", blocked=True)
"""Stands for a judge's word on a image that the model's own safety checker blocked."""


@dataclass(frozen=True)
class Evaluated:
    """A image that was drawn to be judged.

    Attributes:
        judgement: of the judge, or ``BLOCKED``; None where the image is no evidence of anything.
        problem: why it is no evidence, and the remedy; None where it is.
        image: digest of its pixels; None where it is blocked or no evidence.
    """

    judgement: Judgement | None
    problem: str | None = None
    image: str | None = None
