"""Draw the image of a text and ask the judge, never twice for the same image; keep thumbnails for people."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ..core.concept import Prompt
from ..core.images import BLOCKED, Evaluated, GenerationRequest, Judgement
from ..store.thumbnails import Thumbnails, near_miss, with_embedding

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..judges.base import Judge
    from ..models.diffusion_model import DiffusionModel
    from ..models.generated_images import GeneratedImage


class Evaluation:
    """Judgements by what is requested, which decides an image.

    An image that is no evidence of anything, or that the model's own safety checker blocked, is never shown to the
    judge.

    Args:
        victim: draws.
        judge: judges.
        on_image: is told of every image that has a judgement, and of that.
    """

    def __init__(
        self,
        victim: DiffusionModel,
        judge: Judge,
        on_image: Callable[[GenerationRequest, Image, Judgement], None] | None = None,
    ) -> None:
        self._victim = victim
        self._on_image = on_image
        self._judge = judge
        self._results: dict[GenerationRequest, Evaluated] = {}

    def __call__(self, requests: Sequence[GenerationRequest]) -> list[Evaluated]:
        """Evaluate images, in order."""
        new = [request for request in dict.fromkeys(requests) if request not in self._results]
        if new:
            images = self._victim.generate(new)
            self._results.update(
                zip(new, evaluated(images, [request.text for request in new], self._judge), strict=True)
            )
            for request, image in zip(new, images, strict=True):
                judgement = self._results[request].judgement
                if self._on_image is not None and judgement is not None:
                    self._on_image(request, image.image, judgement)
        return [self._results[request] for request in requests]


def evaluated(images: Sequence[GeneratedImage], prompts: Sequence[str], judge: Judge) -> list[Evaluated]:
    """Judge the images that may be judged, and describe the others.

    Args:
        images: as they were generated.
        prompts: text of each.
        judge: of the concept.
    """
    results = [Evaluated(BLOCKED if image.blocked else None, image.problem) for image in images]
    judged = [index for index, image in enumerate(images) if image.problem is None and not image.blocked]
    judgements = judge([images[i].image for i in judged], [prompts[i] for i in judged]) if judged else []
    for index, judgement in zip(judged, judgements, strict=True):
        results[index] = Evaluated(judgement, image=images[index].digest)
    return results


class ThumbnailRecorder:
    """Keeps thumbnails of un-attacked images, hits, near misses and target images; none is drawn for it.

    Args:
        thumbnails: their folder.
        prompts: the prompt set.
    """

    def __init__(self, thumbnails: Thumbnails, prompts: Iterable[Prompt]) -> None:
        self._thumbnails = thumbnails
        self._unattacked = {prompt.digest for prompt in prompts}
        self._misses: dict[GenerationRequest, tuple[Image, float]] = {}
        self._closest: dict[str, float] = {}

    def judged(self, request: GenerationRequest, image: Image, judgement: Judgement) -> None:
        """Keep the victim's image of a prompt as it stands in the set, and every hit."""
        plain = Prompt(request.text, request.seed, request.guidance, case=0).digest
        digest = with_embedding(plain, request.embedding_digest)
        if judgement.hit or digest in self._unattacked:
            self._thumbnails.add(digest, image)
        else:
            self._misses[request] = image, judgement.score

    def attacked(self, prompt: Prompt, request: GenerationRequest) -> None:
        """Keep the image of an attack on a prompt if the judge's score is its highest so far, without a hit.

        The scores are of this process: a resumed attack begins again with its next image.
        """
        image, score = self._misses.pop(request, (None, math.nan))
        if image is not None and score > self._closest.get(prompt.digest, -math.inf):
            self._closest[prompt.digest] = score
            self._thumbnails.add(near_miss(prompt.digest), image)

    def targets(self, prompts: Sequence[Prompt], images: Sequence[GeneratedImage]) -> None:
        """Keep the base's images of prompts, those that are evidence of nothing left out."""
        for prompt, image in zip(prompts, images, strict=True):
            if image.problem is None:
                self._thumbnails.add(prompt.digest, image.image, base=True)
