"""The device that models run on: which there is, how it computes, in what batches, and what its memory holds."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch

from ..core.device import ERROR_BATCH, NETWORK_BATCH, WEIGHTS, network_batch, no_cuda, no_mps
from ..core.errors import ModelError
from .families.lookup import family_of

if sys.platform != "win32":
    import resource

T = TypeVar("T")

MOST = 64
"""Prompts in a batch beyond which more memory is no reason for more: the network's batches are full long before."""

SPARED = 0.2
"""Share of free memory that stays unused: judges, images and fragmentation take some of it later."""


BATCH = NETWORK_BATCH
"""Samples in one call of a network. Part of the algorithm: another size sums in another order, and Adam's first steps
magnify the last bits of a gradient until another token is drawn.

So the copies that fill a batch up can not be left out. Measured with one and with two threads of an AMD EPYC (torch
2.13.0+cpu; the emoji model, and random ones of Stable Diffusion's and XL's classes), against batches of 4: a UNet's
predictions and gradients differ in every sample, by up to 3e-6, in batches of 1, 2 and 3, and not in those of 8 (the
emoji model's not in those of 12, but of 16 and 24); autoencoders differ in batches of 1, the random ones with two
threads also of 3; the classifier in those of 1; XL's text encoders in all three, Stable Diffusion 1.x's in none. Of
eight emoji images five came out a grey level different where they were drawn one at a time, four where all were drawn
together; two at a time none, but one of XL's. Where a sample stands in its batch, and what stands beside it, changed
nothing. What is computed so is counted (``core.outcome.count_forwards``), and prompts are attacked in an order that
needs few copies (``Campaign``).
"""

_size = BATCH
_errors_per_sample = ERROR_BATCH // BATCH


@cache
def best_device() -> str:
    """Return the device that ``auto`` selects in this process: CUDA, then MPS where it works, else the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    return "cpu" if mps_fault() else "mps"


def device_problem(device: str) -> str:
    """Explain why models cannot run on a device, with the remedy; empty where they can."""
    kind, _, index = device.partition(":")
    if kind == "cuda":
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return no_cuda(device, gpus) if int(index or 0) >= gpus else ""
    if kind == "mps" and (fault := mps_fault()):
        return no_mps(device, fault)
    return ""


@cache
def mps_fault() -> str:
    """Explain why Apple's GPU cannot be used; empty where it computes what it has to."""
    if not torch.backends.mps.is_available():
        return "torch finds no Apple GPU"
    try:
        # A convolution of what a model begins with: some builds and virtual machines have the device and fail on it.
        images = torch.ones(1, 1, 3, 3, device="mps")
        result = torch.nn.functional.conv2d(images, images).cpu().item()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "" if result == 9 else f"a convolution gave {result:g} where 9 is right"


def weights_type(precision: str) -> torch.dtype:
    """Return the floating-point type of weights under a precision."""
    dtype: torch.dtype = getattr(torch, WEIGHTS[precision])
    return dtype


def to_device(pipe: Any, device: str) -> Any:
    """Move a pipeline to a device, laid out as its kernels want it.

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


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Set the precision of single-precision products, and restore it afterwards.

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


@contextmanager
def full_batches(device: str, precision: str) -> Iterator[None]:
    """Compute on a device as an engine begins to: in batches of full size, with the precision of its products.

    Otherwise outcomes would depend on what was computed before: where memory ran out, batches are smaller.
    """
    restore_batches(torch.device(device))
    with matmul_precision(precision):
        yield


def in_batches(items: Sequence[T], size: int | None = None) -> Iterator[tuple[int, list[T]]]:
    """Split into batches of exactly ``network_batch``, the last one filled up with copies of its last item.

    Where memory ran out before, batches are smaller: numbers then differ in their last digits, as on another device.

    Args:
        items: any.
        size: of a batch, where it is another one.

    Yields:
        How many items of the batch count, and the batch.
    """
    size = size or _size
    for first in range(0, len(items), size):
        part = list(items[first : first + size])
        yield len(part), part + [part[-1]] * (size - len(part))


def batch_now() -> int:
    """Return the samples in one call of a network of this process, fewer than ``network_batch`` once memory ran out."""
    return _size


def error_batch() -> int:
    """Return the denoising errors that are measured in one call, without gradients, in this process."""
    return _size * _errors_per_sample


def restore_batches(device: torch.device) -> None:
    """Give the batches of this process their full size: as a campaign begins, or when memory is back."""
    global _size, _errors_per_sample
    _size = network_batch(device.type)
    _errors_per_sample = ERROR_BATCH // _size


def halve_batches() -> bool:
    """Halve the batches of this process until ``restore_batches``; returns whether they could be halved."""
    global _size
    possible = _size > 1
    _size = max(1, _size // 2)
    return possible


def free_memory(error: BaseException) -> None:
    """Free the tensors in the frames that an exception went through, which would else live as long as it does."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def unused_memory(device: torch.device) -> int:
    """Return the bytes of a GPU that nobody uses; 0 elsewhere."""
    if device.type != "cuda":
        return 0
    unused, _ = torch.cuda.mem_get_info(device)
    # What torch has reserved and does not use is free for it, and for nobody else.
    return unused + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that a device has no memory left; only CUDA's has a type of its own."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
    )


def fitting(free: int, per_prompt: int, batch_size: int) -> int:
    """Count the prompts that memory has room for.

    Args:
        free: bytes unused while ``batch_size`` prompts are attacked.
        per_prompt: peak bytes of one of them.
        batch_size: prompts attacked now.

    Returns:
        At least ``batch_size``, and no more than MOST unless ``batch_size`` is more.
    """
    more = int(max(free, 0) * (1 - SPARED)) // max(per_prompt, 1)
    return max(batch_size, min(batch_size + more, MOST))


def most_memory(device: torch.device) -> int:
    """Return the bytes that a GPU's tensors, or this process elsewhere, took at most so far; 0 where nobody counts."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class MemoryMeter:
    """Measures the memory that prompts take on a device, from its construction on.

    Args:
        device: where models run.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)

    def fitting(self, used: int, batch_size: int) -> int:
        """Count the prompts that there is room for.

        Args:
            used: prompts attacked since construction.
            batch_size: prompts that an engine attacks together.

        Returns:
            At least ``batch_size``; the same on a CPU.
        """
        if self._device.type != "cuda":
            return batch_size
        peak = torch.cuda.max_memory_allocated(self._device)
        unused, _ = torch.cuda.mem_get_info(self._device)
        # What torch has reserved and does not use is free for it, and for nobody else.
        free = unused + torch.cuda.memory_reserved(self._device) - peak
        return max(batch_size, fitting(free, (peak - self._before) // used, used))
