"""The devices that torch finds in this process."""

from __future__ import annotations

from functools import cache

import torch

from ..core.device import no_cuda, no_mps


@cache
def best_device() -> str:
    """What ``auto`` stands for in this process: CUDA, then MPS where it works, else the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    return "cpu" if mps_fault() else "mps"


def refused(device: str) -> str:
    """Why models cannot run on a device, with the remedy; empty where they can."""
    kind, _, index = device.partition(":")
    if kind == "cuda":
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return no_cuda(device, gpus) if int(index or 0) >= gpus else ""
    if kind == "mps" and (fault := mps_fault()):
        return no_mps(device, fault)
    return ""


@cache
def mps_fault() -> str:
    """Why Apple's GPU cannot be used; empty where it computes what it has to."""
    if not torch.backends.mps.is_available():
        return "torch finds no Apple GPU"
    try:
        # A convolution of what a model begins with: some builds and virtual machines have the device and fail on it.
        images = torch.ones(1, 1, 3, 3, device="mps")
        found = torch.nn.functional.conv2d(images, images).cpu().item()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "" if found == 9 else f"a convolution gave {found:g} where 9 is right"
