"""Which worker attacks which prompt: handed out as workers come free, back again when a worker is lost."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from ..core.concept import Prompt
from ..core.outcome import Outcome, Status

MAX_TRIES = 3
"""Workers that may be lost over a prompt before it ends in an error. On the last try it has a worker to itself."""


class Handout:
    """Prompts, those that wait and those in a worker's hands.

    Args:
        prompts: in the order they are handed out.
    """

    def __init__(self, prompts: Iterable[Prompt]) -> None:
        self._waiting = deque(prompts)
        self._suspects: deque[Prompt] = deque()
        self._held: dict[str, dict[str, Prompt]] = {}
        self._losses: Counter[str] = Counter()

    def __bool__(self) -> bool:
        """Whether any prompt has not come to its end."""
        return bool(self._waiting or self._suspects or any(self._held.values()))

    @property
    def held(self) -> int:
        """Prompts in workers' hands."""
        return sum(map(len, self._held.values()))

    def holds(self, worker: str) -> bool:
        """Whether a worker has any prompt in hand."""
        return bool(self._held.get(worker))

    def take(self, worker: str, lanes: int) -> list[Prompt]:
        """What a worker is handed now, so that it has ``lanes`` prompts in hand, or one that has to be alone."""
        held = self._held.setdefault(worker, {})
        if self._suspects and not held:
            taken = [self._suspects.popleft()]
        elif any(self._last_try(digest) for digest in held):
            taken = []
        else:
            taken = [self._waiting.popleft() for _ in range(min(max(lanes - len(held), 0), len(self._waiting)))]
        held |= {prompt.digest: prompt for prompt in taken}
        return taken

    def done(self, worker: str, digest: str) -> None:
        """A prompt came to its end."""
        del self._held[worker][digest]

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
                ended.append(Outcome(digest, Status.ERROR, seed=prompt.seed, error=said))
            elif self._last_try(digest):
                self._suspects.append(prompt)
            else:
                self._waiting.appendleft(prompt)
        return ended

    def _last_try(self, digest: str) -> bool:
        return self._losses[digest] == MAX_TRIES - 1
