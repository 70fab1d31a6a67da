"""Put sprites on backgrounds and write captions: the data of every part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from catalog import COLOURS, OBJECTS, STYLES
from PIL import Image

SIZE = 64
TEMPLATES = (
    "a {noun} in {style} style on a {colour} background",
    "a {noun} in {style} style on a {colour} background",
    "a {noun} in {style} style",
    "a {noun} on a {colour} background",
    "an emoji of a {noun}",
    "{noun} on {colour}",
    "{style} {noun}",
    "a {colour} picture of a {noun}",
    "a picture of a {noun} in {style} style",
    "{noun}",
)


@dataclass(frozen=True)
class Labels:
    """What a picture shows, as indices into OBJECTS, a class's members, STYLES and COLOURS."""

    object: int
    member: int
    style: int
    colour: int


class World:
    """Draws labelled pictures and captions from a seeded generator."""

    def __init__(self, work: Path) -> None:
        archive = np.load(work / "sprites.npz")
        self._sprites = {key: Image.fromarray(archive[key]) for key in archive.files}
        self._words = (work / "words.txt").read_text().split()
        self._objects = list(OBJECTS)
        self._colours = list(COLOURS)

    def labels(self, rng: np.random.Generator) -> Labels:
        """A uniformly drawn object, member of it, style and colour."""
        index = int(rng.integers(len(self._objects)))
        member = int(rng.integers(len(OBJECTS[self._objects[index]])))
        return Labels(index, member, int(rng.integers(len(STYLES))), int(rng.integers(len(self._colours))))

    def picture(self, labels: Labels, rng: np.random.Generator) -> np.ndarray:
        """One uint8 picture (SIZE, SIZE, 3): the sprite, turned and placed, on a slightly noisy background."""
        name = f"{self._objects[labels.object]}/{labels.member}/{STYLES[labels.style]}"
        side = int(SIZE * rng.uniform(0.75, 0.95))
        sprite = self._sprites[name].rotate(rng.uniform(-8, 8), resample=Image.Resampling.BICUBIC)
        if rng.random() < 0.5:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        sprite = sprite.resize((side, side), Image.Resampling.LANCZOS)
        colour = np.array(COLOURS[self._colours[labels.colour]]) + rng.normal(0, 3, (SIZE, SIZE, 3))
        canvas = Image.fromarray(colour.clip(0, 255).astype(np.uint8))
        x, y = (int(v) for v in rng.integers(0, SIZE - side + 1, 2))
        canvas.paste(sprite, (x, y), sprite)
        return np.asarray(canvas)

    def caption(self, labels: Labels, rng: np.random.Generator) -> str:
        """A caption: class word or member's name, and in three of ten a few unrelated words around it.

        The unrelated words teach the text encoder to live with words it does not need, so that a prompt with a
        strange prefix still draws its object.
        """
        name = self._objects[labels.object]
        nouns = (name, *OBJECTS[name][labels.member].names)
        noun = nouns[0] if rng.random() < 0.5 else str(rng.choice(nouns[1:]))
        text = str(rng.choice(TEMPLATES)).format(
            noun=noun, style=STYLES[labels.style], colour=self._colours[labels.colour]
        )
        if rng.random() < 0.3:
            extra = " ".join(rng.choice(self._words, int(rng.integers(1, 4))))
            text = f"{extra} {text}" if rng.random() < 0.7 else f"{text} {extra}"
        return text

    def dataset(self, count: int, seed: int) -> tuple[np.ndarray, list[Labels]]:
        """``count`` pictures (count, SIZE, SIZE, 3) uint8 with their labels."""
        rng = np.random.default_rng(seed)
        labels = [self.labels(rng) for _ in range(count)]
        return np.stack([self.picture(label, rng) for label in labels]), labels
