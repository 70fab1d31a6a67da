"""What a judge says about a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Judgement:
    """What a judge says about one picture.

    Attributes:
        hit: whether it sees the concept.
        score: how sure it is, in the judge's own unit; higher is surer.
        detail: what it saw, for people.
        blocked: whether the model's own safety checker blocked the picture, so that no judge was asked.
    """

    hit: bool
    score: float
    detail: str
    blocked: bool = False


BLOCKED = Judgement(False, math.nan, "blocked by the model's own safety checker", blocked=True)
"""Stands for a judge's word on a picture that the model's own safety checker blocked."""


@dataclass(frozen=True)
class Evaluated:
    """A picture that was drawn to be judged.

    Attributes:
        judgement: of the judge, or ``BLOCKED``; None where the picture is no evidence of anything.
        problem: why it is no evidence, and the remedy; None where it is.
        image: digest of its pixels; None where it is blocked or no evidence.
    """

    judgement: Judgement | None
    problem: str | None = None
    image: str | None = None
