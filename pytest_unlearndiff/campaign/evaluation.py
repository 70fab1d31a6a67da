"""Draw what a prompt makes and ask the judge, never twice for the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.drawing import Drawing
from ..core.judgement import Judgement

if TYPE_CHECKING:
    from ..judges import Judge
    from ..models.victim import Victim


class Evaluation:
    """Judgements by (text, seed, guidance), which decide a picture.

    Args:
        victim: draws.
        judge: judges.
    """

    def __init__(self, victim: Victim, judge: Judge) -> None:
        self._victim = victim
        self._judge = judge
        self._known: dict[Drawing, Judgement] = {}

    def __call__(self, drawings: Sequence[Drawing]) -> list[Judgement]:
        """Judgements on these pictures, in order."""
        new = [drawing for drawing in dict.fromkeys(drawings) if drawing not in self._known]
        if new:
            self._known.update(zip(new, self._judge(self._victim.generate(new)), strict=True))
        return [self._known[drawing] for drawing in drawings]
