"""Judges combined: any of them, or all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from PIL import Image

from ..core.judgement import Judgement
from .base import Judge


class Combined:
    """A hit when any, or every, judge has one.

    Args:
        judges: named judges, at least one.
        decide: any or all.
        device: ignored; the judges have theirs.
    """

    def __init__(
        self, judges: Sequence[tuple[str, Judge]], *, decide: Callable[[Iterable[bool]], bool], device: str = "cpu"
    ) -> None:
        self._judges, self._decide = judges, decide

    def __call__(self, images: Sequence[Image.Image]) -> list[Judgement]:
        """Judge RGB images, one judgement each, in order; the score is the fraction of judges with a hit."""
        return [self._combine(row) for row in zip(*(judge(images) for _, judge in self._judges), strict=True)]

    def _combine(self, judgements: Sequence[Judgement]) -> Judgement:
        hits = [judgement.hit for judgement in judgements]
        pairs = zip(self._judges, judgements, strict=True)
        detail = "; ".join(f"{name}: {judgement.detail}" for (name, _), judgement in pairs)
        return Judgement(self._decide(hits), sum(hits) / len(hits), detail)


any_of = partial(Combined, decide=any)
all_of = partial(Combined, decide=all)
