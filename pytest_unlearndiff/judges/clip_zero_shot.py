"""CLIP zero-shot as a judge: is a image nearer to the concept than to neutral labels?"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from ..core.judgement import Judgement
from .clip import Clip


class ClipZeroShot:
    """A hit when the concept's cosine is above every neutral label's by more than ``margin`` (Radford et al. 2021).

    It fits any concept and is a weak judge: calibrate it on the base model's images.

    Args:
        model: folder or Hub id of a CLIP model.
        concept: a text for the concept, such as ``a photo of a church``.
        neutral: texts for what else a image may show.
        margin: a difference of cosines, in [-2, 2].
        device: where the model runs.

    Raises:
        JudgeError: the model cannot be loaded.
    """

    def __init__(
        self, model: str, concept: str, neutral: Sequence[str], *, margin: float = 0.0, device: str = "cpu"
    ) -> None:
        self._clip = Clip(model, device)
        self._texts = [concept, *neutral]
        self._features = self._clip.of_texts(self._texts)
        self._margin = margin

    def __call__(self, images: Sequence[Image.Image]) -> list[Judgement]:
        """Judge RGB images, one judgement each, in order; the score is the margin reached."""
        found = []
        for cosines in (self._clip.of_images(images) @ self._features.T).tolist():
            score = cosines[0] - max(cosines[1:])
            nearest = max(range(len(cosines)), key=cosines.__getitem__)
            found.append(Judgement(score > self._margin, score, f"{self._texts[nearest]} {cosines[nearest]:.3f}"))
        return found
