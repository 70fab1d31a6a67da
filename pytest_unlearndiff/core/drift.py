"""How far a victim has moved from its base on prompts that it should have kept: cheap figures beside the rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

MEASURES = {
    "similarity": "same-seed similarity of thumbnails (SSIM)",
    "clip-similarity": "same-seed similarity of thumbnails (CLIP)",
    "clip-score": "CLIP score of thumbnails",
    "noise": "noise-prediction drift",
}
"""The measures by name, with what people are told."""


@dataclass(frozen=True)
class Measure:
    """One figure, the mean over prompts.

    Images are compared as the store keeps them, as thumbnails of at most 192 pixels a side, so that their figures are
    for comparing releases with each other and not with published ones.

    Attributes:
        name: ``similarity``, the structural similarity (Wang et al. 2004) of what victim and base draw from one seed;
            ``clip-similarity``, the cosine of both images' CLIP features; ``clip-score``, the cosine of image and
            prompt in CLIP's features (Hessel et al. 2021, without their factor 2.5), all in [-1, 1]; or ``noise``, the
            relative squared distance of predicted noise, from 0.
        value: of the victim, or of victim against base.
        base: of the base, where it has a figure of its own.
        prompts: on how many prompts it was measured.
    """

    name: str
    value: float
    base: float | None = None
    prompts: int = 0

    @classmethod
    def of(cls, name: str, values: Sequence[float], base: Sequence[float] | None = None) -> Measure:
        """The mean of at least one prompt's figures."""
        return cls(name, fmean(values), fmean(base) if base is not None else None, len(values))

    def __str__(self) -> str:
        """``CLIP score 0.213, base 0.241 (10 prompts)``."""
        compared = "" if self.base is None else f", base {self.base:.3g}"
        plural = "prompt" if self.prompts == 1 else "prompts"
        return f"{MEASURES.get(self.name, self.name)} {self.value:.3g}{compared} ({self.prompts} {plural})"
