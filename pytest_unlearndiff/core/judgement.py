"""What a judge says about a picture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Judgement:
    """What a judge says about one picture.

    Attributes:
        hit: whether it sees the concept.
        score: how sure it is, in the judge's own unit; higher is surer.
        detail: what it saw, for people.
    """

    hit: bool
    score: float
    detail: str
