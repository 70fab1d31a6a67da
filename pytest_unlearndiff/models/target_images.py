"""Target images: what the base model draws for the same prompts and seeds, or images of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from PIL import Image

from ..core.concept import Prompt
from ..core.errors import ConceptError, ModelError, UnusableTargets
from ..core.images import GenerationRequest
from .diffusion_model import DiffusionModel
from .generated_images import GeneratedImage, is_constant

ControlRecorder = Callable[[Sequence[Prompt], Sequence[GeneratedImage]], None]


class Targets:
    """Makes target images with the base model and encodes them with the victim's autoencoder.

    Args:
        base: the un-erased model; None where it is not there.
        witnesses: each is shown every target image with its prompt.
        guidance: classifier-free guidance scale of target images, where it is not each prompt's own.
        at_work: context in which the base can draw, where it is not always on the device.
    """

    def __init__(
        self,
        base: DiffusionModel | None,
        witnesses: Sequence[ControlRecorder] = (),
        *,
        guidance: float | None = None,
        at_work: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._base = base
        self._at_work = at_work
        self._witnesses = witnesses
        self._guidance = guidance
        self._drawn: dict[Prompt, GeneratedImage] = {}

    @property
    def base(self) -> DiffusionModel:
        """The un-erased model.

        Raises:
            ModelError: there is none.
        """
        if self._base is None:
            raise ModelError("this attack needs the un-erased model itself: give it with --unlearndiff-base")
        return self._base

    def latents(self, prompts: Sequence[Prompt], victim: DiffusionModel) -> torch.Tensor:
        """Latents (B, C, h, w) float32 of the prompts' target images.

        Raises:
            UnusableTargets: some are evidence of nothing, or have no finite latents. What was drawn is kept for the
                next call, which may ask for the others.
        """
        images = self._target_images(prompts)
        for witness in self._witnesses:
            witness(prompts, images)
        self._drawn = dict(zip(prompts, images, strict=True))
        _raise({p: f"its target image is unusable: {each.problem}" for p, each in self._drawn.items() if each.problem})
        latents = victim.encode_images([drawn.image for drawn in images])
        finite = latents.isfinite().flatten(1).all(1).tolist()
        _raise({prompt: _NO_LATENTS for prompt, good in zip(prompts, finite, strict=True) if not good})
        self._drawn = {}
        return latents

    def _target_images(self, prompts: Sequence[Prompt]) -> list[GeneratedImage]:
        """Return the prompts' target images, drawing those that were not kept."""
        if new := [prompt for prompt in prompts if prompt not in self._drawn]:
            self._drawn |= dict(zip(new, self._images(new), strict=True))
        return [self._drawn[prompt] for prompt in prompts]

    def _images(self, prompts: Sequence[Prompt]) -> list[GeneratedImage]:
        """Make the prompts' target images."""
        scales = [prompt.guidance if self._guidance is None else self._guidance for prompt in prompts]
        requests = [GenerationRequest(p.text, p.seed, scale) for p, scale in zip(prompts, scales, strict=True)]
        with self._at_work():
            return self.base.generate(requests)


_NO_LATENTS = (
    "the autoencoder of the model under test encodes its target image as NaN or infinity: its weights overflow, or "
    "--unlearndiff-dtype is too narrow for them (float32 is the widest)"
)


def _raise(problems: Mapping[Prompt, str]) -> None:
    if problems:
        raise UnusableTargets({prompt.digest: said for prompt, said in problems.items()})


class SuppliedTargets(Targets):
    """Target images of the user's.

    Args:
        paths: of the images, by the prompts' ``listed_digest``.
        size: width and height that each has to have, the victim's own.
        base: the un-erased model, for attacks that need more of it; None where it is not there.
        witnesses: each is shown every target image with its prompt.

    Raises:
        ConceptError: one cannot be read, is not an RGB image of this size, or has a single colour.
    """

    def __init__(
        self,
        paths: Mapping[str, str],
        size: tuple[int, int],
        base: DiffusionModel | None = None,
        witnesses: Sequence[ControlRecorder] = (),
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

    def _images(self, prompts: Sequence[Prompt]) -> list[GeneratedImage]:
        return supplied_images(prompts, self._paths)


def supplied_images(prompts: Sequence[Prompt], paths: Mapping[str, str]) -> list[GeneratedImage]:
    """Read the user's images of prompts.

    Args:
        prompts: the prompts.
        paths: of the images, by digest of the prompts as their set lists them.

    Raises:
        ConceptError: one cannot be read, or shows nothing.
    """
    return [GeneratedImage(_supplied_image(Path(paths[prompt.listed_digest]))) for prompt in prompts]


def _supplied_image(path: Path) -> Image.Image:
    """Read an image of the user's as RGB.

    Raises:
        ConceptError: it cannot be read, or shows nothing.
    """
    try:
        image = Image.open(path).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ConceptError(f"target image {path} cannot be read ({type(error).__name__})") from None
    if is_constant(image):
        raise ConceptError(f"target image {path} has a single colour and shows nothing: give one of the concept")
    return image


def _problem(path: Path, size: tuple[int, int]) -> str:
    """Explain what is wrong with an image; empty where nothing is."""
    try:
        with Image.open(path) as image:
            if (image.mode, image.size) != ("RGB", size):
                return f"{path} is {image.mode} of {image.size[0]}x{image.size[1]}"
            return f"{path} has a single colour and shows nothing" if is_constant(image) else ""
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        return f"{path} cannot be read ({type(error).__name__})"
