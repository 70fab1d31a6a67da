"""The engine attacks prompts in batches: a baseline pass over un-attacked images, then rounds of the attack."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from enum import Enum, auto
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..core.concept import Prompt
from ..core.device import BATCH_SIZE, Probe
from ..core.errors import UnlearnDiffError, UnusableTargets, typed_line
from ..core.images import GenerationRequest
from ..core.outcome import Outcome
from .checkpoints import CheckpointId, decode, encode
from .engine_state import EngineState
from .evaluation import Evaluation, unattacked_request
from .prompts import (
    PendingPrompt,
    PromptQueue,
    RunningPrompt,
    baseline_outcome,
    error_outcome,
)

if TYPE_CHECKING:
    from ..attacks.base import Attack
    from ..models.device import MemoryMeter
    from ..models.diffusion_model import DiffusionModel
    from ..models.target_images import Targets


_LOG = logging.getLogger(__name__)

MAX_FAILURES = 3
"""Prompts that may fail one after the other, each attacked alone, before the fault must lie elsewhere."""


class ErrorAction(Enum):
    """Reaction to an exception."""

    SMALLER = auto()
    """Try again; less memory is needed now."""
    ALONE = auto()
    """Try again, each prompt alone."""
    GIVE_UP = auto()
    """End the one prompt concerned in an error."""


class Engine:
    """Attacks prompts, at most ``batch_size`` at a time.

    If memory runs out, it goes on with half as many prompts, in smaller batches, until memory is back. After any other
    error, the prompts concerned are tried again, each alone, and one that fails then ends in an error. Prompts that are
    tried again start afresh, so that their outcomes are those of an undisturbed run.

    Args:
        attack: searches for adversarial tokens.
        victim: the model under attack.
        targets: source of target images; None for attacks that need none.
        evaluation: draws and judges.
        batch_size: prompts attacked together; None for as many as a GPU's memory has room for, told by the first round.
        seed: run seed.
        precision_scope: context in which it computes, such as the device's arithmetic.
        checkpoint_id: owner of the checkpoints; None to make none.
        on_attacked: is told of every judged image of an attack, and of its prompt.

    Attributes:
        batch_size: prompts attacked together; fewer than at first where memory ran out.
        active: prompts in the batch.
        description: of what was loaded, with the smallest batch of a network where memory ran out.
    """

    worker_count = 0

    def __init__(
        self,
        attack: Attack[Any],
        victim: DiffusionModel,
        targets: Targets | None,
        evaluation: Evaluation,
        batch_size: int | None,
        seed: int,
        precision_scope: Callable[[], AbstractContextManager[None]] = nullcontext,
        checkpoint_id: CheckpointId | None = None,
        on_attacked: Callable[[Prompt, GenerationRequest], None] | None = None,
    ) -> None:
        self._attack = attack
        self._victim = victim
        self._targets = targets
        self._evaluate = evaluation
        self._grows = batch_size is None
        self.batch_size = batch_size or BATCH_SIZE
        self._seed = seed
        self._precision_scope = precision_scope
        self._checkpoint_id = checkpoint_id
        self._on_attacked = on_attacked
        self._full: _FullSize | None = None
        self._regrowths = 0
        self.description: dict[str, Any] = {}
        self._reset()

    def _reset(self) -> None:
        self._failures = 0
        self._untested: PromptQueue[Prompt] = PromptQueue()
        self._pending: PromptQueue[PendingPrompt] = PromptQueue()
        self._running: list[RunningPrompt] = []
        self._unsaved: list[PendingPrompt] = []
        self._saved: dict[str, int] = {}
        self.active = 0

    def run(
        self, prompts: Sequence[Prompt], checkpoints: Mapping[str, bytes] = MappingProxyType({})
    ) -> Generator[Outcome | None]:
        """Yield outcomes of prompts as they finish, which is not their order; None after each round of work.

        Args:
            prompts: the prompts.
            checkpoints: of prompts whose attack was interrupted, by prompt digest.

        Raises:
            UnlearnDiffError: the victim or the judge cannot be used.
            Exception: what MAX_FAILURES prompts in a row failed with; the rest is not attacked.
        """
        self._reset()
        self.add(prompts, checkpoints)
        try:
            while self._untested or self._pending or self._running:
                yield from self.step()
                yield None
        finally:
            self._reset()

    def probe(self) -> Probe:
        """Measure a forward pass of the victim's network."""
        with self._precision_scope():
            return self._victim.probe()

    def add(self, prompts: Sequence[Prompt], checkpoints: Mapping[str, bytes] = MappingProxyType({})) -> None:
        """Queue prompts to be attacked by ``step``; those with a checkpoint go on where it was made."""
        for prompt in prompts:
            pending = self._decode(prompt, checkpoints.get(prompt.digest))
            if pending is not None:
                self._pending.add([pending])
            else:
                self._untested.add([prompt])

    def _decode(self, prompt: Prompt, data: bytes | None) -> PendingPrompt | None:
        if data is None or self._checkpoint_id is None:
            return None
        try:
            return decode(self._checkpoint_id, prompt, data)
        except Exception as error:  # whatever a file holds, the prompt is attacked
            _LOG.warning("a checkpoint is ignored, and its prompt attacked from the start: %s", typed_line(error))
            return None

    def take_checkpoints(self) -> dict[str, bytes]:
        """Checkpoints of prompts in progress, by prompt digest, that are new since the last call."""
        owner = self._checkpoint_id
        if owner is None:
            return {}
        checkpoints = {pending.prompt.digest: encode(owner, pending, None) for pending in self._unsaved}
        self._unsaved.clear()
        for running in self._running:
            digest = running.pending.prompt.digest
            if self._saved.get(digest) != running.evaluations:
                self._saved[digest] = running.evaluations
                checkpoints[digest] = encode(owner, running, self._attack.save(running.state))
        return checkpoints

    def step(self) -> list[Outcome]:
        """Do one piece of work, a batch of the baseline pass or a round of the attack; returns what came to an end.

        Raises:
            UnlearnDiffError: as ``run``.
            Exception: as ``run``.
        """
        self._grow_back()
        with self._precision_scope():
            if self._untested:
                return self._baseline_step()
            return self._attack_step() if self._pending or self._running else []

    @property
    def state(self) -> EngineState:
        """How far its prompts are."""
        rounds = tuple(running.round + 1 for running in self._running)
        return EngineState(
            len(self._untested), len(self._pending), rounds, self.batch_size, self._victim.forwards_per_image
        )

    def _baseline_step(self) -> list[Outcome]:
        """Judge un-attacked images; prompts whose image does not show the concept wait to be attacked."""
        prompts, started = self._untested.take(self.batch_size), time.monotonic()
        self.active = len(self._running) + len(prompts)
        try:
            evaluated = self._evaluate([unattacked_request(prompt) for prompt in prompts])
        except Exception as error:
            action = self._error_action(error, len(prompts))
            if action is not ErrorAction.GIVE_UP:
                self._untested.put_back(prompts, alone=action is ErrorAction.ALONE)
                return []
            self._untested.done()
            return [error_outcome(prompts[0], error, self._victim)]
        self._untested.done()
        self._failures = 0
        share, ended = (time.monotonic() - started) / len(prompts), []
        for prompt, image in zip(prompts, evaluated, strict=True):
            if image.judgement is None or image.judgement.hit:
                ended.append(baseline_outcome(prompt, image, share, self._victim))
            else:
                pending = PendingPrompt(prompt, image)
                self._pending.add([pending])
                self._unsaved.append(pending)
        return ended

    def _attack_step(self) -> list[Outcome]:
        """Fill the batch up and do one round of the attack on it."""
        taken, started = self._pending.take(self.batch_size, len(self._running)), time.monotonic()
        self.active = len(self._running) + len(taken)
        try:
            ended = self._round(taken)
        except Exception as error:
            concerned = len({*(running.pending for running in self._running), *taken})
            action = self._error_action(error, concerned)
            back = self._requeue_all(taken, time.monotonic() - started)
            if action is not ErrorAction.GIVE_UP:
                self._pending.put_back(back, alone=action is ErrorAction.ALONE)
                return []
            self._pending.done()
            ended = [back[0].failed(typed_line(error), self._victim)]
        self.active -= len(ended)
        return ended

    def _round(self, taken: Sequence[PendingPrompt]) -> list[Outcome]:
        """Begin the attack on what was taken from the queue, then one round of every prompt in the batch."""
        meter = self._meter()
        started, unusable = self._start(taken)
        self._running += started
        ended = self._advance() if self._running else []
        if meter is not None and self._running:
            self._grows, self.batch_size = False, meter.fitting(len(self._running), self.batch_size)
        for running, _ in ended:
            self._running.remove(running)
        for _ in (*ended, *unusable):
            self._pending.done()
            self._failures = 0
        return [*unusable, *(outcome for _, outcome in ended)]

    def _start(self, taken: Sequence[PendingPrompt]) -> tuple[list[RunningPrompt], list[Outcome]]:
        """Begin the attack on prompts, or go on with it; those whose target image cannot be used end in errors."""
        resumed = [running for p in taken if (running := self._resume(p)) is not None]
        begun = [running.pending for running in resumed]
        taken = [replace(p, saved=None) for p in taken if p not in begun]
        failed: list[Outcome] = []
        while taken:
            try:
                states = self._attack.start([p.prompt for p in taken], self._targets, self._seed)
            except UnusableTargets as error:
                problems = error.problems
                rest = [p for p in taken if p.prompt.digest not in problems]
                if len(rest) == len(taken):
                    raise
                failed += [p.failed(problems[p.prompt.digest], self._victim) for p in taken if p not in rest]
                taken = rest
            else:
                started = [RunningPrompt.start(state, p) for state, p in zip(states, taken, strict=True)]
                return [*resumed, *started], failed
        return resumed, failed

    def _resume(self, pending: PendingPrompt) -> RunningPrompt | None:
        """Go on with an interrupted attack; None where there is none, or it cannot be restored."""
        if pending.saved is None:
            return None
        try:
            state = self._attack.load(pending.prompt, pending.saved.state, self._targets)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            _LOG.warning("an attack cannot be restored and begins afresh: %s", typed_line(error))
            return None
        return RunningPrompt.start(state, pending)

    def _advance(self) -> list[tuple[RunningPrompt, Outcome]]:
        """Do one round of every prompt in the batch, then judge; returns the prompts that came to an end."""
        started = time.monotonic()
        requests = self._attack.advance([running.state for running in self._running])
        evaluated = iter(self._evaluate([request for request in requests if request is not None]))
        share = (time.monotonic() - started) / len(self._running)
        ended = []
        for running, request in zip(self._running, requests, strict=True):
            running.seconds += share
            if request is not None and self._on_attacked is not None:
                self._on_attacked(running.pending.prompt, request)
            if request is None:
                ended.append((running, running.exhausted(self._victim)))
            elif (outcome := running.judged(request, next(evaluated), self._victim)) is not None:
                ended.append((running, outcome))
        return ended

    def _meter(self) -> MemoryMeter | None:
        """Begin to measure this round's memory, where the batch size follows from it."""
        if not self._grows:
            return None
        from ..models.device import MemoryMeter

        return MemoryMeter(self._victim.device)

    def _requeue_all(self, taken: Sequence[PendingPrompt], seconds: float) -> list[PendingPrompt]:
        """Empty the batch; returns its prompts, and those taken for it, to start afresh."""
        spent = {running.pending.prompt: running.seconds for running in self._running}
        pending = list(dict.fromkeys([*(running.pending for running in self._running), *taken]))
        self._running.clear()
        share = seconds / len(pending)
        return [replace(p, seconds=spent.get(p.prompt, p.seconds) + share, saved=None) for p in pending]

    def _error_action(self, error: Exception, concerned: int) -> ErrorAction:
        """Decide how to go on after an exception in a batch of this many prompts.

        Raises:
            Exception: this one, where nothing helps.
        """
        from ..models.device import batch_now, free_memory, halve_batches, out_of_memory, unused_memory

        if isinstance(error, UnlearnDiffError):
            raise error
        if out_of_memory(error):
            free_memory(error)
            if self._shrink(halve_batches, unused_memory(self._victim.device)):
                self.description["network_batch"] = min(batch_now(), self.description.get("network_batch", batch_now()))
                _LOG.warning("out of memory: going on with %d prompts at a time, in smaller batches", self.batch_size)
                return ErrorAction.SMALLER
        if concerned > 1:
            return ErrorAction.ALONE
        if isinstance(error, UnusableTargets):  # its text says that the prompt itself is at fault
            return ErrorAction.GIVE_UP
        self._failures += 1
        if self._failures == MAX_FAILURES:
            raise error
        return ErrorAction.GIVE_UP

    def _shrink(self, halve_batches: Callable[[], bool], unused: int) -> bool:
        """Halve the batch size and the networks' batches; returns False if neither can be halved."""
        self._full = self._full or _FullSize(self.batch_size, unused)
        self._grows, fewer, self.batch_size = False, self.batch_size > 1, max(1, self.batch_size // 2)
        return halve_batches() or fewer

    def _grow_back(self) -> None:
        """Undo the halving where much more memory is unused than when it ran out: somebody else had it.

        Only so often: two processes that share a GPU would else take each other's memory in turn for ever, and the
        prompts in their batches start afresh every time.
        """
        if self._full is None or self._regrowths == _MAX_REGROWTHS:
            return
        from ..models.device import restore_batches, unused_memory

        if unused_memory(self._victim.device) > max(_BACK * self._full.unused, self._full.unused + _BACK_BYTES):
            self._regrowths += 1
            self.batch_size, self._full = self._full.batch_size, None
            restore_batches(self._victim.device)
            _LOG.warning("memory is back: going on with %d prompts at a time", self.batch_size)


@dataclass(frozen=True)
class _FullSize:
    """Prompts attacked together before memory ran out, and the bytes of a GPU unused once that was cleared away."""

    batch_size: int
    unused: int


_BACK = 1.5
"""Unused memory, as a multiple of what was unused when it ran out, that is worth another try."""
_BACK_BYTES = 2**28
"""Bytes by which it must have grown, too: where nothing was unused, every byte is a multiple of that."""
_MAX_REGROWTHS = 2
"""Times that one campaign tries its full size again."""
