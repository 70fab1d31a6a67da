"""A judge that sees the concept in images that are red."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageStat


class RedJudge:
    """A hit when the mean of the red channel is at least ``threshold``.

    Args:
        device: where networks would run; ignored.
        threshold: in [0, 1].
    """

    def __init__(self, device: str, threshold: float = 0.5) -> None:
        self._threshold = threshold

    def __call__(self, images: Sequence[Image.Image]) -> list[tuple[bool, float]]:
        """Return (hit, score) for each RGB image."""
        scores = [ImageStat.Stat(image).mean[0] / 255 for image in images]
        return [(score >= self._threshold, score) for score in scores]
