"""Judges made of others: any or all of several, and a user's own function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from PIL import Image

from ..core.errors import JudgeError
from ..core.images import Judgement
from ..sources.resolve import import_string
from .base import CheckedJudge, Judge


class CombinedJudge:
    """A hit when any, or every, judge has one.

    Args:
        judges: named judges, at least one.
        decide: ``any`` or ``all``.
        device: ignored; the judges have theirs.
    """

    def __init__(
        self, judges: Sequence[tuple[str, Judge]], *, decide: Callable[[Iterable[bool]], bool], device: str = "cpu"
    ) -> None:
        self._judges, self._decide = judges, decide

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[Judgement]:
        """Judge RGB images, one judgement each, in order; the score is the fraction of judges with a hit."""
        return [self._combine(row) for row in zip(*(judge(images, prompts) for _, judge in self._judges), strict=True)]

    def _combine(self, judgements: Sequence[Judgement]) -> Judgement:
        hits = [judgement.hit for judgement in judgements]
        pairs = zip(self._judges, judgements, strict=True)
        detail = "; ".join(f"{name}: {judgement.detail}" for (name, _), judgement in pairs)
        return Judgement(self._decide(hits), sum(hits) / len(hits), detail)


any_of = partial(CombinedJudge, decide=any)
all_of = partial(CombinedJudge, decide=all)


def user_function(call: str, options: Mapping[str, Any] | None = None, *, device: str = "cpu") -> CheckedJudge:
    """Return the judge that calls a function of the user's own.

    Args:
        call: ``package.module:function``, called with RGB images; see ``CheckedJudge`` for what it returns.
        options: passed on by keyword.
        device: ignored.

    Raises:
        JudgeError: no such function.
    """
    try:
        return CheckedJudge(f"judge function {call}", partial(import_string(call), **(options or {})))
    except ImportError as error:
        raise JudgeError(f"judge function {error}") from None
