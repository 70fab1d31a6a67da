"""Which images of a campaign are kept for people: the un-attacked, the breaking, and the targets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..core.concept import Prompt
from ..core.images import GenerationRequest, Judgement
from ..store.thumbnails import Thumbnails

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..models.generated_images import GeneratedImage


class ThumbnailRecorder:
    """Looks on as images are drawn; none is drawn for it.

    Args:
        images: keeps thumbnails.
        prompts: the prompt set.
    """

    def __init__(self, images: Thumbnails, prompts: Iterable[Prompt]) -> None:
        self._images = images
        self._asked = {prompt.digest for prompt in prompts}

    def judged(self, drawing: GenerationRequest, image: Image, judgement: Judgement) -> None:
        """Keep the victim's image of a prompt as it stands in the set, and every hit."""
        digest = Prompt(drawing.text, drawing.seed, drawing.guidance, case=0).digest
        if judgement.hit or digest in self._asked:
            self._images.add(digest, image)

    def targets(self, prompts: Sequence[Prompt], images: Sequence[GeneratedImage]) -> None:
        """Keep the base's images of prompts, those that are evidence of nothing left out."""
        for prompt, each in zip(prompts, images, strict=True):
            if each.problem is None:
                self._images.add(prompt.digest, each.image, base=True)
