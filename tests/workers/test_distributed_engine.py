"""Workers have the engine's interface; they may be lost, refuse, fall silent, and change no outcome."""

from __future__ import annotations

import pickle
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from builders import concept, prompts

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.errors import AttackUnavailable, ModelError, UnlearnDiffError
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.engine_state import EngineState
from pytest_unlearndiff.runs.local_backend import LocalBackend
from pytest_unlearndiff.runs.model_spec import Fingerprint, ModelSpec
from pytest_unlearndiff.workers import distributed_engine
from pytest_unlearndiff.workers.distributed_engine import (
    MAX_LOSSES,
    DistributedEngine,
    WorkerEvent,
    WorkerPoolConfig,
)
from pytest_unlearndiff.workers.worker import JobSpec, Worker, WorkerUpdate

PROMPTS = prompts(11)
CAMPAIGN = Campaign(concept(11), AttackConfig(), Fingerprint("victim:float32", "base:float32"), "judge")

Trouble = Callable[[int, Sequence[Prompt]], None]


def outcome_of(prompt: Prompt) -> Outcome:
    hit = prompt.seed % 3 == 0
    return Outcome(prompt.digest, Status.HIT_UNDER_ATTACK if hit else Status.RESISTED, seed=prompt.seed)


UNDISTURBED = {prompt.digest: outcome_of(prompt) for prompt in PROMPTS}


class ScriptedEngine:
    """An engine whose prompts take as many rounds as their number says."""

    batch_size = 3
    state = EngineState()

    def __init__(self) -> None:
        self.running: list[list[Any]] = []

    def add(self, prompts: Sequence[Prompt], checkpoints: Mapping[str, bytes]) -> None:
        self.running += [[p, int(checkpoints.get(p.digest, p.case % 4))] for p in prompts]

    def take_checkpoints(self) -> dict[str, bytes]:
        return {prompt.digest: str(left).encode() for prompt, left in self.running}

    def step(self) -> list[Outcome]:
        for entry in self.running:
            entry[1] -= 1
        ended = [entry for entry in self.running if entry[1] <= 0]
        self.running = [entry for entry in self.running if entry[1] > 0]
        return [outcome_of(prompt) for prompt, _ in ended]


class Hangs(Exception):
    """It never answers."""


class InProcessBackend:
    """Workers in this process, whose updates and jobs are pickled as if they travelled.

    Args:
        count: places for workers.
        trouble: told of every step's worker and of all prompts in its hands; raises what should go wrong.
    """

    def __init__(self, count: int, trouble: Trouble = lambda worker, held: None) -> None:
        self.count, self.trouble = count, trouble
        self.workers: dict[str, Worker] = {}
        self.held: dict[str, list[Prompt]] = {}
        self.pending: deque[WorkerEvent] = deque()
        self.restarted: list[str] = []

    def start(self, job: JobSpec, most: int) -> list[str]:
        self.job = pickle.dumps(job)
        names = [str(number) for number in range(min(self.count, most))]
        for name in names:
            self._load(name)
        return names

    def _load(self, worker: str) -> None:
        self.workers[worker], self.held[worker] = Worker(), []
        self._answer(worker, lambda: self.workers[worker].load(pickle.loads(self.job)))

    def step(self, worker: str, prompts: Sequence[Prompt], checkpoints: Mapping[str, bytes]) -> None:
        self.held[worker] += prompts

        def step() -> WorkerUpdate:
            self.trouble(int(worker), self.held[worker])
            update = self.workers[worker].step(prompts, checkpoints)
            ended = {outcome.prompt for outcome in update.outcomes}
            self.held[worker] = [prompt for prompt in self.held[worker] if prompt.digest not in ended]
            return update

        self._answer(worker, step)

    def _answer(self, worker: str, work: Callable[[], WorkerUpdate]) -> None:
        try:
            self.pending.append(WorkerEvent(worker, pickle.loads(pickle.dumps(work()))))
        except Hangs:
            pass
        except Exception as error:
            self.pending.append(WorkerEvent(worker, error=error, alive=True))

    def events(self, seconds: float) -> list[WorkerEvent]:
        return [self.pending.popleft()] if self.pending else []

    def restart(self, worker: str, *, alive: bool) -> None:
        assert alive
        self.restarted.append(worker)
        self._load(worker)


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalBackend, "build", lambda *_: (ScriptedEngine(), {"format": "script"}))
    monkeypatch.setattr(JobSpec, "check_files", lambda *_: None)


def start(
    backend: InProcessBackend, on_update: Callable[[WorkerUpdate], None] = lambda update: None, timeout: float = 1e9
) -> DistributedEngine:
    job = JobSpec(CAMPAIGN, ModelSpec(), batch_size=3)
    return DistributedEngine(WorkerPoolConfig(backend, timeout), job, on_update)


def run(engine: DistributedEngine) -> dict[str, Outcome]:
    ended = [outcome for outcome in engine.run(PROMPTS) if outcome is not None]
    assert max(Counter(outcome.prompt for outcome in ended).values()) == 1
    assert engine.active == 0
    return {outcome.prompt: outcome for outcome in ended}


@pytest.mark.parametrize(
    ("driver", "workers", "difference"),
    [
        ({"torch": "2"}, [{"torch": "2"}], ""),
        ({"torch": "2"}, [{"torch": "3"}], "torch 3, not 2"),
        ({}, [{"torch": "3"}, {"torch": "3"}], ""),
        ({}, [{"torch": "2"}, {"torch": "3"}], "torch 3, not 2"),
        ({"ray": "1", "torch": "2"}, [{"ray": "2", "torch": "3"}], "ray 2, not 1, torch 3, not 2"),
    ],
)
def test_workers_with_other_packages_are_refused(
    monkeypatch: pytest.MonkeyPatch, driver: dict[str, str], workers: list[dict[str, str]], difference: str
) -> None:
    """The process that hands out prompts may lack what only workers need."""
    versions = iter(workers)
    monkeypatch.setattr(distributed_engine, "installed_versions", lambda: driver)
    monkeypatch.setattr("pytest_unlearndiff.workers.worker.installed_versions", lambda: next(versions))
    engine = start(InProcessBackend(len(workers)))
    if not difference:
        assert run(engine) == UNDISTURBED
        return
    with pytest.raises(AttackUnavailable, match=rf"^the worker on .+ has {difference}: install the same versions"):
        list(engine.run(PROMPTS))


def test_worker_without_a_package_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'diffusers'", name="diffusers")

    monkeypatch.setattr(LocalBackend, "build", build)
    with pytest.raises(AttackUnavailable, match=r"^worker on .+: diffusers is not installed: install the same"):
        list(start(InProcessBackend(1)).run(PROMPTS))


@pytest.mark.parametrize("count", [1, 2, 4, 30])
def test_outcomes_do_not_depend_on_the_number_of_workers(count: int) -> None:
    most = Counter[int]()
    updates: list[WorkerUpdate] = []

    def note(worker: int, held: Sequence[Prompt]) -> None:
        most[worker] = max(most[worker], len(held))

    engine = start(InProcessBackend(count, note), updates.append)
    assert run(engine) == UNDISTURBED
    assert engine.worker_count == len(most) == min(count, 11)
    assert max(most.values()) <= ScriptedEngine.batch_size
    assert engine.description == {"format": "script"}
    assert sum(len(update.outcomes) for update in updates) == 11


def test_stop_between_any_two_updates() -> None:
    engine = start(InProcessBackend(2))
    signs = "".join("." if outcome is None else "o" for outcome in engine.run(PROMPTS))
    assert signs.startswith(".")
    assert signs.endswith(".")
    assert max(map(len, signs.split("."))) <= ScriptedEngine.batch_size
    running = engine.run(PROMPTS)
    next(outcome for outcome in running if outcome is not None)
    running.close()
    assert engine.active == 0


@pytest.mark.parametrize("step", [0, 1, 2])
def test_lost_worker_changes_nothing(step: int) -> None:
    steps = Counter[int]()

    def kill(worker: int, held: Sequence[Prompt]) -> None:
        steps[worker] += 1
        if worker == 1 and steps[1] == step + 1:
            raise RuntimeError("its process died")

    backend = InProcessBackend(2, kill)
    assert run(start(backend)) == UNDISTURBED
    assert backend.restarted == ["1"]


def test_prompt_that_no_worker_survives_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    poison = PROMPTS[4]

    def kill(worker: int, held: Sequence[Prompt]) -> None:
        if poison in held:
            raise RuntimeError("its process died")

    outcomes = run(start(InProcessBackend(2, kill)))
    failed = outcomes.pop(poison.digest)
    assert failed.status is Status.ERROR
    assert failed.error is not None
    assert failed.error.startswith("3 workers were lost while they attacked this prompt; the last: RuntimeError: its ")
    assert outcomes == {digest: outcome for digest, outcome in UNDISTURBED.items() if digest != poison.digest}
    assert "is lost, its prompts are tried elsewhere" in caplog.text


def test_loss_of_every_worker_ends_the_run_with_the_reason() -> None:
    def kill(worker: int, held: Sequence[Prompt]) -> None:
        raise RuntimeError("CUDA error: device-side assert")

    with pytest.raises(
        AttackUnavailable, match=f"{2 + MAX_LOSSES} workers were lost and none .* CUDA error: device-side"
    ):
        list(start(InProcessBackend(2, kill)).run(PROMPTS))


def test_refusal_names_the_worker_and_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ModelError("esd.pt holds other weights here")

    monkeypatch.setattr(JobSpec, "check_files", refuse)
    backend = InProcessBackend(2)
    with pytest.raises(ModelError, match=r"^worker on .+: esd\.pt holds other weights here$"):
        list(start(backend).run(PROMPTS))
    assert backend.restarted == []


def test_silent_worker_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now, hung = [0.0], []

    def tick() -> float:
        now[0] += 1
        return now[0]

    def hang(worker: int, held: Sequence[Prompt]) -> None:
        if worker == 1 and not hung:
            hung.append(worker)
            raise Hangs

    monkeypatch.setattr(distributed_engine.time, "monotonic", tick)
    backend = InProcessBackend(2, hang)
    assert run(start(backend, timeout=200.0)) == UNDISTURBED
    assert backend.restarted == ["1"]


def test_errors_survive_pickling() -> None:
    kinds = UnlearnDiffError.__subclasses__()
    assert ModelError in kinds
    for kind in kinds:
        copy = pickle.loads(pickle.dumps(kind("thing, reason and remedy")))
        assert (type(copy), str(copy)) == (kind, "thing, reason and remedy")


def test_prompts_in_error_do_not_reset_the_count_of_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a worker that ends every prompt in an error would hide that the others are lost."""
    monkeypatch.setitem(globals(), "outcome_of", lambda prompt: Outcome(prompt.digest, Status.ERROR, error="NaN"))
    engine = start(InProcessBackend(1))
    running = engine.run(PROMPTS)
    next(running)
    engine._losses = 2
    assert {outcome.status for outcome in running if outcome is not None} == {Status.ERROR}
    assert engine._losses == 2
