"""How many prompts a GPU's memory has room for, from what the first of them took."""

from __future__ import annotations

import torch

START = 8
"""Lanes of an engine before anything is measured, and on a CPU for good."""

MOST = 64
"""Lanes beyond which more memory is no reason for more: batches are full long before."""

SPARED = 0.2
"""Share of free memory that is left alone: judges, images and fragmentation take some of it later."""


def fitting(free: int, per_prompt: int, batch_size: int) -> int:
    """Prompts that memory has room for.

    Args:
        free: bytes that nothing uses while ``batch_size`` prompts are at work.
        per_prompt: bytes that one of them takes at its peak.
        batch_size: those at work now.

    Returns:
        At least ``batch_size``, and no more than MOST unless ``batch_size`` is more.
    """
    more = int(max(free, 0) * (1 - SPARED)) // max(per_prompt, 1)
    return max(batch_size, min(batch_size + more, MOST))


class MemoryMeter:
    """Measures what prompts take on a device, from when it is made.

    Args:
        device: where models run.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)

    def fitting(self, used: int, batch_size: int) -> int:
        """Prompts that there is room for.

        Args:
            used: prompts that were at work since this was made.
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
