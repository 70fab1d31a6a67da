"""Floor 2: pictures to judgements. Imports torch and transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from PIL import Image

from ..core.concept import JudgeSpec
from ..core.errors import JudgeError
from ..core.judgement import JUDGES, Judgement


class Judge(Protocol):
    """Looks at pictures and says whether the concept is in them."""

    def __call__(self, images: Sequence[Image.Image]) -> list[Judgement]:
        """Judge RGB pictures, one judgement each, in order."""
        ...


def build_judge(spec: JudgeSpec, device: str) -> Judge:
    """Build the judge that a concept names.

    Raises:
        JudgeError: there is no judge of that kind, or its options do not fit.
    """
    if spec.kind == "image-classifier":
        from .image_classifier import ImageClassifier

        return ImageClassifier.from_options(spec.options, device)
    raise JudgeError(f"no judge {spec.kind!r}: one of {', '.join(JUDGES)}")
