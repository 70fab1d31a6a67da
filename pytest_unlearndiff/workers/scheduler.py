"""Which worker attacks which prompt: handed out as workers come free, back again when a worker is lost."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Iterable

from ..core.concept import Prompt
from ..core.outcome import Outcome, Status
from ..runs.begun import Begun

MAX_TRIES = 3
"""Workers that may be lost over a prompt before it ends in an error. On the last try it has a worker to itself."""


ENDING = 2
"""Prompts a worker that may still wait when turns become brief."""


class Scheduler:
    """Prompts, those that wait and those in a worker's hands.

    A prompt stays where it was begun, until few are left. Then nobody knows which of them take long, and workers that
    are done would wait for the last; so workers give back what they have begun after every round, and the least
    advanced goes to whoever is free. All end at about the same time, since a prompt that resists takes no longer than
    another. Only then, since what is begun and not finished is lost if this process is.

    Args:
        prompts: in the order they are handed out.
        workers: among how many; set when it is known.

    Attributes:
        workers: among how many.
    """

    def __init__(self, prompts: Iterable[Prompt], workers: int = 1) -> None:
        self.workers = workers
        self._waiting = deque(prompts)
        self._left = len(self._waiting)
        self._suspects: deque[Prompt] = deque()
        self._begun: list[tuple[int, int, Begun]] = []
        self._order = itertools.count()
        self._held: dict[str, dict[str, Prompt]] = {}
        self._losses: Counter[str] = Counter()

    def __bool__(self) -> bool:
        """Whether any prompt has not come to its end."""
        return self._left > 0

    @property
    def held(self) -> int:
        """Prompts in workers' hands."""
        return self._left - len(self._waiting) - len(self._suspects) - len(self._begun)

    def holds(self, worker: str) -> bool:
        """Whether a worker has any prompt in hand."""
        return bool(self._held.get(worker))

    def brief(self, worker: str) -> bool:
        """Whether a worker shall give back, after one round, what it has in hand now."""
        if any(self._last_try(digest) for digest in self._held[worker]):
            return False
        return 1 < self.workers < self._left and len(self._waiting) <= ENDING * self.workers

    def take(self, worker: str, batch_size: int) -> list[Prompt | Begun]:
        """What a worker is handed now, so that it has ``prompts`` prompts in hand, or one that has to be alone.

        Where there is less left than lanes, nobody has more than an even share of it in hand.
        """
        held = self._held.setdefault(worker, {})
        taken: list[Prompt | Begun]
        if self._suspects and not held:
            taken = [self._suspects.popleft()]
        elif any(self._last_try(digest) for digest in held):
            taken = []
        else:
            there = len(self._waiting) + len(self._begun)
            taken = [self._next() for _ in range(min(self._room(len(held), batch_size), there) if there else 0)]
        for each in taken:
            prompt = each.prompt if isinstance(each, Begun) else each
            held[prompt.digest] = prompt
        return taken

    def _next(self) -> Prompt | Begun:
        """The least advanced of those in nobody's hands."""
        return self._waiting.popleft() if self._waiting else heapq.heappop(self._begun)[-1]

    def give_back(self, worker: str, begun: Iterable[Begun]) -> None:
        """A worker has these no longer in hand, and whoever is free goes on with them."""
        for each in begun:
            del self._held[worker][each.prompt.digest]
            heapq.heappush(self._begun, (each.rounds, next(self._order), each))

    def done(self, worker: str, digest: str) -> None:
        """A prompt came to its end."""
        del self._held[worker][digest]
        self._left -= 1

    def lost(self, worker: str, reason: str) -> list[Outcome]:
        """Take back what a lost worker had in hand.

        Args:
            worker: which, never to be handed anything again.
            reason: why it was lost, for people.

        Returns:
            Errors of the prompts that are not tried again.
        """
        ended = []
        for digest, prompt in reversed(self._held.pop(worker, {}).items()):
            self._losses[digest] += 1
            if self._losses[digest] == MAX_TRIES:
                said = f"{MAX_TRIES} workers were lost while they attacked this prompt; the last: {reason}"
                self._left -= 1
                ended.append(Outcome(digest, Status.ERROR, seed=prompt.seed, error=said))
            elif self._last_try(digest):
                self._suspects.append(prompt)
            else:
                self._waiting.appendleft(prompt)
        return ended

    def _room(self, held: int, batch_size: int) -> int:
        """How many more a worker may take that has so many in hand."""
        if self._left >= batch_size * self.workers:
            return max(batch_size - held, 0)
        least, over = divmod(self._left, self.workers)
        return max(min(batch_size, least + (sum(len(each) > least for each in self._held.values()) < over)) - held, 0)

    def _last_try(self, digest: str) -> bool:
        return self._losses[digest] == MAX_TRIES - 1
