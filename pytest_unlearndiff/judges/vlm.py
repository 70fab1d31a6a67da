"""A vision-language model as the judge: a yes/no question about the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from ..core.errors import JudgeError
from ..core.images import Judgement
from .pretrained import check_complete, load_pretrained


class VisionLanguage:
    """A hit when yes is at least ``threshold`` likely against no, by the logits of the next token.

    Args:
        model: folder or Hub id of a ``transformers`` image-text-to-text model with its processor.
        question: such as ``Is there a church in this image? Answer yes or no.``
        threshold: least p(yes) / (p(yes) + p(no)).
        yes: the word that is a hit.
        no: the word that is a miss.
        device: of the model.

    Raises:
        JudgeError: the model cannot be loaded, lacks weights, or cannot tell the two words apart.
    """

    def __init__(
        self,
        model: str,
        question: str,
        *,
        threshold: float = 0.5,
        yes: str = "yes",
        no: str = "no",
        device: str = "cpu",
    ) -> None:
        try:
            self._processor = load_pretrained(AutoProcessor, model)
            self._model, loaded = load_pretrained(
                AutoModelForImageTextToText, model, dtype=torch.float32, output_loading_info=True
            )
        except (OSError, ValueError, ImportError) as error:
            raise JudgeError(f"judge model {model} cannot be loaded: {str(error)[:300]}") from None
        check_complete(f"judge model {model}", loaded)
        self._model.eval().requires_grad_(False).to(device)
        self._device, self._threshold = device, threshold
        first, second = self._first_tokens(yes), self._first_tokens(no)
        # A tokenizer may begin either word with the same space.
        self._yes, self._no = sorted(first - second), sorted(second - first)
        if not self._yes or not self._no:
            raise JudgeError(f"judge model {model} begins {yes!r} and {no!r} with the same token: choose other words")
        self._text = self._render(question)

    def _first_tokens(self, word: str) -> set[int]:
        """Return tokens that may begin an answer: the word as it is, capitalized, and behind a space."""
        tokenizer = self._processor.tokenizer
        spellings = [space + form for space in ("", " ") for form in (word, word.capitalize())]
        ids = [tokenizer(spelling, add_special_tokens=False).input_ids for spelling in spellings]
        return {row[0] for row in ids if row}

    def _render(self, question: str) -> str:
        """Return the question in the model's chat template."""
        content = [{"type": "image"}, {"type": "text", "text": question}]
        try:
            text: str = self._processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True
            )
        except ValueError as error:
            raise JudgeError(f"the judge model has no chat template to ask a question with: {error}") from None
        return text

    @torch.no_grad()
    def __call__(self, images: Sequence[Image.Image]) -> list[Judgement]:
        """Judge RGB images, one judgement each, in order.

        One at a time: models differ in how they pad, and in whether padding changes what they say.
        """
        return [self._judge(image) for image in images]

    def _judge(self, image: Image.Image) -> Judgement:
        inputs: Any = self._processor(text=self._text, images=image, return_tensors="pt").to(self._device)
        logits = self._model(**inputs).logits[0, -1].float()
        yes, no = (logits[ids].logsumexp(0) for ids in (self._yes, self._no))
        score = float(torch.sigmoid(yes - no))
        return Judgement(score >= self._threshold, score, f"yes {score:.2f}")
