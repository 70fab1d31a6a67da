"""Workers have the engine's interface; they may be lost, refuse, fall silent, and change no outcome."""

from __future__ import annotations

import pickle
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from builders import concept, prompts

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.errors import AttackUnavailable, ModelError, UnlearnDiffError
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.runs.begun import Begun
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.model_cache import Fingerprint, ModelSpec
from pytest_unlearndiff.workers import distributed_engine as workers_module
from pytest_unlearndiff.workers.distributed_engine import MAX_LOSSES, REPORT, WorkerEvent, WorkerPoolConfig, Workers
from pytest_unlearndiff.workers.worker import POLL_SECONDS, JobSpec, Report, Worker

PROMPTS = prompts(11)
CAMPAIGN = Campaign(concept(11), AttackConfig(), Fingerprint("victim:float32", "base:float32"), "judge")

Trouble = Callable[[int, Sequence[Prompt]], None]


def outcome_of(prompt: Prompt) -> Outcome:
    return Outcome(
        prompt.digest, Status.HIT_UNDER_ATTACK if prompt.seed % 3 == 0 else Status.RESISTED, seed=prompt.seed
    )


class Script:
    """An engine whose prompts take as many rounds as their number says."""

    batch_size = 3

    def __init__(self) -> None:
        self.seats: list[list[Any]] = []

    def serve(self, arrived: Callable[[], Sequence[Prompt | Begun]]) -> Any:
        while True:
            for each in arrived():
                went = pickle.loads(each.packed) if isinstance(each, Begun) else [each, each.case % 4]
                self.seats.append(went)
            for seat in list(self.seats):
                seat[1] -= 1
                if seat[1] <= 0:
                    self.seats.remove(seat)
                    yield outcome_of(seat[0])
            yield None

    def give_back(self) -> list[Begun]:
        """All but those whose number is 5, as if that could not be packed."""
        leaving = [seat for seat in self.seats if seat[0].case != 5]
        self.seats = [seat for seat in self.seats if seat not in leaving]
        return [Begun(prompt, -left, pickle.dumps([prompt, left])) for prompt, left in leaving]


class Here:
    """A team in this process: real benches, whose reports and orders are pickled as if they travelled.

    Args:
        count: places for workers.
        trouble: told of every turn's worker and of all prompts in its hands; raises what should go wrong.
    """

    def __init__(self, count: int, trouble: Trouble = lambda worker, held: None) -> None:
        self.count, self.trouble = count, trouble
        self.benches: dict[str, Worker] = {}
        self.held: dict[str, list[Prompt]] = {}
        self.said: deque[WorkerEvent] = deque()
        self.mute: set[str] = set()
        self.replaced: list[str] = []
        self.hired = 0
        self.moved = 0
        self.sent: list[tuple[str, dict[Path, str]]] = []

    def gather(self, order: JobSpec, most: int) -> int:
        self.order = pickle.dumps(order)
        for _ in range(min(self.count, most)):
            self._hire()
        return min(self.count, most)

    def _hire(self) -> None:
        worker = str(self.hired)
        self.hired += 1
        self.benches[worker], self.held[worker] = Worker(), []
        self.said.append(WorkerEvent(worker))

    def open(self, worker: str) -> None:
        self._say(worker, lambda: self.benches[worker].open(pickle.loads(self.order)))

    def send(self, worker: str, files: Mapping[Path, str]) -> None:
        self.sent.append((worker, dict(files)))
        for path, digest in files.items():
            self.benches[worker].arrived(path, digest, path)
        self.said.append(WorkerEvent(worker))

    def turn(self, worker: str, taken: Sequence[Prompt | Begun], patience: float, *, brief: bool) -> None:
        assert patience == (self.count * REPORT if brief else POLL_SECONDS)
        self.held[worker] += [each.prompt if isinstance(each, Begun) else each for each in taken]
        self.moved += sum(isinstance(each, Begun) for each in taken)

        def turn() -> Report:
            self.trouble(int(worker), self.held[worker])
            report = self.benches[worker].turn(taken, patience=0.0, brief=brief)
            ended = {outcome.prompt for outcome in report.outcomes} | {each.prompt.digest for each in report.begun}
            self.held[worker] = [prompt for prompt in self.held[worker] if prompt.digest not in ended]
            return report

        self._say(worker, turn)

    def _say(self, worker: str, work: Callable[[], Report]) -> None:
        try:
            self.said.append(WorkerEvent(worker, pickle.loads(pickle.dumps(work()))))
        except Hangs:
            pass
        except Exception as error:
            self.said.append(WorkerEvent(worker, error=error))

    def news(self, seconds: float) -> list[WorkerEvent]:
        return [self.said.popleft()] if self.said else []

    def replace(self, worker: str, *, lives: bool) -> None:
        del self.benches[worker]
        self.replaced.append(worker)
        self._hire()

    def place(self, worker: str) -> str:
        return f"machine {worker}"


class Hangs(Exception):
    """It never answers."""


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Campaign, "engine", lambda self, *parts: (Script(), {"format": "script"}))
    monkeypatch.setattr("pytest_unlearndiff.workers.worker.check_files", lambda *orders: None)


def start(team: Here, received: Callable[[Report], None] = lambda report: None, silence: float = 1e9) -> Workers:
    return Workers(WorkerPoolConfig(team, silence), JobSpec(CAMPAIGN, ModelSpec(), batch_size=3), received)


def told(workers: Workers) -> dict[str, Outcome]:
    ended = [outcome for outcome in workers.run(PROMPTS) if outcome is not None]
    assert max(Counter(outcome.prompt for outcome in ended).values()) == 1
    assert workers.active == 0
    return {outcome.prompt: outcome for outcome in ended}


UNDISTURBED = {prompt.digest: outcome_of(prompt) for prompt in PROMPTS}


@pytest.mark.parametrize("count", [1, 2, 4, 30])
def test_outcomes_do_not_depend_on_the_number_of_workers(count: int) -> None:
    team = Here(count)
    workers = start(team)
    assert told(workers) == UNDISTURBED
    assert workers.count == team.hired == min(count, 11)
    assert workers.described == {"format": "script"}


@pytest.mark.parametrize(("count", "moves"), [(1, False), (2, True), (4, True), (11, False)])
def test_near_the_end_prompts_go_on_wherever_there_is_room(count: int, moves: bool) -> None:
    team = Here(count)
    assert told(start(team)) == UNDISTURBED
    assert bool(team.moved) is moves


def test_a_machine_that_lacks_files_is_sent_them_and_then_works() -> None:
    gone = Path("/elsewhere/esd.pt")
    team = Here(2)
    order = JobSpec(CAMPAIGN, ModelSpec(), batch_size=3, files={gone: "its digest"})
    assert told(Workers(WorkerPoolConfig(team, 1e9), order, lambda report: None)) == UNDISTURBED
    assert sorted(team.sent) == [("0", {gone: "its digest"}), ("1", {gone: "its digest"})]


def test_prompts_are_handed_out_as_workers_come_free() -> None:
    most = Counter[int]()

    def note(worker: int, held: Sequence[Prompt]) -> None:
        most[worker] = max(most[worker], len(held))

    told(start(Here(2, note)))
    assert most == {0: 3, 1: 3}


def test_there_is_a_sign_between_any_two_rounds_so_that_it_can_be_stopped() -> None:
    running = start(Here(2)).run(PROMPTS)
    signs = "".join("." if outcome is None else "o" for outcome in running)
    assert signs.startswith(".")
    assert signs.endswith(".")
    assert max(map(len, signs.split("."))) <= Script.batch_size


@pytest.mark.parametrize("turn", [0, 1, 2])
def test_a_worker_that_is_lost_changes_nothing(turn: int) -> None:
    turns = Counter[int]()

    def once(worker: int, held: Sequence[Prompt]) -> None:
        turns[worker] += 1
        if worker == 1 and turns[1] > turn:
            raise RuntimeError("its process died")

    team = Here(2, once)
    assert told(start(team)) == UNDISTURBED
    assert team.replaced == ["1"]


def test_a_prompt_that_no_worker_survives_is_an_error_and_never_resisted(caplog: pytest.LogCaptureFixture) -> None:
    poison = PROMPTS[4]

    def kill(worker: int, held: Sequence[Prompt]) -> None:
        if poison in held:
            raise RuntimeError("its process died")

    found = told(start(Here(2, kill)))
    failed = found.pop(poison.digest)
    assert failed.status is Status.ERROR
    assert failed.error is not None
    assert failed.error.startswith("3 workers were lost while they attacked this prompt; the last: RuntimeError: its ")
    assert found == {digest: outcome for digest, outcome in UNDISTURBED.items() if digest != poison.digest}
    assert "a worker on machine 0 is lost" in caplog.text


def test_where_every_worker_is_lost_it_ends_with_the_reason() -> None:
    def kill(worker: int, held: Sequence[Prompt]) -> None:
        raise RuntimeError("CUDA error: device-side assert")

    team = Here(2, kill)
    with pytest.raises(
        AttackUnavailable, match=f"{2 + MAX_LOSSES} workers were lost and none .* CUDA error: device-side"
    ):
        list(start(team).run(PROMPTS))


def test_a_worker_that_refuses_is_named_and_nothing_is_tried_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*orders: object) -> None:
        raise ModelError("esd.pt holds other weights here")

    monkeypatch.setattr("pytest_unlearndiff.workers.worker.check_files", refuse)
    team = Here(2)
    with pytest.raises(ModelError, match=r"^worker on machine 0: esd\.pt holds other weights here$"):
        list(start(team).run(PROMPTS))
    assert team.replaced == []


def test_a_worker_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def tick() -> float:
        now[0] += 1
        return now[0]

    def hang(worker: int, held: Sequence[Prompt]) -> None:
        if worker == 1:
            raise Hangs

    monkeypatch.setattr(workers_module.time, "monotonic", tick)
    team = Here(2, hang)
    assert told(start(team, silence=200.0)) == UNDISTURBED
    assert team.replaced == ["1"]


def test_what_is_heard_beside_outcomes_is_passed_on() -> None:
    reports: list[Report] = []
    told(start(Here(2), reports.append))
    assert sum(len(report.outcomes) for report in reports) == 11


def test_a_stopped_campaign_can_be_left() -> None:
    workers = start(Here(2))
    running = workers.run(PROMPTS)
    next(outcome for outcome in running if outcome is not None)
    assert workers.active
    running.close()
    assert workers.active == 0


def test_errors_travel() -> None:
    """Every error of ours may be pickled on its way from a worker."""
    kinds = UnlearnDiffError.__subclasses__()
    assert ModelError in kinds
    for kind in kinds:
        found = pickle.loads(pickle.dumps(kind("what, why and how to mend it")))
        assert (type(found), str(found)) == (kind, "what, why and how to mend it")


def test_only_prompts_that_worked_show_that_workers_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a worker that ends every prompt in an error would hide that the others are lost."""
    monkeypatch.setitem(globals(), "outcome_of", lambda prompt: Outcome(prompt.digest, Status.ERROR, error="NaN"))
    workers = start(Here(1))
    running = workers.run(PROMPTS)
    next(running)
    workers._losses = 2
    assert {outcome.status for outcome in running if outcome is not None} == {Status.ERROR}
    assert workers._losses == 2
