"""Any ``transformers`` image-classification model as a judge of objects and styles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

from ..core.errors import JudgeError
from ..core.images import Judgement
from ..core.untrusted import hint
from ..models.device import in_batches
from .pretrained import check_complete, load_pretrained


class ImageClassifier:
    """A hit when a wanted label is among the ``top`` highest, and their probability at least ``threshold``.

    Args:
        model: folder or Hub id of an image-classification model with its image processor.
        label: the label that is a hit, as the model's configuration names it, or its number; or a list of labels.
        top: 1 for top-1, as the paper judges objects; 3 for top-3, as it also judges styles.
        threshold: least probability of the label, or of all labels together, in [0, 1].
        device: of the model.

    Raises:
        JudgeError: the model cannot be loaded, its folder lacks weights, or it does not know a label.
    """

    def __init__(
        self,
        model: str,
        label: str | int | list[str | int],
        *,
        top: int = 1,
        threshold: float = 0.0,
        device: str = "cpu",
    ) -> None:
        try:
            self._processor = load_pretrained(AutoImageProcessor, model)
            self._model, loaded = load_pretrained(
                AutoModelForImageClassification, model, dtype=torch.float32, output_loading_info=True
            )
        except (OSError, ValueError) as error:
            raise JudgeError(f"judge model {model} cannot be loaded: {str(error)[:300]}") from None
        check_complete(f"judge model {model}", loaded)
        self._model.eval().requires_grad_(False).to(device)
        self._labels: dict[int, str] = self._model.config.id2label
        indices = {name: index for index, name in self._labels.items()}
        self._wanted: list[int] = []
        for name in label if isinstance(label, list) else [label]:
            index = name if isinstance(name, int) else indices.get(name, -1)
            if index not in self._labels:
                raise JudgeError(f"judge model {model} has no label {name!r}: {hint(str(name), indices)}")
            self._wanted.append(index)
        self._top, self._threshold, self._device = top, threshold, device

    @torch.no_grad()
    def __call__(self, images: Sequence[Image.Image]) -> list[Judgement]:
        """Judge RGB images, one judgement each, in order."""
        judgements = []
        for count, part in in_batches(images):
            inputs = self._processor(images=part, return_tensors="pt").to(self._device)
            judgements += [self._judge(row) for row in self._model(**inputs).logits.softmax(-1)[:count].cpu()]
        return judgements

    def _judge(self, row: torch.Tensor) -> Judgement:
        wanted = row[self._wanted]
        score, rank = float(wanted.sum()), int((row > wanted.max()).sum())
        seen = int(row.argmax())
        hit = rank < self._top and score >= self._threshold
        return Judgement(hit, score, f"{self._labels[seen]} {float(row[seen]):.2f}")
