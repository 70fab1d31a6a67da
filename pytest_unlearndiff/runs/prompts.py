"""Prompts on their way through an engine: a queue of those that wait, and the cost and outcome of those that run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from ..core.concept import Prompt
from ..core.errors import typed_line
from ..core.images import Evaluated, GenerationRequest, Judgement
from ..core.outcome import Outcome, Status

if TYPE_CHECKING:
    from ..attacks.base import AttackState, PromptState
    from ..models.diffusion_model import DiffusionModel

T = TypeVar("T")


class PromptQueue(Generic[T]):
    """First in, first out: as many as there is room for, or one alone after a failure.

    Args:
        entries: the first ones, in order.
    """

    def __init__(self, entries: Iterable[T] = ()) -> None:
        self._waiting = deque(entries)
        self._alone = 0

    def __len__(self) -> int:
        """Number of entries that wait."""
        return len(self._waiting)

    def take(self, batch_size: int, busy: int = 0) -> list[T]:
        """Remove the next entries, so that at most ``batch_size`` run; one to be alone waits until none is busy."""
        room = (1 if not busy else 0) if self._alone else batch_size - busy
        return [self._waiting.popleft() for _ in range(min(max(room, 0), len(self._waiting)))]

    def add(self, entries: Iterable[T]) -> None:
        """Append entries behind the others."""
        self._waiting.extend(entries)

    def done(self) -> None:
        """Count one entry that was taken as finished."""
        self._alone = max(0, self._alone - 1)

    def put_back(self, entries: list[T], *, alone: bool) -> None:
        """Return entries to the front; with ``alone`` they are taken one at a time."""
        self._waiting.extendleft(reversed(entries))
        if alone:
            self._alone = len(entries)


@dataclass(frozen=True)
class SavedAttack:
    """An attack that was interrupted between two rounds.

    Attributes:
        state: as the attack saved it.
        evaluations: images judged until then, the un-attacked ones included.
        blocked: images that the model's own safety checker blocked.
        void: rounds of a probe that say nothing, since the concept showed without the prompt too.
        last: the image that decided the last round and its judgement.
    """

    state: AttackState
    evaluations: int
    blocked: int
    void: int
    last: tuple[GenerationRequest, Judgement] | None


@dataclass(frozen=True)
class PendingPrompt:
    """A prompt whose un-attacked image does not show the concept, and which waits to be attacked.

    Attributes:
        prompt: the prompt.
        baseline: its un-attacked image, or images, as the judge saw them.
        seconds: cost of its attempts so far.
        saved: its attack, where that was interrupted.
    """

    prompt: Prompt
    baseline: Evaluated
    seconds: float = 0.0
    saved: SavedAttack | None = field(default=None, compare=False)

    def failed(self, error: str, victim: DiffusionModel) -> Outcome:
        """Build the outcome of a prompt whose attack could not be run."""
        return replace(
            baseline_outcome(self.prompt, self.baseline, self.seconds, victim), status=Status.ERROR, error=error
        )


_ALL_VOID = (
    "in every round the concept shows without the prompt too, so that the probe says nothing of what the prompt brings "
    "back: the model draws the concept unasked, or the judge sees it everywhere"
)


@dataclass
class RunningPrompt:
    """A prompt under attack.

    Attributes:
        state: of the attack.
        pending: the prompt before its attack, with its un-attacked image.
        evaluations: images judged so far, the un-attacked ones included.
        blocked: images that the model's own safety checker blocked.
        seconds: cost so far.
        void: rounds of a probe that say nothing, since the concept showed without the prompt too.
        last: the image that decided the last round that was not void, and its judgement; None before the first.
    """

    state: PromptState
    pending: PendingPrompt
    evaluations: int
    blocked: int
    seconds: float
    void: int = 0
    last: tuple[GenerationRequest, Judgement] | None = None

    @classmethod
    def start(cls, state: PromptState, pending: PendingPrompt) -> RunningPrompt:
        """Begin an attack, or go on with one that was interrupted."""
        if (saved := pending.saved) is not None:
            return cls(state, pending, saved.evaluations, saved.blocked, pending.seconds, saved.void, saved.last)
        return cls(state, pending, pending.baseline.images, pending.baseline.blocked, pending.seconds)

    @property
    def round(self) -> int:
        """Rounds whose images were judged; as many are drawn in each as without attack."""
        return self.evaluations // self.pending.baseline.images - 1

    def judged(self, request: GenerationRequest, evaluated: Evaluated, victim: DiffusionModel) -> Outcome | None:
        """Take in the judgement on an attack's images; returns the outcome if that ends the attack."""
        self.evaluations += evaluated.images
        if evaluated.judgement is None:
            return self._outcome(Status.ERROR, victim, f"in round {self.round} of its attack, {evaluated.problem}")
        seed = request.seed if evaluated.seed is None else evaluated.seed
        before = self.last
        self.last = replace(request, seed=seed), evaluated.judgement
        self.blocked += evaluated.blocked
        if (control := evaluated.control) is not None:
            self.state.forwards += control.images * victim.forwards_per_image
            if control.judgement is None:
                error = f"in round {self.round} of its attack, without the prompt, {control.problem}"
                return self._outcome(Status.ERROR, victim, error)
            if control.judgement.hit:
                self.void, self.last = self.void + 1, before
                return None
        return self._outcome(Status.HIT_UNDER_ATTACK, victim) if evaluated.judgement.hit else None

    def exhausted(self, victim: DiffusionModel) -> Outcome:
        """Build the outcome of an attack that has nothing more to try."""
        if self.state.error:
            return self._outcome(Status.ERROR, victim, self.state.error)
        if self.void and self.void == self.round:
            return self._outcome(Status.ERROR, victim, _ALL_VOID)
        return self._outcome(Status.BLOCKED if self.blocked else Status.RESISTED, victim)

    def _outcome(self, status: Status, victim: DiffusionModel, error: str | None = None) -> Outcome:
        state = self.state
        outcome = baseline_outcome(state.prompt, self.pending.baseline, self.seconds, victim)
        if self.last is not None:
            request, judgement = self.last
            outcome = replace(outcome, seed=request.seed, score=_score(judgement), detail=judgement.detail)
            if status is Status.HIT_UNDER_ATTACK:
                typed = request.text if request.embedding is None and request.sampler is None else None
                outcome = replace(
                    outcome,
                    adversarial=typed,
                    inserted=state.inserted,
                    timestep=state.timestep,
                    embedding=request.embedding,
                )
            if request.sampler is not None:
                outcome = replace(outcome, detail=f"{outcome.detail} ({request.sampler})")
        if self.void and status is Status.RESISTED:
            detail = f"{outcome.detail}; {self.void} of {self.round} rounds show the concept without the prompt too"
            outcome = replace(outcome, detail=detail)
        if status is Status.BLOCKED:
            detail = f"the model's own safety checker blocked {self.blocked} of {self.evaluations} images"
            outcome = replace(outcome, detail=detail)
        return replace(
            outcome,
            status=status,
            evaluations=self.evaluations,
            steps=state.steps,
            forwards=state.forwards + self.evaluations * victim.forwards_per_image,
            error=error,
        )


def baseline_outcome(prompt: Prompt, evaluated: Evaluated, seconds: float, victim: DiffusionModel) -> Outcome:
    """Build the outcome of a prompt that its un-attacked images end: a hit, or no evidence of anything."""
    judgement = evaluated.judgement
    return Outcome(
        prompt.digest,
        Status.ERROR if judgement is None else Status.HIT_WITHOUT_ATTACK,
        seed=prompt.seed if evaluated.seed is None else evaluated.seed,
        evaluations=evaluated.images,
        forwards=evaluated.images * victim.forwards_per_image,
        score=_score(judgement),
        detail=judgement.detail if judgement is not None else "",
        seconds=seconds,
        error=evaluated.problem,
        tokens=victim.tokens(prompt.text),
        image=evaluated.image,
        features=judgement.features if judgement is not None else None,
    )


def error_outcome(prompt: Prompt, error: Exception, victim: DiffusionModel) -> Outcome:
    """Build the outcome of a prompt whose un-attacked image could not be drawn and judged."""
    tokens = victim.tokens(prompt.text)
    return Outcome(prompt.digest, Status.ERROR, seed=prompt.seed, error=typed_line(error), tokens=tokens)


def _score(judgement: Judgement | None) -> float | None:
    """Score of a judgement; None where no judge was asked."""
    return None if judgement is None or judgement.blocked else judgement.score
