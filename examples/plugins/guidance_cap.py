"""A defense that draws no image with more classifier-free guidance than a given scale."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from pytest_unlearndiff.models.defenses import DefendedModel


class GuidanceCap:
    """Caps the guidance scale.

    Args:
        scale: the highest scale, as text.
    """

    extra_forwards_per_step = 0

    def __init__(self, scale: str) -> None:
        self._scale = float(scale)

    def call_arguments(self, count: int, guidance: float) -> dict[str, Any]:
        """Return the guidance scale in place of the prompts' own."""
        return {"guidance_scale": min(guidance, self._scale)}

    def applied(self, model: DefendedModel, guidance: float) -> AbstractContextManager[None]:
        """Do nothing while the pipeline draws."""
        return nullcontext()
