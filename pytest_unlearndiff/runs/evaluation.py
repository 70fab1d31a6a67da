"""Draw what a prompt makes and ask the judge, never twice for the same image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..core.images import BLOCKED, Evaluated, GenerationRequest, Judgement

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..judges.base import Judge
    from ..models.diffusion_model import DiffusionModel
    from ..models.generated_images import GeneratedImage


class Evaluation:
    """Judgements by (text, seed, guidance), which decide a image.

    A image that is no evidence of anything, or that the model's own safety checker blocked, is never shown to the
    judge.

    Args:
        victim: draws.
        judge: judges.
        shown: told of every image that has a judgement, and of that.
    """

    def __init__(
        self,
        victim: DiffusionModel,
        judge: Judge,
        shown: Callable[[GenerationRequest, Image, Judgement], None] | None = None,
    ) -> None:
        self._victim = victim
        self._shown = shown
        self._judge = judge
        self._known: dict[GenerationRequest, Evaluated] = {}

    def __call__(self, drawings: Sequence[GenerationRequest]) -> list[Evaluated]:
        """Evaluations of these images, in order."""
        new = [drawing for drawing in dict.fromkeys(drawings) if drawing not in self._known]
        if new:
            images = self._victim.generate(new)
            self._known.update(zip(new, evaluated(images, self._judge), strict=True))
            for drawing, image in zip(new, images, strict=True):
                judgement = self._known[drawing].judgement
                if self._shown is not None and judgement is not None:
                    self._shown(drawing, image.image, judgement)
        return [self._known[drawing] for drawing in drawings]


def evaluated(images: Sequence[GeneratedImage], judge: Judge) -> list[Evaluated]:
    """Ask the judge about the images that may be judged, and tell what the others are."""
    results = [Evaluated(BLOCKED if each.blocked else None, each.problem) for each in images]
    asked = [index for index, each in enumerate(images) if each.problem is None and not each.blocked]
    judgements = judge([images[index].image for index in asked]) if asked else []
    for index, judgement in zip(asked, judgements, strict=True):
        results[index] = Evaluated(judgement, image=images[index].digest)
    return results
