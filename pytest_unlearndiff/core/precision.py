"""In which arithmetic a model runs: named in the key, so that it can be told without a device."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHTS: Mapping[str, str] = {
    "float32": "float32",
    "tf32": "float32",
    "float16": "float16",
    "bfloat16": "bfloat16",
}
"""The floating-point type of the weights, by the arithmetic's name; tf32 multiplies float32 in TensorFloat-32."""
AUTO = "auto"
PRECISIONS = (AUTO, *WEIGHTS)


def resolved(precision: str, device: str) -> str:
    """What ``auto`` stands for: tf32 on CUDA, and float32 elsewhere.

    Half precision is faster and smaller, but coarser gradients may find less, and a default must not look safer than
    the model is.

    It is told by the device's name alone. A session that finds everything in the store loads no torch and may have no
    GPU, and must ask for the same key as the one that computed it.

    Args:
        precision: one of PRECISIONS.
        device: such as ``cpu`` or ``cuda:1``.
    """
    if precision != AUTO:
        return precision
    return "tf32" if device.partition(":")[0] == "cuda" else "float32"
