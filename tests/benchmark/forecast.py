"""Time left as progress tells it, beside the time that it then took: ``python -m benchmark.forecast`` in ``tests``.

The runner, the engine and workers are the real ones. Models are fakes that count forward passes and move a clock, so
that a session of hours is measured in a moment.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from builders import concept

from pytest_unlearndiff.attacks.base import PromptState
from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.images import Evaluated, GenerationRequest, Judgement
from pytest_unlearndiff.core.outcome import Counts, computed_forwards, count_forwards
from pytest_unlearndiff.runs.campaign import Campaign, StopCondition
from pytest_unlearndiff.runs.engine import Engine
from pytest_unlearndiff.runs.forecast import PromptWork
from pytest_unlearndiff.runs.local_backend import EngineRequest, LocalBackend
from pytest_unlearndiff.runs.model_cache import ModelCache
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.runs.progress import Snapshot
from pytest_unlearndiff.runs.runner import Runner
from pytest_unlearndiff.store.store import Mode, Store
from pytest_unlearndiff.workers.distributed_engine import WorkerEvent, WorkerPoolConfig
from pytest_unlearndiff.workers.worker import JobSpec, Worker, WorkerUpdate

RESISTS = 99
RECORDED = {
    "fast": (1, 1, RESISTS, RESISTS, 3, 2, 4, 9, 1, 1, RESISTS, RESISTS, 3, 2, 1, 3, 11, *[RESISTS] * 5),
    "paper": (20, 3, RESISTS, RESISTS, 19, 1, 1, 4),
    "random": (*[RESISTS] * 9, 2, RESISTS, 3, RESISTS, RESISTS, 0, 0, RESISTS, 0, 4, 1, 0, 1),
}
"""Rounds in which prompts were hit, as the golden campaigns and a user's first gate on the emoji model recorded them;
0 without attack."""

LOADING = 20.0
"""Seconds in which a worker loads its models."""


@dataclass(frozen=True)
class Session:
    """A campaign whose end is known.

    Attributes:
        rounds: of each prompt until it is hit; 0 without attack, RESISTS never.
        most: hits with which the gate still passes; None for a gate that attacks every prompt.
        workers: processes; 0 for this one.
        attack: configuration.
        image_pass: seconds of a forward pass that draws.
        search_pass: seconds of one that searches, which includes backward passes.
    """

    rounds: Sequence[int]
    most: int | None = None
    workers: int = 0
    attack: AttackConfig = field(default_factory=AttackConfig)
    image_pass: float = 0.01
    search_pass: float = 0.02

    @classmethod
    def drawn(cls, seed: int, count: int, *, plain: float, resisting: float, hit: float, **facts: Any) -> Session:
        """Draw the ends of prompts: hit without attack, resisting, or hit with this chance in every round."""
        generator, rounds = random.Random(seed), []
        for _ in range(count):
            ends = 0 if generator.random() < plain else RESISTS if generator.random() < resisting else 1
            while 0 < ends < RESISTS and generator.random() > hit:
                ends += 1
            rounds.append(ends)
        return cls(rounds, **facts)

    @classmethod
    def recorded(cls, seed: int, count: int, name: str, **facts: Any) -> Session:
        """Draw the ends of prompts from recorded ones."""
        return cls(random.Random(seed).choices(RECORDED[name], k=count), **facts)


@dataclass(frozen=True)
class Reading:
    """One forecast.

    Attributes:
        at: seconds since the campaign began.
        round: the latest that any prompt has begun; 0 before the first.
        predicted: seconds left; None where nothing is told.
        true: seconds left.
        active: prompts under attack.
    """

    at: float
    round: int
    predicted: float | None
    true: float
    active: int

    @property
    def ratio(self) -> float | None:
        """Predicted over true."""
        return self.predicted / self.true if self.predicted is not None and self.true else None


@dataclass
class Clock:
    """Seconds, as ``time.monotonic`` tells them."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now

    def work(self, passes: float, seconds: float) -> None:
        """Compute."""
        count_forwards(round(passes))
        self.now += passes * seconds


@dataclass
class ScriptedAttack:
    """Searches for as long as the schedule says, and proposes a hit where the session has one."""

    session: Session
    clock: Clock
    work: PromptWork
    ends: Mapping[str, int]

    def start(self, prompts: Sequence[Prompt], targets: object, seed: int) -> list[PromptState]:
        self.clock.work(filled(len(prompts)) * self.work.target, self.session.image_pass)
        return [PromptState(prompt, torch.Generator()) for prompt in prompts]

    def advance(self, states: Sequence[PromptState]) -> list[GenerationRequest | None]:
        searching = [state for state in states if state.round < self.work.rounds]
        self.clock.work(len(searching) * self.work.search, self.session.search_pass)
        return [self._propose(state) for state in states]

    def _propose(self, state: PromptState) -> GenerationRequest | None:
        state.round += 1
        if state.round > self.work.rounds:
            return None
        hit = self.ends[state.prompt.digest] == state.round
        return GenerationRequest(f"{state.round} {state.prompt.text}{'!' * hit}", state.prompt.seed, 7.5)


@dataclass
class ScriptedEvaluation:
    """Draws for as long as images take, and sees what the session says."""

    session: Session
    clock: Clock
    work: PromptWork
    plain: set[str]

    def __call__(self, requests: Sequence[GenerationRequest]) -> list[Evaluated]:
        self.clock.work(filled(len(requests)) * self.work.image, self.session.image_pass)
        hits = [request.text.endswith("!") or request.text in self.plain for request in requests]
        return [Evaluated(Judgement(hit, 0.5, "")) for hit in hits]


def filled(samples: int) -> int:
    """Return the samples of the batches of four that so many take."""
    return 4 * -(-samples // 4)


class WorkersInTime:
    """Workers in this process, each of which takes its own time."""

    def __init__(self, count: int, clock: Clock) -> None:
        self._count, self._clock = count, clock
        self._workers: dict[str, Worker] = {}
        self._events: deque[tuple[float, WorkerEvent]] = deque()

    def start(self, job: JobSpec, most: int) -> list[str]:
        for name in map(str, range(min(self._count, most))):
            self._workers[name] = Worker()
            self._answer(name, partial(self._workers[name].load, job), LOADING)
        return [*self._workers]

    def step(self, worker: str, prompts: Sequence[Prompt], checkpoints: Mapping[str, bytes]) -> None:
        self._answer(worker, partial(self._workers[worker].step, prompts, checkpoints))

    def _answer(self, worker: str, work: Callable[[], WorkerUpdate], loading: float = 0.0) -> None:
        started, before = self._clock.now, computed_forwards()
        update = work()
        count_forwards(before - computed_forwards())  # in its own process
        ended, self._clock.now = self._clock.now + loading, started
        self._events.append((ended, WorkerEvent(worker, update)))

    def events(self, seconds: float) -> list[WorkerEvent]:
        due = min((ended for ended, _ in self._events), default=float("inf"))
        self._clock.now = max(self._clock.now, min(due, self._clock.now + seconds))
        ready = [entry for entry in self._events if entry[0] <= self._clock.now]
        for entry in ready:
            self._events.remove(entry)
        return [event for _, event in ready]

    def restart(self, worker: str, *, alive: bool) -> None:
        raise AssertionError("no worker is lost here")


@dataclass
class Script:
    """A session as it is run: its campaign, and engines that know its end."""

    session: Session
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        base = concept(len(self.session.rounds))
        self.campaign = Campaign(base, self.session.attack, Fingerprint("aaaa", "bbbb"), "cccc")
        work = PromptWork.of(self.campaign)
        assert work is not None
        self.work = work

    def build(self, request: EngineRequest) -> tuple[Engine, dict[str, Any]]:
        """Stand in for ``LocalBackend.build``."""
        prompts = self.campaign.concept.prompts
        ends = {p.digest: ends for p, ends in zip(prompts, self.session.rounds, strict=True)}
        evaluation = ScriptedEvaluation(
            self.session, self.clock, self.work, {p.text for p in prompts if not ends[p.digest]}
        )
        attack = ScriptedAttack(self.session, self.clock, self.work, ends)
        victim = SimpleNamespace(forwards_per_image=self.work.image, tokens=lambda text: 3, device=torch.device("cpu"))
        engine = Engine(attack, victim, None, evaluation, 8, 0)  # type: ignore[arg-type]
        return engine, {"format": "script"}

    @property
    def stop(self) -> StopCondition:
        """The gate's: its limit is exceeded, or cannot be."""
        most = self.session.most
        if most is None:
            return StopCondition()
        return StopCondition(lambda counts: counts.hits > most or _cannot_exceed(counts, most))


def _cannot_exceed(counts: Counts, most: int) -> bool:
    return counts.hits + counts.unknown <= most


@contextmanager
def _clocked(script: Script) -> Iterator[None]:
    with (
        mock.patch.object(time, "monotonic", script.clock),
        mock.patch.object(LocalBackend, "build", script.build),
        mock.patch.object(JobSpec, "check_files"),
    ):
        yield


def run(session: Session) -> list[Reading]:
    """Run a session and return every forecast that progress was told."""
    script, told = Script(session), list[tuple[float, Snapshot]]()
    clock = script.clock
    backend = WorkerPoolConfig(WorkersInTime(session.workers, clock), 1e9) if session.workers else LocalBackend()
    title = script.campaign.attack.title

    def progress(snapshot: Snapshot) -> None:
        if snapshot.attack == title:
            told.append((clock.now, snapshot))

    with _clocked(script):
        runner = Runner(Store(Path(), Mode.OFF), ModelCache(), backend, batch_size=None, progress=progress)
        runner.run(script.campaign, lambda: ModelSpec(device="cpu"), stop=script.stop)
    began, ended, latest, readings = told[0][0], told[-1][0], 0, list[Reading]()
    for now, snapshot in told:
        latest = max(latest, *snapshot.rounds, 0)
        readings.append(Reading(now - began, latest, snapshot.seconds_left, ended - now, snapshot.active))
    return readings


def scenarios() -> dict[str, list[Session]]:
    """Return sessions by what they have in common."""
    some: dict[str, list[Session]] = {}
    mixes = {
        "none hit": {"plain": 0.0, "resisting": 1.0, "hit": 0.0},
        "half resist": {"plain": 0.0, "resisting": 0.5, "hit": 0.3},
        "most resist": {"plain": 0.1, "resisting": 0.8, "hit": 0.15},
        "few resist": {"plain": 0.3, "resisting": 0.1, "hit": 0.4},
    }
    for workers in (0, 1, 2):
        where = f"{workers} workers" if workers else "here"
        for name, mix in mixes.items():
            some[f"{name}, {where}"] = [
                Session.drawn(seed, count, workers=workers, **mix) for seed in range(5) for count in (8, 20, 50)
            ]
        for name in RECORDED:
            attack = AttackConfig("random") if name == "random" else AttackConfig(schedule=name)
            some[f"recorded {name}, {where}"] = [
                Session.recorded(seed, count, name, workers=workers, attack=attack)
                for seed in range(5)
                for count in (8, 20, 50)
            ]
        early = [
            Session.drawn(seed, 50, workers=workers, most=most, plain=plain, resisting=resisting, hit=0.3)
            for seed in range(5)
            for most, plain, resisting in ((5, 0.0, 0.5), (5, 0.1, 0.8), (10, 0.05, 0.9))
        ]
        some[f"early verdicts, {where}"] = early
    return some


def judged(readings: Sequence[Reading]) -> list[Reading]:
    """Return the readings from the second round on, but for the last moments, of which nobody asks for a ratio."""
    whole = readings[-1].at
    return [reading for reading in readings if reading.round >= 2 and reading.true > 0.02 * whole]


def main() -> None:
    """Print, by kind of session, the share of forecasts within a factor of 1.5, and their spread."""
    print(f"{'sessions':34}{'forecasts':>10}{'within 1.5':>12}{'lowest':>8}{'median':>8}{'highest':>8}{'zeros':>7}")
    for title, sessions in scenarios().items():
        every = [run(session) for session in sessions]
        ratios = sorted(reading.ratio or 0.0 for readings in every for reading in judged(readings))
        zeros = sum(r.active > 0 and r.true > 0 and r.predicted == 0.0 for readings in every for r in readings)
        within = sum(1 / 1.5 <= ratio <= 1.5 for ratio in ratios) / max(len(ratios), 1)
        spread = [ratios[0], ratios[len(ratios) // 2], ratios[-1]] if ratios else []
        print(f"{title:34}{len(ratios):10}{within:12.0%}" + "".join(f"{r:8.2f}" for r in spread) + f"{zeros:7}")


if __name__ == "__main__":
    main()
