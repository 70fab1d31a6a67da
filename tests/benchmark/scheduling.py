"""How well prompts are handed out to many workers, by discrete-event simulation of the product's own hand-out rule.

Durations are made up as a search has them, or those of a journal. A worker attacks as many prompts as it has lanes, in
turns, and each of its reports costs the driver time, during which the others wait; --ray measures that time.

    python -m tests.benchmark.scheduling                      # 1 to 1,000 workers
    python -m tests.benchmark.scheduling --ray                # two real workers, against the simulation of the same
    python -m tests.benchmark.scheduling --journal JOURNAL    # durations as they were recorded
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_unlearndiff.campaign.handout import Handout
from pytest_unlearndiff.core.concept import Prompt

PATIENCE = 5.0
ROUNDS, ROUND, PICTURE = 10, 15.0, 5.0
"""Of the synthetic durations: rounds of the search, and seconds of a round and of the picture before it."""

DRIVER = 0.002
"""Seconds of the driver a report; see what --ray prints."""


@dataclass(frozen=True)
class Run:
    """What a simulated campaign came to.

    Attributes:
        seconds: from its start to its last outcome.
        busy: lane-seconds of attacking.
        driver: seconds in which the driver did anything.
        bytes: the process's peak memory so far, the simulation's own included.
    """

    seconds: float
    busy: float
    driver: float
    bytes: int


def simulate(durations: Sequence[float], workers: int, lanes: int, cost: float = DRIVER) -> Run:
    """Attack prompts of these durations, each in a lane.

    Args:
        durations: seconds that each prompt takes.
        workers: how many.
        lanes: of each.
        cost: seconds of the driver a report.
    """
    prompts = [Prompt(f"prompt {n}", n, 7.5, n) for n in range(len(durations))]
    takes = {prompt.digest: seconds for prompt, seconds in zip(prompts, durations, strict=True)}
    handout, ends = Handout(prompts), [dict[str, float]() for _ in range(workers)]
    reports = [(0.0, worker) for worker in range(workers)]
    free, driver, last = 0.0, 0.0, 0.0
    while reports:
        said, worker = heapq.heappop(reports)
        now = max(said, free)
        free, driver = now + cost, driver + cost
        waited = free - said
        held = ends[worker]
        for digest in [digest for digest, end in held.items() if end <= said]:
            handout.done(str(worker), digest)
            last = max(last, held.pop(digest))
        # Between two turns a worker does nothing, so what it has in hand ends that much later.
        for digest in held:
            held[digest] += waited
        held |= {prompt.digest: free + takes[prompt.digest] for prompt in handout.take(str(worker), lanes)}
        if held:
            heapq.heappush(reports, (min(min(held.values()), free + PATIENCE), worker))
    assert not handout
    return Run(last, sum(durations), driver, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def drawn(count: int) -> list[float]:
    """Durations as a search of ROUNDS rounds has them, in seconds: nobody takes longer than one that resists.

    The shares are an assumption: a tenth is drawn without attack, four tenths break in any of the rounds, half resist.
    """
    dice = random.Random(0)
    rounds = [dice.choices([0, dice.randint(1, ROUNDS), ROUNDS], [0.1, 0.4, 0.5])[0] for _ in range(count)]
    return [PICTURE + ROUND * number for number in rounds]


def recorded(journal: Path, count: int) -> list[float]:
    """Durations from a journal, repeated until there are enough."""
    lines = [json.loads(line)["outcome"]["seconds"] for line in journal.read_text().splitlines() if line.endswith("}")]
    return random.Random(0).choices([seconds for seconds in lines if seconds > 0], k=count)


def efficiency(run: Run, workers: int, lanes: int) -> float:
    """Attacking, as a share of what all lanes could have done in the time."""
    return run.busy / (run.seconds * workers * lanes)


def calibrate(workers: int = 2, count: int = 200, seconds: float = 0.02) -> None:
    """Hand out prompts that only sleep to real Ray actors, and print what a report costs."""
    import ray

    class Sleeper:
        def turn(self, count: int, seconds: float) -> int:
            time.sleep(count * seconds)
            return count

    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    actors = [ray.remote(Sleeper).options(num_cpus=1).remote() for _ in range(workers)]
    ray.get([actor.turn.remote(0, 0.0) for actor in actors])
    handout = Handout(Prompt(f"prompt {n}", n, 7.5, n) for n in range(count))
    held = {worker: handout.take(str(worker), 1) for worker in range(workers)}
    asked = {actors[worker].turn.remote(1, seconds): worker for worker in held}
    started = time.perf_counter()
    spent = 0.0
    while asked:
        [ref], _ = ray.wait(list(asked), num_returns=1)
        begun = time.perf_counter()
        worker = asked.pop(ref)
        ray.get(ref)
        handout.done(str(worker), held[worker][0].digest)
        held[worker] = handout.take(str(worker), 1)
        if held[worker]:
            asked[actors[worker].turn.remote(1, seconds)] = worker
        spent += time.perf_counter() - begun
    took = time.perf_counter() - started
    ray.shutdown()
    model = simulate([seconds] * count, workers, 1, spent / count)
    print(f"real Ray, {workers} workers, {count} prompts of {seconds} s: {took:.2f} s, {spent / count:.5f} s a report")
    print(f"simulated with that cost: {model.seconds:.2f} s")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ray", action="store_true", help="measure what a report costs on real Ray")
    parser.add_argument("--journal", type=Path, help="a campaign's journal.jsonl, for its durations")
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--lanes", type=int, default=1)
    parser.add_argument("--cost", type=float, default=DRIVER, help="seconds of the driver a report")
    asked = parser.parse_args()
    if asked.ray:
        calibrate()
        return
    print("| workers | prompts | prompts a worker | efficiency | driver busy | driver memory |")
    print("|---:|---:|---:|---:|---:|---:|")
    for workers in (1, 2, 4, 10, 100, 1000):
        for count in sorted({10 * workers, 100 * workers, asked.prompts}):
            if not 10 * workers <= count <= asked.prompts:
                continue
            durations = recorded(asked.journal, count) if asked.journal else drawn(count)
            run = simulate(durations, workers, asked.lanes, asked.cost)
            print(
                f"| {workers} | {count} | {count / workers:g} | {efficiency(run, workers, asked.lanes):.1%} | "
                f"{run.driver / run.seconds:.1%} | {run.bytes / 2**20:.0f} MiB |"
            )


if __name__ == "__main__":
    main()
