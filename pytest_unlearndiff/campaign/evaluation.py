"""Draw what a prompt makes and ask the judge, never twice for the same picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..core.drawing import Drawing
from ..core.judgement import Judgement

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..judges import Judge
    from ..models.victim import Victim


class Evaluation:
    """Judgements by (text, seed, guidance), which decide a picture.

    Args:
        victim: draws.
        judge: judges.
        shown: told of every picture and its judgement.
    """

    def __init__(
        self, victim: Victim, judge: Judge, shown: Callable[[Drawing, Image, Judgement], None] | None = None
    ) -> None:
        self._victim = victim
        self._shown = shown
        self._judge = judge
        self._known: dict[Drawing, Judgement] = {}

    def __call__(self, drawings: Sequence[Drawing]) -> list[Judgement]:
        """Judgements on these pictures, in order."""
        new = [drawing for drawing in dict.fromkeys(drawings) if drawing not in self._known]
        if new:
            images = self._victim.generate(new)
            self._known.update(zip(new, self._judge(images), strict=True))
            if self._shown is not None:
                for drawing, image in zip(new, images, strict=True):
                    self._shown(drawing, image, self._known[drawing])
        return [self._known[drawing] for drawing in drawings]
