"""Who is attacked next: as many as there is room for, or one alone after a failure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Queue(Generic[T]):
    """Entries in their order.

    Args:
        entries: what waits.
    """

    def __init__(self, entries: Iterable[T]) -> None:
        self._waiting = deque(entries)
        self._alone = 0

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    @property
    def careful(self) -> bool:
        """Whether the next are taken one at a time."""
        return bool(self._alone)

    def take(self, batch_size: int, busy: int = 0) -> list[T]:
        """The next entries, for those of the prompts that are not busy; one to be alone waits until none is."""
        room = (1 if not busy else 0) if self._alone else batch_size - busy
        return [self._waiting.popleft() for _ in range(min(max(room, 0), len(self._waiting)))]

    def add(self, entries: Iterable[T]) -> None:
        """More to wait, behind the others."""
        self._waiting.extend(entries)

    def done(self) -> None:
        """One that was taken came to its end, or all of them did."""
        self._alone = max(0, self._alone - 1)

    def put_back(self, entries: list[T], *, alone: bool) -> None:
        """Return what was taken, to be taken again first; with ``alone`` one at a time."""
        self._waiting.extendleft(reversed(entries))
        if alone:
            self._alone = len(entries)
