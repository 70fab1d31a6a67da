"""Places on this machine's GPUs, so that processes queue for one instead of running out of memory together."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import AttackUnavailable
from ..sources.user_temp import user_temp_folder

if TYPE_CHECKING:
    from filelock import FileLock

_PAUSE = 0.2
"""Seconds between two looks at places that are taken."""


def visible_gpus() -> list[str]:
    """What this process may use, in the order of its ``cuda:0``, ``cuda:1``.

    The names are the same in every process where ``CUDA_VISIBLE_DEVICES`` is set in the same way, or nowhere.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def places_folder() -> Path:
    """Where the places' locks are: this machine's, and this user's.

    Raises:
        CannotAttack: there is no folder that only this user can write.
    """
    try:
        return user_temp_folder()
    except OSError as error:
        raise AttackUnavailable(
            f"GPUs are shared by locks among temporary files, and {error}; give another folder for those with the "
            "environment variable TMPDIR"
        ) from None


@dataclass(frozen=True)
class GpuSlot:
    """A share of a GPU.

    Attributes:
        device: what it is called here, such as ``cuda:0``.
        name: what it is called everywhere on this machine.
        lock: held by the process that has it.
    """

    device: str
    name: str
    lock: FileLock


class GpuSlots:
    """This process's place on a GPU, one at a time; it is given back when the process ends, however it ends.

    Args:
        each: places on one GPU.
        tell: told in one line that this process waits.
    """

    def __init__(self, each: int, tell: Callable[[str], None]) -> None:
        self._each = each
        self._tell = tell
        self._held: GpuSlot | None = None

    def take(self, device: str, overdue: Callable[[], bool] = lambda: False) -> str:
        """A place on a device, waited for where all are taken; the one held already where it is on that device.

        Whoever waits for a GPU holds its queue, so that nobody who comes later takes a place on it.

        Args:
            device: ``cuda`` for any GPU, or such as ``cuda:1``.
            overdue: whether to wait no longer.

        Returns:
            The device, such as ``cuda:1``.

        Raises:
            CannotAttack: there is no such device, or it is overdue.
        """
        wanted = self._wanted(device)
        if self._held is not None and self._held.device in wanted:
            return self._held.device
        self.leave()
        queues = {where: self._lock(f"queue-{name}") for where, name in wanted.items()}
        looks = count()
        try:
            while True:
                heads = {where: wanted[where] for where, queue in queues.items() if _acquired(queue)}
                if (held := self._free(heads)) is not None:
                    self._held = held
                    return held.device
                if overdue():
                    raise AttackUnavailable(
                        f"no place on {' or '.join(wanted)} became free within --unlearndiff-time-budget"
                    )
                # At the first look, others may have held the queue only while they found their place.
                if next(looks) == 1:
                    self._tell(f"waits for {' or '.join(wanted)}, which other processes use")
                time.sleep(_PAUSE)
        finally:
            for queue in queues.values():
                queue.release(force=True)

    def awaited(self) -> bool:
        """Whether another process waits for the GPU that this one has a place on."""
        if self._held is None:
            return False
        queue = self._lock(f"queue-{self._held.name}")
        if not _acquired(queue):
            return True
        queue.release()
        return False

    def leave(self) -> None:
        """Give the place back, if there is one."""
        if self._held is not None:
            self._held.lock.release()
            self._held = None

    def _wanted(self, device: str) -> dict[str, str]:
        """The GPUs that will do, by what they are called here, with what they are called everywhere."""
        gpus = {f"cuda:{index}": name for index, name in enumerate(visible_gpus())}
        wanted = gpus if device == "cuda" else {where: name for where, name in gpus.items() if where == device}
        if not wanted:
            seen = f"the GPUs here are {', '.join(gpus)}" if gpus else "torch sees no GPU here: give cpu"
            raise AttackUnavailable(f"--unlearndiff-device={device}: {seen}")
        return wanted

    def _free(self, heads: Mapping[str, str]) -> GpuSlot | None:
        """A place that nobody has, on the first of these GPUs that has one."""
        for number in range(self._each):
            for device, name in heads.items():
                if _acquired(lock := self._lock(f"gpu-{name}-{number}")):
                    return GpuSlot(device, name, lock)
        return None

    def _lock(self, name: str) -> FileLock:
        from filelock import FileLock

        return FileLock(places_folder() / re.sub(r"[^\w.-]", "-", name))


def _acquired(lock: FileLock) -> bool:
    """Whether this process has a lock, now."""
    from filelock import Timeout

    try:
        if not lock.is_locked:
            lock.acquire(timeout=0)
    except Timeout:
        return False
    return True
