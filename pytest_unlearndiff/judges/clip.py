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


class ClipScore:
    """A hit when image and prompt have a cosine of at least ``threshold``: whether a model draws what it is asked for.

    The score is the cosine, as the UnlearnDiffAtk benchmark prints it; CLIPScore (Hessel et al. 2021, section 3) is 2.5
    times that. Captions of a model's training domain have about 0.3 with Stable Diffusion and CLIP ViT-B/32 or L/14.

    Args:
        model: folder or Hub id of a CLIP model.
        threshold: least cosine of a hit, in [-1, 1].
        device: of the model.

    Raises:
        JudgeError: the model cannot be loaded.
    """

    def __init__(self, model: str, threshold: float, *, device: str = "cpu") -> None:
        self._clip = Clip(model, device)
        self._threshold = threshold

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[Judgement]:
        """Judge RGB images with their prompts, one judgement each, in order."""
        cosines = self._clip.scores(images, prompts)
        return [Judgement(cosine >= self._threshold, cosine, f"cosine {cosine:.3f}") for cosine in cosines]


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
        # Texts are as long as the longest that the model reads, so that no neighbour in a batch changes their numbers.
        longest = self._model.config.text_config.max_position_embeddings
        self._form = {"padding": "max_length", "truncation": True, "max_length": longest, "return_tensors": "pt"}

    def scores(self, images: Sequence[Image.Image], texts: Sequence[str]) -> list[float]:
        """Return the cosine of each image and its text."""
        cosines: list[float] = (self.encode_images(images) * self.encode_texts(texts)).sum(-1).tolist()
        return cosines

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
            tokens = self._tokenizer(part, **self._form).to(self._device)
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
