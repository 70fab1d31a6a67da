"""How well prompts are handed out to many workers, by discrete-event simulation of the product's own hand-out rule.

Durations were recorded (durations.json says where), or are those of a journal. A worker attacks as many prompts as it
has lanes, in turns, and each of its reports costs the driver time, during which the others wait; --ray measures it.

Nobody knows how long a prompt takes before it is attacked. While each stays where it was begun, workers that are done
wait at the end for the last ones; so near the end they are attacked a round at a time, wherever there is room. The
column "staying" is what there would be without that, and "foreseen" what knowing every duration would give.

    python -m tests.benchmark.scheduling                      # 1 to 1,000 workers
    python -m tests.benchmark.scheduling --ray                # two real workers, against the simulation of the same
    python -m tests.benchmark.scheduling --driver             # memory of the driver, and its journal's rate
    python -m tests.benchmark.scheduling --journal JOURNAL    # durations of a campaign
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import resource
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from pytest_unlearndiff.core.attack_config import AttackConfig
from pytest_unlearndiff.core.concept import Concept, JudgeConfig, Prompt
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.runs.begun import Begun
from pytest_unlearndiff.runs.campaign import Campaign
from pytest_unlearndiff.runs.model_cache import Fingerprint, ModelSpec
from pytest_unlearndiff.store.journal import Journal
from pytest_unlearndiff.workers.distributed_engine import REPORT, WorkerEvent, WorkerPoolConfig, Workers
from pytest_unlearndiff.workers.scheduler import Scheduler
from pytest_unlearndiff.workers.worker import POLL_SECONDS, JobSpec, Report

DURATIONS = Path(__file__).with_name("durations.json")

ROUNDS = 12
"""Rounds of the default attack on a prompt that resists, of which the durations are."""

LANE = 340_000
"""Bytes of a packed prompt of the fast search at Stable Diffusion 1.4's size: five latents of 64 KiB."""


@dataclass(frozen=True)
class Run:
    """What a simulated campaign came to.

    Attributes:
        seconds: from its start to its last outcome.
        busy: lane-seconds of attacking.
        driver: seconds in which the driver did anything.
    """

    seconds: float
    busy: float
    driver: float


def simulate(
    durations: Sequence[float], workers: int, batch_size: int, cost: float = REPORT, *, staying: bool = False
) -> Run:
    """Attack prompts of these durations, each in a lane.

    Args:
        durations: seconds that each prompt takes.
        workers: how many.
        batch_size: prompts of each worker.
        cost: seconds of the driver a report.
        staying: whether every prompt stays where it was begun.
    """
    prompts = {prompt.digest: prompt for prompt in (Prompt(f"prompt {n}", n, 7.5, n) for n in range(len(durations)))}
    left, a_round = dict(zip(prompts, durations, strict=True)), max(durations) / ROUNDS
    handout, held = Scheduler(prompts.values(), workers), {f"{n}": set[str]() for n in range(workers)}
    reports, idle = [(0.0, worker, 0.0, False) for worker in held], list[str]()
    free, driver, last = 0.0, 0.0, 0.0
    while reports:
        said, who, worked, brief = heapq.heappop(reports)
        free, driver = max(said, free) + cost, driver + cost
        for digest in held[who]:
            left[digest] -= worked
        for digest in [digest for digest in held[who] if left[digest] < 1e-9]:
            handout.done(who, digest)
            held[who].remove(digest)
            last = said
        if brief:
            handout.give_back(who, [Begun(prompts[d], -round(left[d] / a_round), b"") for d in sorted(held[who])])
            held[who].clear()
        waiting, idle = [*idle, who], []
        for worker in waiting:
            taken = handout.take(worker, batch_size)
            held[worker] |= {prompt_of(each).digest for each in taken}
            if not held[worker]:
                idle.append(worker)
                continue
            brief = not staying and handout.brief(worker)
            longest = max(1, ceil(workers * REPORT / a_round)) * a_round if brief else POLL_SECONDS
            turn = min(longest, *(left[digest] for digest in held[worker]))
            heapq.heappush(reports, (free + turn, worker, turn, brief))
    assert not handout
    return Run(last, sum(durations), driver)


def prompt_of(handed: Prompt | Begun) -> Prompt:
    """What was handed out, begun or not."""
    return handed.prompt if isinstance(handed, Begun) else handed


def recorded(count: int, seed: int = 0, journal: Path | None = None) -> list[float]:
    """Durations of real prompts, drawn from durations.json or a journal until there are enough."""
    if journal is None:
        found = [seconds for each in json.loads(DURATIONS.read_text())["seconds"].values() for seconds in each]
    else:
        lines = [line for line in journal.read_text().splitlines() if line.endswith("}")]
        found = [json.loads(line)["outcome"]["seconds"] for line in lines]
    return random.Random(seed).choices([seconds for seconds in found if seconds > 0], k=count)


def foreseen(durations: Sequence[float], workers: int) -> float:
    """The efficiency of somebody who knows every duration beforehand and hands out the longest first.

    Graham 1969: such an order takes at most 4/3 of the shortest time; with many prompts a worker far less.
    """
    ends = [0.0] * workers
    for seconds in sorted(durations, reverse=True):
        heapq.heapreplace(ends, ends[0] + seconds)
    return sum(durations) / (workers * max(ends))


def efficiency(run: Run, workers: int, batch_size: int) -> float:
    """Attacking, as a share of what all prompts could have done in the time."""
    return run.busy / (run.seconds * workers * batch_size)


def calibrate(size: int, workers: int = 2, count: int = 200, seconds: float = 0.02) -> None:
    """Hand out prompts that only sleep to real Ray actors, and print what a report costs.

    Args:
        size: bytes that travel with a prompt, both ways, as a begun one's do.
        workers: how many.
        count: prompts.
        seconds: that each takes.
    """
    import ray

    class Sleeper:
        def turn(self, begun: Begun, seconds: float) -> Begun:
            time.sleep(seconds)
            return begun

    def handed(prompt: Prompt) -> Begun:
        return Begun(prompt, 1, bytes(size))

    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    actors = [ray.remote(Sleeper).options(num_cpus=1).remote() for _ in range(workers)]
    prompts = [Prompt(f"prompt {n}", n, 7.5, n) for n in range(count)]
    ray.get([actor.turn.remote(handed(prompts[0]), 0.0) for actor in actors])
    handout = Scheduler(prompts, workers)
    held = {worker: handout.take(str(worker), 1) for worker in range(workers)}
    asked = {actors[worker].turn.remote(handed(prompt_of(held[worker][0])), seconds): worker for worker in held}
    started = time.perf_counter()
    spent = 0.0
    while asked:
        [ref], _ = ray.wait(list(asked), num_returns=1)
        begun = time.perf_counter()
        worker = asked.pop(ref)
        ray.get(ref)
        handout.done(str(worker), prompt_of(held[worker][0]).digest)
        held[worker] = handout.take(str(worker), 1)
        if held[worker]:
            asked[actors[worker].turn.remote(handed(prompt_of(held[worker][0])), seconds)] = worker
        spent += time.perf_counter() - begun
    took = time.perf_counter() - started
    ray.shutdown()
    model = simulate([seconds] * count, workers, 1, spent / count)
    print(f"real Ray, {workers} workers, {count} prompts of {seconds} s and {size:,} bytes: {took:.2f} s")
    print(f"a report: {spent / count:.5f} s")
    print(f"simulated with that cost: {model.seconds:.2f} s")


class Instant:
    """A team whose workers are done with whatever they are handed before they are asked."""

    def __init__(self, workers: int) -> None:
        self._workers, self._news = workers, deque[WorkerEvent]()

    def gather(self, order: JobSpec, most: int) -> int:
        self._news.extend(WorkerEvent(str(worker)) for worker in range(self._workers))
        return self._workers

    def open(self, worker: str) -> None:
        self._news.append(WorkerEvent(worker, Report(1)))

    def turn(self, worker: str, prompts: Sequence[Prompt | Begun], patience: float, *, brief: bool) -> None:
        fresh = [prompt for prompt in prompts if isinstance(prompt, Prompt)]
        ended = [Outcome(prompt.digest, Status.RESISTED, seed=prompt.seed) for prompt in fresh]
        self._news.append(WorkerEvent(worker, Report(1, ended)))

    def news(self, seconds: float) -> list[WorkerEvent]:
        return [self._news.popleft()]

    def send(self, worker: str, files: Mapping[Path, str]) -> None:
        raise AssertionError("these workers lack no files and never die")

    def replace(self, worker: str, *, lives: bool) -> None:
        raise AssertionError("these workers lack no files and never die")

    def place(self, worker: str) -> str:
        return ""


def drive(workers: int, count: int, folder: Path) -> None:
    """Hand prompts to workers that take no time, keep their outcomes, and print what that costs this process."""
    prompts = [Prompt(f"prompt {n}", n, 7.5, n) for n in range(count)]
    judge = JudgeConfig("nudenet")
    campaign = Campaign(Concept("none", tuple(prompts), judge), AttackConfig(), Fingerprint("", ""), "")
    order = JobSpec(campaign, ModelSpec(), batch_size=1)
    driven = Workers(WorkerPoolConfig(Instant(workers), 1e9), order, lambda report: None)
    done, memory, started = 0, dict[int, float](), time.process_time()
    for outcome in driven.run(prompts):
        done += outcome is not None
        if outcome is not None and done in (count // 10, count // 2, count):
            memory[done] = resident()
    took = time.process_time() - started
    print(f"{workers} workers, {count} prompts: {took / count * 1e6:.0f} CPU microseconds of the driver a prompt")
    print("driver memory: " + ", ".join(f"{mib:.0f} MiB after {n} prompts" for n, mib in memory.items()))
    journal, kept = Journal(folder / "journal.jsonl", campaign.key.digest), 2000
    started = time.perf_counter()
    for prompt in prompts[:kept]:
        journal.append(Outcome(prompt.digest, Status.RESISTED, seed=prompt.seed))
    print(f"journal: {kept / (time.perf_counter() - started):.0f} outcomes a second, each on disk before the next")


def resident() -> float:
    """Memory of this process now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ray", action="store_true", help="measure what a report costs on real Ray")
    parser.add_argument("--driver", action="store_true", help="measure the driver's memory and its journal")
    parser.add_argument("--journal", type=Path, help="a campaign's journal.jsonl, for its durations")
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--times", type=float, default=1.0, help="every prompt takes so many times what was recorded")
    parser.add_argument("--cost", type=float, default=REPORT, help="seconds of the driver a report")
    asked = parser.parse_args()
    if asked.ray:
        for size in (0, LANE):
            calibrate(size)
        return
    if asked.driver:
        with TemporaryDirectory() as folder:
            drive(1000, asked.prompts, Path(folder))
        return
    head = ("workers", "prompts", "prompts a worker", "efficiency", "staying", "foreseen", "driver busy")
    print(f"| {' | '.join(head)} | journal writes a second |")
    print("|---:" * (len(head) + 1) + "|")
    for workers in (1, 2, 4, 10, 100, 1000):
        for count in sorted({10 * workers, 20 * workers, 50 * workers, 100 * workers, asked.prompts}):
            if not 10 * workers <= count <= asked.prompts:
                continue
            print(row(workers, count, asked))


def row(workers: int, count: int, asked: argparse.Namespace) -> str:
    """A line of the table, the mean of as many draws as a few seconds allow."""
    draws = [
        [asked.times * s for s in recorded(count, seed, asked.journal)]
        for seed in range(max(1, min(20, 20_000 // count)))
    ]
    runs = [simulate(durations, workers, asked.batch_size, asked.cost) for durations in draws]
    stayed = [simulate(durations, workers, asked.batch_size, asked.cost, staying=True) for durations in draws]
    reached, staying = (fmean(efficiency(run, workers, asked.batch_size) for run in each) for each in (runs, stayed))
    best = fmean(foreseen(durations, workers * asked.batch_size) for durations in draws)
    busy = fmean(run.driver / run.seconds for run in runs)
    writes = fmean(count / run.seconds for run in runs)
    cells = (
        str(workers),
        str(count),
        f"{count / workers:g}",
        *(f"{each:.1%}" for each in (reached, staying, best, busy)),
    )
    return f"| {' | '.join(cells)} | {writes:.1f} |"


if __name__ == "__main__":
    main()
