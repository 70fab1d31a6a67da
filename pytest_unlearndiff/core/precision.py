"""The precision of a model: the type of its weights is in the key, how a device multiplies them is not."""

from __future__ import annotations

from collections.abc import Mapping

from .device import AUTO as ANY_DEVICE

AUTO = "auto"
WEIGHTS: Mapping[str, str] = {
    AUTO: "float32",
    "float32": "float32",
    "tf32": "float32",
    "float16": "float16",
    "bfloat16": "bfloat16",
}
"""The floating-point type of the weights, by the arithmetic's name; tf32 multiplies float32 in TensorFloat-32."""
PRECISIONS = tuple(WEIGHTS)


def resolve_precision(precision: str, device: str) -> str:
    """Replace ``auto`` by tf32 on CUDA and float32 elsewhere; on a device that is not known yet it stays ``auto``.

    Half precision is faster and smaller, but coarser gradients may find less, and a default must not look safer than
    the model is.

    It is told by the device's name alone: a session that finds everything in the store loads no torch and may have no
    GPU. All have float32 weights, so it asks for the same key as the one that computed it.

    Args:
        precision: one of PRECISIONS.
        device: such as ``cpu`` or ``cuda:1``.
    """
    if precision != AUTO or device == ANY_DEVICE:
        return precision
    return "tf32" if device.partition(":")[0] == "cuda" else "float32"
