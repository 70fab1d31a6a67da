"""Draw the image of a text and ask the judge, never twice for the same image; keep thumbnails for people."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain
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
    """Judgements by what is requested, which decides an image; one answer for all images of a request.

    An image that is no evidence of anything, or that the model's own safety checker blocked, is never shown to the
    judge.

    Args:
        victim: draws.
        judge: judges.
        on_image: is told of every image that has a judgement, and of that; not of those that probes draw.
        images: drawn of each request, with its own and further seeds; any of them may show the concept.
    """

    def __init__(
        self,
        victim: DiffusionModel,
        judge: Judge,
        on_image: Callable[[GenerationRequest, Image, Judgement], None] | None = None,
        images: int = 1,
    ) -> None:
        self.images = images
        self._victim = victim
        self._on_image = on_image
        self._judge = judge
        self._results: dict[GenerationRequest, Evaluated] = {}

    def __call__(self, requests: Sequence[GenerationRequest]) -> list[Evaluated]:
        """Evaluate requests, in order."""
        drawn = [request.with_further_seeds(self.images) for request in requests]
        new = [request for request in dict.fromkeys(chain.from_iterable(drawn)) if request not in self._results]
        if new:
            images = self._victim.generate(new)
            self._results.update(
                zip(new, evaluated(images, [request.text for request in new], self._judge), strict=True)
            )
            for request, image in zip(new, images, strict=True):
                judgement = self._results[request].judgement
                if self._on_image is not None and judgement is not None and request.sampler is None:
                    self._on_image(request, image.image, judgement)
        joined = [Evaluated.any_of([(request, self._results[request]) for request in of_one]) for of_one in drawn]
        shown = [each.judgement is not None and each.judgement.hit for each in joined]
        controls = {r: r.control for r, hit in zip(requests, shown, strict=True) if hit and r.control is not None}
        if not controls:
            return joined
        seen = dict(zip(controls, self([*controls.values()]), strict=True))
        return [replace(each, control=seen.get(request)) for request, each in zip(requests, joined, strict=True)]


def unattacked_request(prompt: Prompt) -> GenerationRequest:
    """Return the request of a prompt's un-attacked image."""
    return GenerationRequest(prompt.text, prompt.seed, prompt.guidance)


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
        images: drawn per prompt and round; of those without attack, the first is kept, and hits.
    """

    def __init__(self, thumbnails: Thumbnails, prompts: Iterable[Prompt], images: int = 1) -> None:
        self._thumbnails = thumbnails
        self._images = images
        requests = [unattacked_request(prompt).with_further_seeds(images) for prompt in prompts]
        self._unattacked = {own for own, *_ in requests}
        self._further = {request for _, *further in requests for request in further}
        self._misses: dict[GenerationRequest, tuple[Image, float]] = {}
        self._closest: dict[str, float] = {}

    def judged(self, request: GenerationRequest, image: Image, judgement: Judgement) -> None:
        """Keep the victim's image of a prompt as it stands in the set, and every hit."""
        if judgement.hit or request in self._unattacked:
            plain = Prompt(request.text, request.seed, request.guidance, case=0).digest
            digest = with_embedding(plain, request.embedding_digest)
            self._thumbnails.add(digest, image)
        elif request not in self._further:
            self._misses[request] = image, judgement.score

    def attacked(self, prompt: Prompt, request: GenerationRequest) -> None:
        """Keep an image of an attack on a prompt if the judge's score is its highest so far, without a hit.

        The scores are of this process: a resumed attack begins again with its next image.
        """
        for drawn in request.with_further_seeds(self._images):
            image, score = self._misses.pop(drawn, (None, math.nan))
            if image is not None and score > self._closest.get(prompt.digest, -math.inf):
                self._closest[prompt.digest] = score
                self._thumbnails.add(near_miss(prompt.digest), image)

    def targets(self, prompts: Sequence[Prompt], images: Sequence[GeneratedImage]) -> None:
        """Keep the base's images of prompts, those that are evidence of nothing left out."""
        for prompt, image in zip(prompts, images, strict=True):
            if image.problem is None:
                self._thumbnails.add(prompt.digest, image.image, base=True)
