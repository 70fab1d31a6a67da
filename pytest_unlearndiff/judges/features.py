"""Features of images as the store keeps them: text, since they are a part of an outcome."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import torch


def encode(vector: torch.Tensor) -> str:
    """Write features (d,) as text: little-endian float32 in base64."""
    return base64.b64encode(vector.numpy().astype("<f4").tobytes()).decode("ascii")


def decode(texts: Sequence[str]) -> torch.Tensor:
    """Read what ``encode`` wrote, as features (N, d)."""
    return torch.stack([torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.float32) for text in texts])
