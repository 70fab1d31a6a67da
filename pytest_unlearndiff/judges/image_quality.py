"""Distances between two sets of images: KID and FID, as torchmetrics computes them, on features of any image model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_kernel
from transformers import AutoImageProcessor, AutoModel

from ..core.errors import JudgeError
from ..models.device import in_batches
from .pretrained import check_complete, load_pretrained


@dataclass(frozen=True)
class ImageDistance:
    """How far two sets of images are apart.

    Attributes:
        kid: kernel inception distance (Bińkowski et al. 2018): unbiased for sets that are drawn independently, about 0
            for those of one distribution, so that it may be below 0.
        fid: Fréchet inception distance (Heusel et al. 2017), which grows as images get fewer: figures of different
            numbers of images cannot be compared.
    """

    kid: float
    fid: float


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


def read_image(path: Path) -> Image.Image:
    """Read an image as RGB.

    Raises:
        JudgeError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise JudgeError(f"image {path} cannot be read: {error}") from None


def image_distance(images: torch.Tensor, others: torch.Tensor) -> ImageDistance:
    """Compute KID and FID of two sets.

    Args:
        images: features (N, d) of one set, N at least 2.
        others: features (M, d) of the other, M at least 2.
    """
    inception = torch.nn.Identity()  # the features are computed already
    inception.num_features = images.shape[1]  # type: ignore[assignment]  # which torchmetrics asks for
    fid = FrechetInceptionDistance(feature=inception)
    fid.update(others, real=True)
    fid.update(images, real=False)
    return ImageDistance(_kid(images.double(), others.double()), float(fid.compute()))


def _kid(images: torch.Tensor, others: torch.Tensor) -> float:
    """Compute the unbiased squared MMD of all features (Bińkowski et al. 2018, section 4; Gretton et al. 2012, eq. 3).

    torchmetrics' own KID draws subsets of one size, so that with sets of two sizes it would depend on chance.
    """
    return _within(images) + _within(others) - 2 * float(poly_kernel(images, others).mean())


def _within(features: torch.Tensor) -> float:
    """Return the mean kernel of every two of the features (N, d)."""
    kernel, count = poly_kernel(features, features), len(features)
    return float(kernel.sum() - kernel.trace()) / (count * (count - 1))
