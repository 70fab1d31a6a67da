"""One file lock for each GPU of this machine: processes take turns instead of running out of memory together."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from ..core.errors import AttackUnavailable
from ..sources.download import user_temp_folder

if TYPE_CHECKING:
    from filelock import FileLock

_PAUSE = 0.2
"""Seconds between two looks at GPUs that are taken."""


def visible_gpus() -> list[str]:
    """List the GPUs that this process may use, in the order of its ``cuda:0``, ``cuda:1``.

    The names are the same in every process where ``CUDA_VISIBLE_DEVICES`` is set in the same way, or nowhere.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


@dataclass(frozen=True)
class GpuSlot:
    """A GPU that this process has for itself.

    Attributes:
        device: its name in this process, such as ``cuda:1``.
        lock: held as long as this process has it.
    """

    device: str
    lock: FileLock


class GpuSlots:
    """Holds at most one GPU. The operating system gives it back when the process ends, however it ends.

    Args:
        tell: is told in one line that this process waits.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._slot: GpuSlot | None = None

    def acquire(self, device: str, overdue: Callable[[], bool] = lambda: False) -> str:
        """Take a GPU, waiting where all are taken; the one held already stays where it will do.

        Args:
            device: ``cuda`` for any GPU, or such as ``cuda:1``.
            overdue: tells when to wait no longer.

        Returns:
            The device, such as ``cuda:1``.

        Raises:
            AttackUnavailable: there is no such device, or it is overdue.
        """
        gpus = self._matching(device)
        if self._slot is not None and self._slot.device in gpus:
            return self._slot.device
        self.release()
        locks = [GpuSlot(name, _lock(gpu)) for name, gpu in gpus.items()]
        for look in count():
            for slot in locks:
                if _acquire(slot.lock):
                    self._slot = slot
                    return slot.device
            if overdue():
                raise AttackUnavailable(f"{' or '.join(gpus)} did not become free within --unlearndiff-time-budget")
            if look == 0:
                self._tell(f"waits for {' or '.join(gpus)}, which other processes use")
            time.sleep(_PAUSE)
        raise AssertionError

    def release(self) -> None:
        """Give the GPU back, if one is held."""
        if self._slot is not None:
            self._slot.lock.release()
            self._slot = None

    def _matching(self, device: str) -> dict[str, str]:
        """Names everywhere of the GPUs that will do, by their names in this process."""
        gpus = {f"cuda:{index}": name for index, name in enumerate(visible_gpus())}
        matching = gpus if device == "cuda" else {name: gpu for name, gpu in gpus.items() if name == device}
        if not matching:
            reason = f"the GPUs here are {', '.join(gpus)}" if gpus else "torch sees no GPU here: give cpu"
            raise AttackUnavailable(f"--unlearndiff-device={device}: {reason}")
        return matching


def _lock(gpu: str) -> FileLock:
    """Make the lock of a GPU, among this user's temporary files.

    Raises:
        AttackUnavailable: there is no folder that only this user can write.
    """
    from filelock import FileLock

    try:
        folder = user_temp_folder()
    except OSError as error:
        raise AttackUnavailable(
            f"GPUs are shared by locks among temporary files, and {error}; give another folder for those with the "
            "environment variable TMPDIR"
        ) from None
    return FileLock(folder / re.sub(r"[^\w.-]", "-", f"gpu-{gpu}"))


def _acquire(lock: FileLock) -> bool:
    """Try to take a lock; returns whether this process has it now."""
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True
