"""Judges combined: any of them, or all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from ..core.judgement import Judgement

if TYPE_CHECKING:
    from . import Judge


class Combined:
    """A hit when any, or every, judge has one.

    Args:
        judges: at least one.
        names: theirs, for people.
        every: whether all of them must have a hit.
    """

    def __init__(self, judges: Sequence[Judge], names: Sequence[str], *, every: bool) -> None:
        self._judges = judges
        self._names = names
        self._every = every

    def __call__(self, images: Sequence[Image.Image]) -> list[Judgement]:
        """Judge RGB images, one judgement each, in order; the score is the share of judges with a hit."""
        return [self._combine(said) for said in zip(*(judge(images) for judge in self._judges), strict=True)]

    def _combine(self, said: Sequence[Judgement]) -> Judgement:
        hits = [each.hit for each in said]
        detail = "; ".join(f"{name}: {each.detail}" for name, each in zip(self._names, said, strict=True))
        return Judgement(all(hits) if self._every else any(hits), sum(hits) / len(hits), detail)
