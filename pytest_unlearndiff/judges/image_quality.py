"""Image quality: features of images by any image model, and CLIP scores of images and their captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from ..core.errors import JudgeError
from ..core.images import Judgement
from ..models.device import in_batches
from ..models.tensor_text import pack
from .clip import Clip
from .pretrained import check_complete, load_pretrained


class ImageFeatures:
    """Features of an image model: its pooled output, or the mean of its last layer where it has none.

    Args:
        model: folder or Hub id of a model with an image processor.
        device: of the model.

    Raises:
        JudgeError: the model cannot be loaded, or its folder lacks weights.
    """

    def __init__(self, model: str, device: str = "cpu") -> None:
        try:
            self._processor = load_pretrained(AutoImageProcessor, model)
            self._model, loaded = load_pretrained(AutoModel, model, dtype=torch.float32, output_loading_info=True)
        except (OSError, ValueError) as error:
            raise JudgeError(f"image model {model} cannot be loaded: {str(error)[:300]}") from None
        check_complete(f"image model {model}", loaded)
        self._model = getattr(self._model, "vision_model", self._model)  # of CLIP and its like
        self._model.eval().requires_grad_(False).to(device)
        self._device = device

    @torch.no_grad()
    def __call__(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Return features (N, d) float32 of RGB images, on the CPU."""
        features = []
        for count, part in in_batches(images):
            pixels = self._processor(images=part, return_tensors="pt")["pixel_values"].to(self._device)
            output = self._model(pixels)
            pooled = getattr(output, "pooler_output", None)
            pooled = output.last_hidden_state.mean(1) if pooled is None else pooled
            features.append(pooled.flatten(1).float().cpu()[:count])
        return torch.cat(features)


def features_of_files(model: str, paths: Sequence[Path], device: str) -> torch.Tensor:
    """Return features (N, d) of image files, of which a few are in memory at once.

    Raises:
        JudgeError: the model cannot be loaded, or an image cannot be read.
    """
    network = ImageFeatures(model, device)
    parts = (paths[first : first + _FILES] for first in range(0, len(paths), _FILES))
    return torch.cat([network([_read_image(path) for path in part]) for part in parts])


_FILES = 64


def _read_image(path: Path) -> Image.Image:
    """Read an image as RGB.

    Raises:
        JudgeError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise JudgeError(f"image {path} cannot be read: {error}") from None


class ImageQuality:
    """Measures images and decides nothing: every image is a hit, with its features and, with CLIP, its cosine as score.

    Args:
        features: folder or Hub id of the image model whose features KID and FID compare; None for no features.
        clip: folder or Hub id of the CLIP model that compares images with their captions; None for a score of 0.
        device: of the models.

    Raises:
        JudgeError: a model cannot be loaded.
    """

    def __init__(self, features: str | None = None, clip: str | None = None, *, device: str = "cpu") -> None:
        self._features = ImageFeatures(features, device) if features is not None else None
        self._clip = Clip(clip, device) if clip is not None else None

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[Judgement]:
        """Measure RGB images with their captions, one answer each, in order."""
        vectors = [pack(vector) for vector in self._features(images)] if self._features is not None else None
        cosines = self._clip.scores(images, prompts) if self._clip is not None else [0.0] * len(images)
        return [
            Judgement(
                True,
                cosine,
                f"cosine {cosine:.3f}" if self._clip is not None else "measured",
                features=vectors[number] if vectors is not None else None,
            )
            for number, cosine in enumerate(cosines)
        ]
