"""FLUX.1, which can be loaded but not attacked yet."""

from __future__ import annotations

from typing import Any

from ...core.concept import Sampling
from ...core.errors import ModelError


class Flux:
    """A pipeline that attacks cannot be bound to yet."""

    def __init__(self, pipe: Any, sampling: Sampling) -> None:
        raise ModelError("pipelines of FLUX.1 can be loaded, but not attacked yet")
