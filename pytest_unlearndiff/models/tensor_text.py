"""Tensors as text, for requests and outcomes that hold them: requests are compared, outcomes are lines of a journal."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
import torch


def pack(tensor: torch.Tensor) -> str:
    """Write numbers of any shape, which the text does not say, as little-endian float32 in base64."""
    numbers = tensor.detach().float().cpu().contiguous().numpy()
    return base64.b64encode(numbers.astype("<f4").tobytes()).decode("ascii")


def unpack(texts: Sequence[str]) -> torch.Tensor:
    """Read tensors of n numbers each that ``pack`` wrote, at least one, as rows (N, n) float32."""
    return torch.from_numpy(np.stack([np.frombuffer(base64.b64decode(text), "<f4") for text in texts]).astype("f4"))
