"""A negative prompt in place of the empty one."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from . import DefendedModel


class NegativePrompt:
    """Guides images away from a text (``Defense``).

    Args:
        prompt: the text.
    """

    extra_forwards_per_step = 0

    def __init__(self, prompt: str) -> None:
        self._prompt = prompt

    def call_arguments(self, count: int, guidance: float) -> dict[str, Any]:
        """See ``Defense``."""
        return {"negative_prompt": [self._prompt] * count}

    def applied(self, model: DefendedModel, guidance: float) -> AbstractContextManager[None]:
        """See ``Defense``."""
        return nullcontext()
