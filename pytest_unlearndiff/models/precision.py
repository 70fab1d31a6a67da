"""How a device computes with a model; nothing here is part of a key but the precision's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..core.errors import ModelError
from ..core.precision import WEIGHTS
from .families import family_of


def weights_type(precision: str) -> torch.dtype:
    """The floating-point type of weights."""
    found: torch.dtype = getattr(torch, WEIGHTS[precision])
    return found


def to_device(pipe: Any, device: str) -> Any:
    """A pipeline on a device, laid out as its kernels want it.

    Raises:
        ModelError: the device is not there, or has no such arithmetic.
    """
    on_cuda, dtype = torch.device(device).type == "cuda", getattr(pipe, family_of(pipe).network).dtype
    if on_cuda:
        _check_cuda(device, dtype)
    pipe = pipe.to(device)
    if on_cuda and dtype != torch.float32:
        channels_last(pipe)
    return pipe


def _check_cuda(device: str, dtype: torch.dtype) -> None:
    if not torch.cuda.is_available():
        raise ModelError(f"--unlearndiff-device={device}: torch finds no CUDA device here; give cpu, or another torch")
    if dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ModelError(f"--unlearndiff-device={device} has no bfloat16: give --unlearndiff-dtype=float16, or float32")


def channels_last(pipe: Any) -> None:
    """Lay out the weights of convolutions for tensor cores, which read the channels of a pixel together."""
    for component in (family_of(pipe).network, "vae"):
        getattr(pipe, component).to(memory_format=torch.channels_last)


def compile_network(module: Any) -> Any:
    """A network that ``torch.compile`` makes kernels of when it is first called; the module itself is as before."""
    return torch.compile(module)


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Multiply single precision as an arithmetic says, and as before afterwards.

    Convolutions have a switch of their own, which torch leaves on: without it, ``float32`` would be TensorFloat-32
    there.
    """
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32
    if precision in ("float32", "tf32"):
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.allow_tf32 = before[1]
