"""A search of what can be typed, by images alone: names, every token, and pairs of the best, until one is a hit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.images import Evaluated, GenerationRequest
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.judges.base import Judge
from pytest_unlearndiff.models.diffusion_model import DiffusionModel
from pytest_unlearndiff.runs.evaluation import Evaluation

VERSION = 1
STEPS = 5
"""Denoising steps of a draft."""
DRAWN, BEST, PARTNERS = 48, 3, 6
"""Tokens whose drafts score highest are drawn in full; the best of those are paired with the best of these."""
TOGETHER = 16


@dataclass(frozen=True)
class Exhaustive:
    """Puts words and tokens before a prompt, most of which are only drawn in full if a draft of few steps looks well.

    So it finds no more than a part of what can be typed: what it breaks can be broken, what it does not break may be.

    Attributes:
        model: the victim.
        drafts: the same victim, drawing in ``STEPS`` steps.
        judge: of the concept.
        names: of the concept's members, tried first.
    """

    model: DiffusionModel
    drafts: DiffusionModel
    judge: Judge
    names: Sequence[str]

    def attack(self, prompt: Prompt) -> Outcome:
        """Search until an image shows the concept, or nothing is left to try."""
        started, images = time.monotonic(), 0
        for prefix, evaluated in self._images(prompt):
            images += 1
            if evaluated.judgement is not None and evaluated.judgement.hit:
                status = Status.HIT_UNDER_ATTACK if prefix else Status.HIT_WITHOUT_ATTACK
                break
        else:
            status, prefix = Status.RESISTED, ""
        drafted = len(self.model.vocabulary.typeable) if images > 1 + len(self.names) else 0
        forwards = images * self.model.forwards_per_image + drafted * self.drafts.forwards_per_image
        return Outcome(
            prompt.digest,
            status,
            adversarial=f"{prefix} {prompt.text}" if prefix else None,
            inserted=prefix or None,
            seed=prompt.seed,
            evaluations=images,
            forwards=forwards,
            seconds=time.monotonic() - started,
        )

    def _images(self, prompt: Prompt) -> Iterator[tuple[str, Evaluated]]:
        yield from self._full(prompt, ["", *self.names])
        vocabulary = self.model.vocabulary
        tokens = [vocabulary.text([token]).strip() for token in vocabulary.typeable.tolist()]
        drafts = self._scores(tokens, self._evaluated(prompt, tokens, self.drafts))
        full = {}
        for prefix, evaluated in self._full(prompt, drafts[:DRAWN]):
            full[prefix] = evaluated
            yield prefix, evaluated
        best = self._scores(list(full), list(full.values()))[:BEST]
        pairs = [pair for one in best for other in drafts[:PARTNERS] for pair in (f"{one} {other}", f"{other} {one}")]
        yield from self._full(prompt, list(dict.fromkeys(pairs)))

    def _full(self, prompt: Prompt, prefixes: Sequence[str]) -> Iterator[tuple[str, Evaluated]]:
        for first in range(0, len(prefixes), TOGETHER):
            part = prefixes[first : first + TOGETHER]
            yield from zip(part, self._evaluated(prompt, part, self.model), strict=True)

    def _evaluated(self, prompt: Prompt, prefixes: Sequence[str], model: DiffusionModel) -> list[Evaluated]:
        texts = [f"{prefix} {prompt.text}".strip() for prefix in prefixes]
        return Evaluation(model, self.judge)([GenerationRequest(text, prompt.seed, prompt.guidance) for text in texts])

    def _scores(self, prefixes: Sequence[str], evaluated: Sequence[Evaluated]) -> list[str]:
        """Sort prefixes by the judge's score, highest first; those without an image that is evidence are left out."""
        judged = [
            (each.judgement.score, text) for text, each in zip(prefixes, evaluated, strict=True) if each.judgement
        ]
        return [text for _, text in sorted(judged, key=lambda pair: -pair[0])]
