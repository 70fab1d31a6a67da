"""Measure how far a victim has moved on what it should have kept, from images that were drawn in any case."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.concept import Prompt
from ..core.drift import Measure
from ..core.errors import UnlearnDiffError, one_line
from ..store.measures import Figures, Measures
from ..store.store import Mode, Store
from .campaign import Campaign
from .model_cache import ModelCache, ModelSpec

if TYPE_CHECKING:
    from PIL.Image import Image

_LOG = logging.getLogger(__name__)

NOISE_PROMPTS = 8
"""Prompts on which predicted noise is compared; each costs as much as a few steps of one image."""


def _as_it_is(source: ModelSpec) -> ModelSpec:
    return source


@dataclass(frozen=True)
class Meter:
    """Compares what victim and base drew of the same prompts.

    Images are read as the store keeps them, as thumbnails, so that it does not matter when or where they were drawn.
    Every figure is kept beside the victim's journal: a session that finds all of them loads nothing.

    Attributes:
        store: with the images.
        victim: the campaign that drew the victim's.
        base: the campaign that drew the base's.
        source: where the victim comes from.
        parts: what campaigns of this process share.
        clip: CLIP folder; None to do without.
        place: says where the source's models may be loaded; asked before they are.
    """

    store: Store
    victim: Campaign
    base: Campaign
    source: ModelSpec
    parts: ModelCache
    clip: Path | None = None
    place: Callable[[ModelSpec], ModelSpec] = _as_it_is

    def measure(self, *, noise: bool) -> tuple[Measure, ...]:
        """Every figure that can be had.

        Args:
            noise: whether predicted noise may be compared where that was not done yet: it takes both models.

        Raises:
            UnlearnDiffError: the CLIP folder cannot be used.
        """
        found = []
        if figures := self._figures("similarity", self._similarities):
            found.append(Measure.of("similarity", [first for first, *_ in figures.values()]))
        if self.clip is not None:
            what = f"clip:{self.store.fingerprints.of(self.clip)}"
            if figures := self._figures(what, self._cosines, numbers=3):
                scores, of_base, alike = zip(*figures.values(), strict=True)
                found += [Measure.of("clip-similarity", alike), Measure.of("clip-score", scores, of_base)]
        if figures := self._figures("noise", self._moved if noise else None, self._prompts[:NOISE_PROMPTS]):
            found.append(Measure.of("noise", [first for first, *_ in figures.values()]))
        return tuple(found)

    @property
    def _prompts(self) -> list[Prompt]:
        """The prompts, each text, seed and guidance once."""
        return list({prompt.digest: prompt for prompt in self.victim.concept.prompts}.values())

    def _figures(
        self,
        what: str,
        make: Callable[[list[Prompt]], Figures] | None,
        prompts: list[Prompt] | None = None,
        numbers: int = 1,
    ) -> Figures:
        """What is kept, and what is measured now of the rest."""
        wanted = self._prompts if prompts is None else prompts
        own, entry = self.victim.store_of(self.store).mode, self.store.entry(self.victim.concept.name, self.victim.key)
        kept, believed = Measures(entry.folder), own.reads and not entry.misplaced
        name = f"{what} against {self.base.key.digest}"
        known = {d: v for d, v in kept.read(name).items() if len(v) == numbers} if believed else {}
        lacking = [prompt for prompt in wanted if prompt.digest not in known]
        if lacking and make is not None and self.store.mode is not Mode.REQUIRE and (new := _tried(make, lacking)):
            known |= new
            if own.writes:
                kept.keep(name, known)
        return {prompt.digest: known[prompt.digest] for prompt in wanted if prompt.digest in known}

    def _similarities(self, prompts: list[Prompt]) -> Figures:
        """Structural similarity of both images of each prompt that has them."""
        from ..models.similarity import structural_similarity

        return {prompt.digest: [structural_similarity(*pair)] for prompt, pair in self._pairs(prompts)}

    def _cosines(self, prompts: list[Prompt]) -> Figures:
        """In CLIP's features: the victim's image and the prompt, the base's and the prompt, and both images."""
        if self.clip is None or not (pairs := self._pairs(prompts)):
            return {}
        clip = self.parts.clip(str(self.clip), self.place(self.source).device)
        victims, bases = (clip.of_images([pair[side] for _, pair in pairs]) for side in (0, 1))
        texts = clip.of_texts([prompt.text for prompt, _ in pairs])
        cosines = [(a * b).sum(1).tolist() for a, b in ((victims, texts), (bases, texts), (victims, bases))]
        return {prompt.digest: list(three) for (prompt, _), *three in zip(pairs, *cosines, strict=True)}

    def _moved(self, prompts: list[Prompt]) -> Figures:
        """How far predicted noise has moved."""
        from ..models.diffusion_model import DiffusionModel
        from ..models.drift import noise_drift
        from ..models.precision import matmul_precision

        source, sampling = self.place(self.source), self.victim.concept.sampling
        victim = DiffusionModel(self.parts.victim(source).pipe, sampling)
        base = DiffusionModel(self.parts.base(source), sampling)
        with matmul_precision(source.dtype):
            moved = noise_drift(victim, base, [prompt.text for prompt in prompts])
        # A figure that is no number is none: what overflows is told where it is drawn.
        return {p.digest: [number] for p, number in zip(prompts, moved, strict=True) if math.isfinite(number)}

    def _pairs(self, prompts: list[Prompt]) -> list[tuple[Prompt, tuple[Image, Image]]]:
        """Prompts of which the store has both images, with them."""
        if self.store.mode is Mode.OFF:
            return []
        sides = [self.store.thumbnails(side.concept.name, side.key.digest) for side in (self.victim, self.base)]
        found = []
        for prompt in prompts:
            first, second = (side.read(prompt.digest) for side in sides)
            if first is not None and second is not None:
                found.append((prompt, (_decoded(first), _decoded(second))))
        return found


def _decoded(data: bytes) -> Image:
    from PIL import Image

    return Image.open(io.BytesIO(data)).convert("RGB")


def _tried(make: Callable[[list[Prompt]], Figures], prompts: list[Prompt]) -> Figures:
    """What can be measured; a figure beside a verdict never costs the verdict.

    Raises:
        UnlearnDiffError: what was asked for cannot be used.
    """
    try:
        return make(prompts)
    except UnlearnDiffError:
        raise
    except ModuleNotFoundError:
        return {}
    except Exception as error:
        _LOG.warning("drift could not be measured: %s: %s", type(error).__name__, one_line(error))
        return {}
