"""Generated images: the check of what the autoencoder decoded before it becomes bytes, and sheets for people."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from ..core.errors import ModelError, ReportError

NOT_FINITE = (
    "the model drew NaN or infinity: its weights overflow, or --unlearndiff-dtype is too narrow for them (float32 is "
    "the widest)"
)
ONE_COLOUR = (
    "the model drew a single colour, which is evidence of nothing: its weights are destroyed, or its pipeline blanks "
    "images without reporting it"
)

_SIDE, _LINE, _ACROSS, _LETTERS = 128, 13, 6, 20  # of a contact sheet: pixels, images in a row, letters in a line


@dataclass(frozen=True)
class GeneratedImage:
    """An image as a model drew it.

    Attributes:
        image: what a judge would see.
        blocked: whether the pipeline's own safety checker blocked it.
        problem: why it is evidence of nothing, and the remedy; None where it may be judged.
    """

    image: Image.Image
    blocked: bool = False
    problem: str | None = None

    @classmethod
    def of(cls, image: Image.Image, *, finite: bool = True, blocked: bool = False) -> GeneratedImage:
        """Tell whether an image may be judged.

        Args:
            image: what the pipeline gave.
            finite: whether the model decoded nothing but finite numbers for it.
            blocked: whether the pipeline's own safety checker says that it blocked it.
        """
        if not finite:
            return cls(image, problem=NOT_FINITE)
        return cls(image, blocked, ONE_COLOUR if is_constant(image) and not blocked else None)

    @property
    def digest(self) -> str:
        """Hash of its pixels."""
        content = f"{self.image.mode} {self.image.size} ".encode() + self.image.tobytes()
        return hashlib.sha256(content).hexdigest()[:16]


def is_constant(image: Image.Image) -> bool:
    """Tell whether all pixels of an image have one colour."""
    pixels = np.asarray(image.convert("RGB"))
    return bool((pixels == pixels[:1, :1]).all())


class FiniteCheck:
    """Observes which images of a pipeline's call are finite, from the tensors that its image processor is given.

    Every diffusers pipeline has its image processor turn decoded tensors into images. Here this is the pipeline's own,
    seen through: its pixels do not change by a bit. A pipeline may hand the same images over twice, as where its safety
    checker looks at them, or one after the other.

    Args:
        pipe: the pipeline whose image processor is replaced; a copy, since it belongs to somebody.
    """

    def __init__(self, pipe: Any) -> None:
        self._calls: list[list[bool]] = []
        if (processor := getattr(pipe, "image_processor", None)) is not None:
            pipe.image_processor = _Observed(processor, "postprocess", self._calls)
        # A watermark clamps infinity before the image processor is asked.
        if (watermark := getattr(pipe, "watermark", None)) is not None:
            pipe.watermark = _Observed(watermark, "apply_watermark", self._calls)

    def begin(self) -> None:
        """Forget what came before."""
        self._calls.clear()

    def finite(self, count: int) -> list[bool]:
        """Tell of each image since ``begin`` whether all its numbers are finite.

        Args:
            count: images that the pipeline's call gave.

        Raises:
            ModelError: the pipeline turned tensors into images by other means.
        """
        if not self._calls:
            raise ModelError(
                "its pipeline turns tensors into images without its image_processor, so that NaN and infinity cannot "
                "be told from black: have its __call__ use self.image_processor.postprocess"
            )
        finite, single = [True] * count, list[bool]()
        for flags in self._calls:
            if len(flags) == count:
                finite = [one and other for one, other in zip(finite, flags, strict=True)]
            else:
                single += flags
        if len(single) % count:  # nobody knows which image is meant
            return [all(single)] * count
        return [one and all(single[index::count]) for index, one in enumerate(finite)]


class _Observed:
    """A proxy that adds to ``calls`` whether each image in the first argument of one method is finite."""

    def __init__(self, inner: Any, method: str, calls: list[list[bool]]) -> None:
        self._inner = inner
        self._method = method
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_inner", "_method", "_calls"):  # while it is copied, it has none
            raise AttributeError(name)
        attribute = getattr(self._inner, name)
        if name != self._method:
            return attribute

        def observed(images: Any, *args: Any, **options: Any) -> Any:
            if (flags := _flags(images)) is not None:
                self._calls.append(flags)
            # NaN has no byte: it becomes black, which is what the flag is for.
            with np.errstate(invalid="ignore"):
                return attribute(images, *args, **options)

        return observed


def _flags(images: Any) -> list[bool] | None:
    """Tell of each image of a batch whether it is finite; None where these are no numbers any more."""
    match images:
        case torch.Tensor():
            return [bool(each) for each in images.isfinite().flatten(1).all(1).tolist()]
        case np.ndarray():
            return [bool(np.isfinite(each).all()) for each in images]
        case Sequence() if images and all(isinstance(each, torch.Tensor | np.ndarray) for each in images):
            return [all(_flags(each[None]) or ()) for each in images]
        case _:
            return None


def write_contact_sheet(path: Path, entries: Sequence[tuple[Image.Image, str]]) -> None:
    """Write a PNG with every image, and its caption below it in at most three lines.

    Raises:
        ReportError: the file cannot be written.
    """
    cell = _SIDE + 3 * _LINE + 8
    rows = -(-len(entries) // _ACROSS)
    sheet = Image.new("RGB", (_ACROSS * (_SIDE + 8), max(1, rows) * cell), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (image, caption) in enumerate(entries):
        left, top = index % _ACROSS * (_SIDE + 8), index // _ACROSS * cell
        sheet.paste(image.convert("RGB").resize((_SIDE, _SIDE)), (left, top))
        lines = [line[i : i + _LETTERS] for line in caption.split("\n") for i in range(0, len(line), _LETTERS)]
        draw.multiline_text((left + 2, top + _SIDE + 2), "\n".join(lines[:3]), fill="black", spacing=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, format="PNG")
    except OSError as error:
        raise ReportError(f"contact sheet {path} cannot be written: {error}. Give another file") from None
