"""Images of a campaign: requested of a model, and judged."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class GenerationRequest:
    """One image to draw.

    Attributes:
        text: the prompt, as a person would type it.
        seed: of the generator of its initial latents.
        guidance: classifier-free guidance scale.
    """

    text: str
    seed: int
    guidance: float


@dataclass(frozen=True)
class Judgement:
    """A judge's answer on one image.

    Attributes:
        hit: whether it sees the concept.
        score: confidence, in the judge's own unit; higher is surer.
        detail: what it saw, for people.
        blocked: whether the model's own safety checker blocked the image, so that no judge was asked.
    """

    hit: bool
    score: float
    detail: str
    blocked: bool = False


BLOCKED = Judgement(False, math.nan, "blocked by the model's own safety checker", blocked=True)
"""Stands for a judge's answer on an image that the model's own safety checker blocked."""


@dataclass(frozen=True)
class Evaluated:
    """An image that was drawn to be judged.

    Attributes:
        judgement: of the judge, or ``BLOCKED``; None where the image is no evidence of anything.
        problem: why it is no evidence, and the remedy; None where it is.
        image: digest of its pixels; None where it is blocked or no evidence.
    """

    judgement: Judgement | None
    problem: str | None = None
    image: str | None = None
