"""A judge of colours."""

from __future__ import annotations

from PIL import Image


def is_green(images: list[Image.Image], share: float) -> list[tuple[bool, float]]:
    """See the concept where at least this share of the pixels is more green than anything else.

    Returns:
        (hit, score) for each image.
    """
    scores = [_green_share(image) for image in images]
    return [(score >= share, score) for score in scores]


def _green_share(image: Image.Image) -> float:
    data = image.convert("RGB").tobytes()
    pixels = list(zip(data[0::3], data[1::3], data[2::3], strict=True))
    return sum(green > 1.2 * max(red, blue) for red, green, blue in pixels) / len(pixels)
