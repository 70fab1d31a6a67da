"""Images of a campaign: requested of a model, judged, and compared where a model ignores its prompts."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .concept import Prompt


@dataclass(frozen=True)
class SamplerChange:
    """Change of how an image is drawn, beside its prompt: with DDIM (Song et al. 2021), and with what is said here.

    Attributes:
        eta: factor of the noise that DDPM would add in each step, at least 0; above 1, of more than the step removes.
        noise_scale: factor of that noise alone, and not of what makes room for it.
        skipped: share of the denoising steps that are left out at the beginning, in [0, 1).
        start: latents of an image, which is noised to where denoising begins, as ``models.tensor_text.pack`` writes
            them; None to begin with noise.
    """

    eta: float = 0.0
    noise_scale: float = 1.0
    skipped: float = 0.0
    start: str | None = None

    def __str__(self) -> str:
        """``noise of eta 1.51, times 1.02``, or ``from the target image, noised, after 20% of the steps``."""
        if self.start is not None:
            return f"from the target image, noised, after {self.skipped:.0%} of the steps"
        return f"noise of eta {self.eta:g}, times {self.noise_scale:g}"


@dataclass(frozen=True)
class GenerationRequest:
    """One image to draw.

    Attributes:
        text: the prompt, as a person would type it.
        seed: of the generator of its initial latents.
        guidance: classifier-free guidance scale.
        embedding: float32 numbers of a token embedding that text encoders are given before those of the text, little-
            endian and in base64; None for none.
        sampler: how it is drawn by a probe; None for as evaluation images are.
    """

    text: str
    seed: int
    guidance: float
    embedding: str | None = None
    sampler: SamplerChange | None = None

    @property
    def embedding_digest(self) -> str | None:
        """Hash of the embedding; None for none."""
        return None if self.embedding is None else embedding_digest(self.embedding)

    @property
    def control(self) -> GenerationRequest | None:
        """The same without the prompt, where a probe draws it; else None.

        What shows the concept without being asked for it says nothing of what the prompt brings back.
        """
        return replace(self, text="") if self.sampler is not None and self.text else None

    def with_further_seeds(self, count: int) -> list[GenerationRequest]:
        """Return ``count`` images of the same text: this one, and others whose seeds follow from its own.

        The k-th further seed is the first 31 bits of the SHA-256 of ``SEED:K``, so that prompts whose own seeds are
        neighbours share no initial latents.
        """
        hashes = (hashlib.sha256(f"{self.seed}:{index}".encode()).digest() for index in range(1, count))
        return [self, *(replace(self, seed=int.from_bytes(each[:4], "big") >> 1) for each in hashes)]


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
    """An image that was drawn to be judged, or several of one text.

    Attributes:
        judgement: of the judge, or ``BLOCKED``; None where the image is no evidence of anything.
        problem: why it is no evidence, and the remedy; None where it is.
        image: digest of its pixels; None where it is blocked or no evidence. Of several, that of the first.
        seed: of the image that decided; None where one image was drawn, with the seed that was asked for.
        images: number of images.
        blocked: those that the model's own safety checker blocked.
        control: of images that show the concept, those of ``GenerationRequest.control``; None where there are none.
    """

    judgement: Judgement | None
    problem: str | None = None
    image: str | None = None
    seed: int | None = None
    images: int = 1
    blocked: int = 0
    control: Evaluated | None = None

    @classmethod
    def any_of(cls, results: Sequence[tuple[GenerationRequest, Evaluated]]) -> Evaluated:
        """Join images of one text: it draws the concept if any of them shows it.

        The first that shows it decides. Where none does, one that is no evidence of anything might have, and nothing is
        known; else the one of the highest score decides.

        Args:
            results: at least one.
        """
        judged = [(request, result.judgement) for request, result in results if result.judgement is not None]
        hit = next((pair for pair in judged if pair[1].hit), None)
        joined = replace(
            results[0][1],
            judgement=None,
            images=len(results),
            blocked=sum(judgement.blocked for _, judgement in judged),
        )
        if hit is None and len(judged) < len(results):
            return replace(joined, problem=next(result.problem for _, result in results if result.judgement is None))
        request, judgement = hit or max(
            judged, key=lambda pair: -math.inf if math.isnan(pair[1].score) else pair[1].score
        )
        return replace(joined, judgement=judgement, problem=None, seed=request.seed)


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
