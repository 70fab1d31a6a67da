"""Which worker attacks which prompt, also where workers are lost."""

from __future__ import annotations

from collections import Counter
from random import Random

from builders import prompts
from hypothesis import given
from hypothesis import strategies as st

from pytest_unlearndiff.core.concept import Prompt
from pytest_unlearndiff.core.outcome import Outcome, Status
from pytest_unlearndiff.workers.scheduler import MAX_TRIES, Scheduler


def test_prompts_are_taken_in_order() -> None:
    scheduler, every = Scheduler(prompts(20), workers=2), list(prompts(20))
    assert scheduler.take("a", 2) == every[:2]
    assert scheduler.take("a", 2) == []
    assert scheduler.take("b", 2) == every[2:4]
    scheduler.done("a", every[1].digest)
    assert scheduler.take("a", 2) == [every[4]]
    assert scheduler.held == 4
    assert scheduler.holds("b")
    assert not scheduler.holds("c")


def test_worker_with_less_memory_gets_nothing_more() -> None:
    scheduler = Scheduler(prompts(9))
    scheduler.take("a", 4)
    scheduler.done("a", prompts(9)[0].digest)
    assert scheduler.take("a", 2) == []


def test_even_shares_where_little_is_left() -> None:
    scheduler = Scheduler(prompts(9), workers=4)
    assert [len(scheduler.take(worker, 8)) for worker in "abcd"] == [3, 2, 2, 2]
    scheduler = Scheduler(prompts(3), workers=5)
    assert [len(scheduler.take(worker, 8)) for worker in "abcde"] == [1, 1, 1, 0, 0]
    scheduler = Scheduler(prompts(20), workers=2)
    scheduler.take("a", 8)
    for prompt in scheduler.take("b", 8):
        scheduler.done("b", prompt.digest)
    assert scheduler.take("a", 10) == [], "it has 8 of the 12 that are left"
    assert len(scheduler.take("b", 10)) == 4


def test_prompts_of_a_lost_worker_come_first_and_in_order() -> None:
    scheduler = Scheduler(prompts(6))
    scheduler.take("a", 3)
    assert scheduler.lost("a", "gone") == []
    assert scheduler.take("b", 4) == list(prompts(6))[:4]


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 6), st.floats(0, 0.9), st.integers(0, 2**32))
def test_every_prompt_ends_once(count: int, workers: int, batch_size: int, chance: float, seed: int) -> None:
    """Attacked, or in an error after MAX_TRIES lost workers; on its last try a prompt has its worker to itself."""
    random, scheduler = Random(seed), Scheduler(prompts(count), workers)
    held: dict[str, list[Prompt]] = {f"worker {n}": [] for n in range(workers)}
    ends, losses = Counter[str](), Counter[str]()
    errors: list[Outcome] = []
    while scheduler:
        worker = random.choice(list(held))
        held[worker] += scheduler.take(worker, batch_size)
        digests = [prompt.digest for prompt in held[worker]]
        assert len(digests) <= batch_size
        everything = [prompt.digest for batch in held.values() for prompt in batch]
        assert len(everything) == len(set(everything)) == scheduler.held
        if any(losses[digest] == MAX_TRIES - 1 for digest in digests):
            assert len(digests) == 1
        if digests and random.random() < chance:
            losses.update(digests)
            failed = scheduler.lost(worker, "segmentation fault")
            assert {outcome.prompt for outcome in failed} == {d for d in digests if losses[d] == MAX_TRIES}
            ends.update(outcome.prompt for outcome in failed)
            errors += failed
            held[worker] = []
        elif digests:
            digest = held[worker].pop(random.randrange(len(digests))).digest
            scheduler.done(worker, digest)
            ends[digest] += 1
    assert ends == Counter(prompt.digest for prompt in prompts(count))
    assert {outcome.status for outcome in errors} <= {Status.ERROR}
    reason = "3 workers were lost while they attacked this prompt; the last: segmentation fault"
    assert {outcome.error for outcome in errors} <= {reason}
