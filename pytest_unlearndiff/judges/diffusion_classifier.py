"""The un-erased model as the judge: the text under which it denoises an image best (Li et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from PIL import Image

from ..core.errors import JudgeError
from ..core.images import Judgement
from ..models.diffusion_model import DiffusionModel

Stages = Sequence[tuple[int, int]]
STAGES: Stages = ((4, 3), (16, 1))


class DiffusionClassifier:
    """A hit when no alternative's denoising error on the image is lower than the concept's.

    Every text is measured with the same noise at the same timesteps, so that their errors are compared in pairs, and
    the texts with the highest errors are dropped after each stage.

    Args:
        model: the un-erased model.
        concept: the concept's word or text.
        alternatives: words or texts for other content of images.
        template: text with ``{}`` in place of each of them.
        stages: pairs of noise samples in all (rising) and texts kept after them (falling to 1).
        seed: of the noise.
        device: ignored; the model has its own.
    """

    def __init__(
        self,
        model: DiffusionModel,
        concept: str,
        alternatives: Sequence[str],
        *,
        template: str = "a photo of a {}",
        stages: Stages = STAGES,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self._model = model
        self._words = [concept, *alternatives]
        self._conditioning = self._model.encode_prompts([template.format(word) for word in self._words])
        self._stages = stages
        self._seed = seed

    @torch.no_grad()
    def __call__(self, images: Sequence[Image.Image]) -> list[Judgement]:
        """Judge RGB images, one judgement each, in order; the score is p(concept | image) (Li et al., eq. 8)."""
        if not images:
            return []
        latents = self._model.encode_images(images)
        samples = self._stages[-1][0]
        noise = torch.randn(samples, *latents.shape[1:], generator=torch.Generator("cpu").manual_seed(self._seed))
        return [self._judge(x0, noise.to(x0)) for x0 in latents]

    def _judge(self, x0: torch.Tensor, noise: torch.Tensor) -> Judgement:
        """Measure and drop texts in stages, on latents (C, h, w) with noise (samples, C, h, w)."""
        kept = list(range(len(self._words)))
        errors: dict[int, list[float]] = {text: [] for text in kept}
        done: set[int] = set()
        posterior: dict[int, float] = {}
        for samples, keep in self._stages:
            new = sorted(set(spread(samples, len(noise))) - done)
            done |= set(new)
            pairs = [(text, sample) for text in kept for sample in new]
            for (text, _), error in zip(pairs, self._errors(x0, noise, pairs), strict=True):
                errors[text].append(error)
            posterior |= self._posterior({text: errors[text] for text in kept}, x0.numel())
            kept = sorted(kept, key=lambda text: sum(errors[text]))[:keep]
        return Judgement(kept == [0], posterior[0], f"{self._words[kept[0]]} {posterior[kept[0]]:.2f}")

    def _errors(self, x0: torch.Tensor, noise: torch.Tensor, pairs: Sequence[tuple[int, int]]) -> list[float]:
        """Return denoising errors of (text, sample) pairs, each averaged over the latents."""
        values: list[float] = []
        for count, part in self._model.batches(pairs):
            texts, samples = (torch.tensor(column, device=x0.device) for column in zip(*part, strict=True))
            t = (2 * samples + 1) * self._model.timesteps // (2 * len(noise))
            conditioning = self._conditioning[texts]
            errors = self._model.denoising_error(x0.expand(len(part), *x0.shape), noise[samples], t, conditioning)
            values += errors[:count].tolist()
        if not all(map(math.isfinite, values)):
            raise JudgeError(
                "the diffusion-classifier judge's denoising error became NaN or infinity: its weights overflow, or "
                "--unlearndiff-dtype is too narrow for them (float32 is the widest)"
            )
        return values

    def _posterior(self, errors: Mapping[int, Sequence[float]], size: int) -> dict[int, float]:
        """Return p(text | image) among these texts, from errors averaged over latents of ``size`` numbers."""
        means = torch.tensor([sum(each) / len(each) for each in errors.values()], dtype=torch.float64)
        return dict(zip(errors, (-size * means).softmax(0).tolist(), strict=True))


def spread(count: int, total: int) -> list[int]:
    """Return ``count`` of the numbers below ``total``: the middle of each of ``count`` equal parts."""
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]
