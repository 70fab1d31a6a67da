"""Target images: what the base model draws for the same prompts and seeds, or images of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image

from ..core.concept import Prompt
from ..core.drawing import Drawing
from ..core.errors import ConceptError, ModelError
from .victim import Victim

Witness = Callable[[Sequence[Prompt], Sequence[Image.Image]], None]


class Targets:
    """Makes target images with the base model and encodes them with the victim's autoencoder.

    Args:
        base: the un-erased model; None where it is not there.
        witnesses: each is shown every target image with its prompt.
        guidance: classifier-free guidance scale of target images, where it is not each prompt's own.
    """

    def __init__(
        self, base: Victim | None, witnesses: Sequence[Witness] = (), *, guidance: float | None = None
    ) -> None:
        self._base = base
        self._witnesses = witnesses
        self._guidance = guidance

    @property
    def base(self) -> Victim:
        """The un-erased model.

        Raises:
            ModelError: there is none.
        """
        if self._base is None:
            raise ModelError("this attack needs the un-erased model itself: give it with --unlearndiff-base")
        return self._base

    def latents(self, prompts: Sequence[Prompt], victim: Victim) -> torch.Tensor:
        """Latents (B, C, h, w) float32 of the prompts' target images."""
        images = self._images(prompts)
        for witness in self._witnesses:
            witness(prompts, images)
        return victim.latents(images)

    def _images(self, prompts: Sequence[Prompt]) -> list[Image.Image]:
        """The prompts' target images."""
        scales = [prompt.guidance if self._guidance is None else self._guidance for prompt in prompts]
        return self.base.generate(
            [Drawing(prompt.text, prompt.seed, scale) for prompt, scale in zip(prompts, scales, strict=True)]
        )


class SuppliedTargets(Targets):
    """Target images of the user's.

    Args:
        paths: of the images, by prompt digest.
        size: width and height that each has to have, the victim's own.
        base: the un-erased model, for attacks that need more of it; None where it is not there.
        witnesses: each is shown every target image with its prompt.

    Raises:
        ConceptError: one cannot be read, or is not an RGB image of this size.
    """

    def __init__(
        self,
        paths: Mapping[str, str],
        size: tuple[int, int],
        base: Victim | None = None,
        witnesses: Sequence[Witness] = (),
    ) -> None:
        super().__init__(base, witnesses)
        self._paths = paths
        wrong = [said for path in dict.fromkeys(paths.values()) if (said := _problem(Path(path), size))]
        if wrong:
            others = f" ({len(wrong)} of {len(paths)} images cannot be used)" if len(wrong) > 1 else ""
            raise ConceptError(
                f"target image {wrong[0]}{others}: save it as an RGB image of {size[0]}x{size[1]} pixels, as the model "
                "draws them"
            )

    def _images(self, prompts: Sequence[Prompt]) -> list[Image.Image]:
        return [supplied_image(Path(self._paths[prompt.digest])) for prompt in prompts]


def supplied_image(path: Path) -> Image.Image:
    """An image of the user's, as RGB.

    Raises:
        ConceptError: it cannot be read.
    """
    try:
        return Image.open(path).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ConceptError(f"target image {path} cannot be read ({type(error).__name__})") from None


def _problem(path: Path, size: tuple[int, int]) -> str:
    """What is wrong with an image, told without decoding it; empty where nothing is."""
    try:
        with Image.open(path) as image:
            right = (image.mode, image.size) == ("RGB", size)
            return "" if right else f"{path} is {image.mode} of {image.size[0]}x{image.size[1]}"
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        return f"{path} cannot be read ({type(error).__name__})"
