"""Images of a campaign: requested of a model, judged, and compared where a model ignores its prompts."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .concept import Prompt


@dataclass(frozen=True)
class GenerationRequest:
    """One image to draw.

    Attributes:
        text: the prompt, as a person would type it.
        seed: of the generator of its initial latents.
        guidance: classifier-free guidance scale.
        embedding: float32 numbers of a token embedding that text encoders are given before those of the text, little-
            endian and in base64; None for none.
    """

    text: str
    seed: int
    guidance: float
    embedding: str | None = None

    @property
    def embedding_digest(self) -> str | None:
        """Hash of the embedding; None for none."""
        return None if self.embedding is None else embedding_digest(self.embedding)


def embedding_digest(embedding: str) -> str:
    """Hash a learned embedding, as ``GenerationRequest`` has it, to 16 hex digits."""
    return hashlib.sha256(embedding.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Judgement:
    """A judge's answer on one image.

    Attributes:
        hit: whether it sees the concept.
        score: confidence, in the judge's own unit; higher is surer.
        detail: what it saw, for people.
        blocked: whether the model's own safety checker blocked the image, so that no judge was asked.
        features: of the image, as text, where distances between sets of images are computed from them; None elsewhere.
    """

    hit: bool
    score: float
    detail: str
    blocked: bool = False
    features: str | None = None


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


_SHOWN = 10


def repeated_cases(images: Iterable[tuple[Prompt, str | None]]) -> tuple[int, ...]:
    """Find prompts that differ in text and in seed and whose images are the same.

    Args:
        images: prompts with the digests of their images, None where there is none to compare.

    Returns:
        Their case numbers, in ascending order.
    """
    same: dict[str, list[Prompt]] = defaultdict(list)
    for prompt, image in images:
        if image is not None:
            same[image].append(prompt)
    cases = (
        prompt.case
        for prompts in same.values()
        if len(prompts) > 1
        for prompt in prompts
        if any(_differ(prompt, other) for other in prompts)
    )
    return tuple(sorted(cases))


def may_repeat(prompts: Sequence[Prompt], missing: Sequence[bool]) -> bool:
    """Tell whether the image of a prompt that is missing may be found to repeat another one's.

    Args:
        prompts: the whole set.
        missing: whether each of them is missing.
    """
    # Asked after every round of an attack, so that what is seldom so comes first; and pairs that all share a text or a
    # seed would take the square of their number.
    if not any(missing) or len({prompt.text for prompt in prompts}) < 2 or len({prompt.seed for prompt in prompts}) < 2:
        return False
    return any(
        lacks and any(_differ(prompt, other) for other in prompts)
        for prompt, lacks in zip(prompts, missing, strict=True)
    )


def same_image(cases: Sequence[int]) -> str:
    """Say which prompts have the same image."""
    shown = ", ".join(map(str, cases[:_SHOWN])) + (f" and {len(cases) - _SHOWN} more" if len(cases) > _SHOWN else "")
    return f"draws the same image for different prompts and seeds (cases {shown})"


def _differ(one: Prompt, other: Prompt) -> bool:
    return one.text != other.text and one.seed != other.seed
