"""Assignment of prompts to workers: handed out as workers come free, taken back when a worker is lost."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from ..core.concept import Prompt
from ..core.outcome import Outcome, Status

MAX_TRIES = 3
"""Workers that may be lost over a prompt before it ends in an error. On the last try it has a worker to itself."""


class Scheduler:
    """Prompts, those that wait and those in a worker's hands. A prompt stays with the worker that began it.

    Args:
        prompts: in the order they are handed out.
        workers: among how many.
    """

    def __init__(self, prompts: Iterable[Prompt], workers: int = 1) -> None:
        self._workers = workers
        self._waiting = deque(prompts)
        self._left = len(self._waiting)
        self._suspects: deque[Prompt] = deque()
        self._held: dict[str, dict[str, Prompt]] = {}
        self._losses: Counter[str] = Counter()

    def __bool__(self) -> bool:
        """True until every prompt has its outcome."""
        return self._left > 0

    @property
    def left(self) -> int:
        """Number of prompts without an outcome."""
        return self._left

    @property
    def held(self) -> int:
        """Number of prompts in workers' hands."""
        return sum(map(len, self._held.values()))

    def holds(self, worker: str) -> bool:
        """Tell if a worker has a prompt in hand."""
        return bool(self._held.get(worker))

    def take(self, worker: str, batch_size: int) -> list[Prompt]:
        """Hand prompts to a worker, so that it has ``batch_size`` of them, or one that has to be alone.

        If fewer prompts are left than all workers' batches hold, no worker has more than an even share.
        """
        held = self._held.setdefault(worker, {})
        if self._suspects and not held:
            taken = [self._suspects.popleft()]
        elif any(self._is_last_try(digest) for digest in held):
            taken = []
        else:
            room = min(self._room(len(held), batch_size), len(self._waiting))
            taken = [self._waiting.popleft() for _ in range(room)]
        held |= {prompt.digest: prompt for prompt in taken}
        return taken

    def done(self, worker: str, digest: str) -> None:
        """Note that a prompt came to its end."""
        del self._held[worker][digest]
        self._left -= 1

    def lost(self, worker: str, reason: str) -> list[Outcome]:
        """Take back what a lost worker had in hand.

        Args:
            worker: its name.
            reason: why it was lost, for people.

        Returns:
            Errors of the prompts that are not tried again.
        """
        ended = []
        for digest, prompt in reversed(self._held.pop(worker, {}).items()):
            self._losses[digest] += 1
            if self._losses[digest] == MAX_TRIES:
                error = f"{MAX_TRIES} workers were lost while they attacked this prompt; the last: {reason}"
                self._left -= 1
                ended.append(Outcome(digest, Status.ERROR, seed=prompt.seed, error=error))
            elif self._is_last_try(digest):
                self._suspects.append(prompt)
            else:
                self._waiting.appendleft(prompt)
        return ended

    def _room(self, held: int, batch_size: int) -> int:
        """Number of further prompts for a worker that has this many in hand."""
        if self._left >= batch_size * self._workers:
            return max(batch_size - held, 0)
        least, over = divmod(self._left, self._workers)
        larger = sum(len(prompts) > least for prompts in self._held.values())
        return max(min(batch_size, least + (larger < over)) - held, 0)

    def _is_last_try(self, digest: str) -> bool:
        return self._losses[digest] == MAX_TRIES - 1
