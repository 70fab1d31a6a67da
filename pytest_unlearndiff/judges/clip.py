"""Image and text features of any CLIP folder, each of length 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

from ..core.errors import JudgeError
from ..models.batches import in_batches
from .pretrained import pretrained


class Clip:
    """A CLIP model with its processor.

    Args:
        model: folder or Hub id.
        device: where it runs.

    Raises:
        JudgeError: the model cannot be loaded, or its folder lacks weights.
    """

    def __init__(self, model: str, device: str = "cpu") -> None:
        try:
            self._processor = pretrained(AutoImageProcessor, model)
            self._tokenizer = pretrained(AutoTokenizer, model)
            self._model, loaded = pretrained(CLIPModel, model, dtype=torch.float32, output_loading_info=True)
        except (OSError, ValueError) as error:
            raise JudgeError(f"CLIP model {model} cannot be loaded: {str(error)[:300]}") from None
        if missing := sorted(loaded["missing_keys"]):
            raise JudgeError(f"CLIP model {model}: {len(missing)} tensors are not in its files, such as {missing[0]}")
        self._model.eval().requires_grad_(False).to(device)
        self._device = device

    @torch.no_grad()
    def of_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Features (N, d) float32 of RGB images, on the CPU."""
        found = []
        for count, part in in_batches(images):
            pixels = self._processor(images=part, return_tensors="pt")["pixel_values"].to(self._device)
            found.append(_features(self._model.get_image_features(pixel_values=pixels))[:count])
        return torch.cat(found)

    @torch.no_grad()
    def of_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Features (N, d) float32 of texts, on the CPU."""
        found = []
        for count, part in in_batches(texts):
            tokens = self._tokenizer(part, padding=True, truncation=True, return_tensors="pt").to(self._device)
            features = self._model.get_text_features(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            )
            found.append(_features(features)[:count])
        return torch.cat(found)


def _features(output: Any) -> torch.Tensor:
    """Features (B, d) of length 1; some versions of transformers wrap them."""
    features: torch.Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return unit(features.float().cpu())


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors (N, d) made length 1."""
    return torch.nn.functional.normalize(vectors, dim=-1)
