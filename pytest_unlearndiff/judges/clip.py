"""CLIP as a judge: nearer to the concept than to neutral labels; its features serve other judges too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

from ..core.errors import JudgeError
from ..core.images import Judgement
from ..models.device import in_batches
from .pretrained import check_complete, load_pretrained


class ClipZeroShot:
    """A hit when the concept's cosine exceeds every neutral label's by more than ``margin`` (Radford et al. 2021).

    It fits any concept and is a weak judge: calibrate it on the base model's images.

    Args:
        model: folder or Hub id of a CLIP model.
        concept: a text for the concept, such as ``a photo of a church``.
        neutral: texts for other content of images.
        margin: a difference of cosines, in [-2, 2].
        device: of the model.

    Raises:
        JudgeError: the model cannot be loaded.
    """

    def __init__(
        self, model: str, concept: str, neutral: Sequence[str], *, margin: float = 0.0, device: str = "cpu"
    ) -> None:
        self._clip = Clip(model, device)
        self._texts = [concept, *neutral]
        self._features = self._clip.encode_texts(self._texts)
        self._margin = margin

    def __call__(self, images: Sequence[Image.Image]) -> list[Judgement]:
        """Judge RGB images, one judgement each, in order; the score is the margin reached."""
        judgements = []
        for cosines in (self._clip.encode_images(images) @ self._features.T).tolist():
            score = cosines[0] - max(cosines[1:])
            nearest = max(range(len(cosines)), key=cosines.__getitem__)
            judgements.append(Judgement(score > self._margin, score, f"{self._texts[nearest]} {cosines[nearest]:.3f}"))
        return judgements


class Clip:
    """A CLIP model with its processor; features have length 1.

    Args:
        model: folder or Hub id.
        device: of the model.

    Raises:
        JudgeError: the model cannot be loaded, or its folder lacks weights.
    """

    def __init__(self, model: str, device: str = "cpu") -> None:
        try:
            self._processor = load_pretrained(AutoImageProcessor, model)
            self._tokenizer = load_pretrained(AutoTokenizer, model)
            self._model, loaded = load_pretrained(CLIPModel, model, dtype=torch.float32, output_loading_info=True)
        except (OSError, ValueError) as error:
            raise JudgeError(f"CLIP model {model} cannot be loaded: {str(error)[:300]}") from None
        check_complete(f"CLIP model {model}", loaded)
        self._model.eval().requires_grad_(False).to(device)
        self._device = device

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Return features (N, d) float32 of RGB images, on the CPU."""
        features = []
        for count, part in in_batches(images):
            pixels = self._processor(images=part, return_tensors="pt")["pixel_values"].to(self._device)
            features.append(_features(self._model.get_image_features(pixel_values=pixels))[:count])
        return torch.cat(features)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Return features (N, d) float32 of texts, on the CPU."""
        features = []
        for count, part in in_batches(texts):
            tokens = self._tokenizer(part, padding=True, truncation=True, return_tensors="pt").to(self._device)
            output = self._model.get_text_features(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            )
            features.append(_features(output)[:count])
        return torch.cat(features)


def _features(output: Any) -> torch.Tensor:
    """Return features (B, d) of length 1; some versions of transformers wrap them."""
    features: torch.Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return normalize(features.float().cpu())


def normalize(vectors: torch.Tensor) -> torch.Tensor:
    """Return vectors (N, d) scaled to length 1."""
    return torch.nn.functional.normalize(vectors, dim=-1)
